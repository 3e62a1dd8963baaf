"""``export kubernetes``: a run as manifests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import PassthroughCommand
from runctl.cli.framework.completion import types_of
from runctl.cli.framework.options import with_options
from runctl.cli.framework.values import COUNT
from runctl.cli.machines.capacity_options import GpuNeed, capacity_options
from runctl.cli.train.help import SECTIONS as TRAIN_SECTIONS
from runctl.cli.train.run_options import RunOptions, run_options
from runctl.core.errors import UsageError
from runctl.core.machine_models import Market
from runctl.machines.nodes import Engine
from runctl.providers.capacity import Needs
from runctl.providers.registry import DEFAULT

if TYPE_CHECKING:
    from runctl.export.kubernetes.exporting import KubernetesExport
    from runctl.export.kubernetes.image import ImageReference

NOT_CARRIED: Mapping[str, str] = {
    "--no-docker": "a cluster runs images",
    "--compose": "a pod has one container for the script; kompose converts Compose files",
    "--docker-arg": "there is no docker; write it into the manifest",
    "--contract": "no agent makes its folders",
    "--build-on": "the image is built here and pushed",
    "--sync-code": "the project is not sent: the image must have it",
    "--dev-mode": "the project is not sent: the image must have it",
    "--include-pattern": "the project is not sent: the image must have it",
    "--checkpoint-folder": "a pod does not see the folders of a machine",
    "--checkpoint-endpoint": "pods reach the provider's own store",
    "--checkpoint-every": "no agent asks the script for checkpoints",
    "--checkpoint-signal": "no agent asks the script for checkpoints",
    "--keep-last": "no agent prunes the store",
    "--keep-best": "no agent prunes the store",
    "--resume-from": "no agent fetches it; copy the checkpoint to where the run keeps its own",
    "--progress-pattern": "no agent reads the log",
    "--retry-within": "the cluster looks for a node as long as it takes",
    "--run-name": "--name is the Job's",
    "--max-price": "node pools have the limits on prices",
    "--spot-fallback": "a pod waits for a spot node; node pools may offer both",
}
"""Options of ``train`` that mean nothing in a cluster, and why."""
_AS_IT_IS = ("--docker", "--no-ebs-auto")
"""Options that say what is so anyhow: they may be given."""
_HELP: Mapping[str, str] = {
    "--auto-resume": "Replace a pod that was evicted, or whose node was taken back or lost (default with --spot).",
    "--max-attempts": "Attempts in all, the first included (default 20 with --auto-resume, of several nodes 3); implies"
    " --auto-resume.",
    "--checkpoint-s3": "Copy checkpoints there each minute and at the end, and from there before the script starts.",
    "--ebs-mount": "Mount a volume (by its id or name) at TARGET for the script. Repeatable.",
    "--ebs-volume": "Mount a volume where train would. Repeatable.",
    "--mount-point": "Mount each --ebs-volume, in turn, here.",
    "--gpus": "GPUs for the pod (default: as many as --gpu says, or as the instance type has).",
    "--shm-size": "Shared memory, such as 8g (default: as much as the node allows).",
    "--user": "Run as this user, by number, such as 1000:1000 (default: the image's own).",
    "--workdir": "Start the script in this folder of the image (default: the image's own).",
    "--image": "Run this image, which must have the project.",
    "--command": "Run what follows -- as a command, instead of a script.",
}
"""What options of ``train`` mean here."""
_OWN = (
    *(
        "--instance-type",
        "--spot",
        "--nodes",
        "--engine",
        "--gpu",
        "--gpu-memory",
        "--cpus",
        "--memory",
        "--architecture",
    ),
)


class _Export(PassthroughCommand):
    rest_name = "ARGS"

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        for parameter in self.params:
            if isinstance(parameter, click.Option):
                option = parameter.opts[0]
                parameter.hidden = option in NOT_CARRIED or option in _AS_IT_IS
                parameter.help = _HELP.get(option, parameter.help)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuses what cannot be carried over, with the reason."""
        rest = super().parse_args(ctx, args)
        if ctx.resilient_parsing:
            return rest
        for parameter in self.params:
            if ctx.get_parameter_source(parameter.name or "") is not click.core.ParameterSource.COMMANDLINE:
                continue
            names = (
                parameter.secondary_opts if ctx.params.get(parameter.name or "") is False else parameter.opts
            )
            refused = next((name for name in names if name in NOT_CARRIED), None)
            if refused is not None:
                raise UsageError(
                    f"{refused} is not carried over to a cluster: {NOT_CARRIED[refused]}",
                    hint="leave it out",
                    code="not-carried-over",
                )
        return rest


def _without(sections: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    left_out = {
        *NOT_CARRIED,
        *_AS_IT_IS,
        "--wait",
        "--watch",
        "--restart-on-change",
        "--dry-run",
        "--transport",
    }
    found = {
        title: tuple(option for option in options if option not in left_out)
        for title, options in sections.items()
    }
    return {title: options for title, options in found.items() if options}


def _options(function: Any) -> Any:
    return with_options(
        function,
        (
            run_options(DEFAULT),
            *capacity_options(),
            click.option(
                "--instance-type",
                "instance_types",
                metavar="TYPE",
                multiple=True,
                shell_complete=types_of(DEFAULT),
                help="Run on nodes of this type; repeatable (default: any node that has what is asked for).",
            ),
            click.option("--spot/--on-demand", default=None, help="Run on spot nodes, or on any."),
            click.option(
                "--nodes",
                type=COUNT,
                default=1,
                metavar="N",
                help="Run on N nodes: an Indexed Job, a Service, and torchrun for a Python script.",
            ),
            click.option(
                "--engine",
                type=click.Choice([each.value for each in Engine]),
                help="What starts the script on several nodes (default: torchrun for a Python script); none only"
                " sets ranks and addresses.",
            ),
            click.option(
                "--name", metavar="NAME", help="The Job's name (default: by project, script and content)."
            ),
            click.option("--namespace", metavar="NAME", help="The namespace (default: kubectl's)."),
            click.option(
                "--service-account",
                metavar="NAME",
                help="Run as this service account, which may have a role.",
            ),
            click.option(
                "--env-secret",
                metavar="NAME",
                help="Take secret variables from this Secret (default: PROJECT-env). Their values are never"
                " written.",
            ),
            click.option(
                "--csi-driver",
                metavar="NAME",
                help="The driver that attaches volumes, where it is not the provider's usual one.",
            ),
            click.option(
                "--fstype",
                type=click.Choice(["ext4", "xfs"]),
                help="The file system on the volumes (default: ext4).",
            ),
            click.option(
                "--to",
                type=click.Path(dir_okay=False, path_type=Path),
                help="Write this file; by default to stdout.",
            ),
        ),
    )


@click.command(
    "kubernetes",
    cls=_Export,
    sections={
        "Cluster": ("--name", "--namespace", "--service-account", "--env-secret", "--to"),
        "Volumes of the cluster": ("--csi-driver", "--fstype"),
        "Nodes": _OWN,
        **_without(TRAIN_SECTIONS),
        # Hidden, and so never shown.
        "Not carried over": (*_AS_IT_IS, *(option for option in NOT_CARRIED if option != "--no-docker")),
    },
    examples=(
        (
            "runctl export kubernetes train.py --gpu A100:1 --ebs-volume datasets --to run.yaml",
            "run on a node with an A100, with a volume",
        ),
        (
            "runctl export kubernetes train.py --spot --checkpoint-s3 s3://mine/runs --to run.yaml -- --epochs 5",
            "go on from the newest checkpoint when a spot node is taken back",
        ),
        ("runctl export kubernetes train.py --nodes 4 --gpu A100:8", "torchrun on four nodes"),
    ),
    exclusive=[("--dockerfile", "--dockerfile-search")],
    needs=[("--engine", "--nodes")],
)
@click.argument("script", type=click.Path(path_type=Path), required=False)
@_options
@click.pass_obj
def kubernetes_command(
    cli: Cli,
    script: Path | None,
    *,
    run: RunOptions,
    gpu: GpuNeed | None,
    gpu_memory: int | None,
    cpus: int | None,
    memory: int | None,
    architecture: str | None,
    instance_types: tuple[str, ...],
    spot: bool | None,
    nodes: int,
    engine: str | None,
    name: str | None,
    namespace: str | None,
    service_account: str | None,
    env_secret: str | None,
    csi_driver: str | None,
    fstype: str | None,
    to: Path | None,
    rest: tuple[str, ...],
    max_price: object,  # noqa: ARG001 (refused)
    spot_fallback: object,  # noqa: ARG001 (refused)
) -> None:
    """Write a run as a Kubernetes Job, with what it needs.

    The same input gives the same bytes. The project's image is built and pushed if the registry does not have it,
    after a question that --yes answers; --image names one that exists. Secrets are referred to, never written;
    comments name what could not be carried over.
    """
    from runctl.core.files import write_atomically
    from runctl.export.kubernetes.exporting import JobRequest, KubernetesExport
    from runctl.export.kubernetes.manifest import manifest

    on_spot = cli.defaults(DEFAULT).spot if spot is None else spot
    needs = Needs(
        gpu=gpu.model if gpu else None,
        gpu_count=gpu.number if gpu else None,
        gpu_memory_gb=gpu_memory,
        cpus=cpus,
        memory_gib=memory,
        architecture=architecture,
    )
    export = KubernetesExport(
        cli.session,
        DEFAULT,
        run.request(cli, DEFAULT, script, rest, auto_resume=on_spot),
        JobRequest(
            name=name,
            namespace=namespace,
            service_account=service_account,
            secret=env_secret,
            csi_driver=csi_driver,
            fstype=fstype,
            nodes=nodes,
            engine=None if engine is None else Engine(engine),
            market=Market.SPOT if on_spot else Market.ON_DEMAND,
            needs=needs,
            instance_types=instance_types,
            build=run.build,
            max_attempts=run.max_attempts,
        ),
    )
    export.check()
    plan = export.plan(_image(cli, export))
    text = manifest(plan)
    if to is not None:
        write_atomically(to, text)
    facts = {"name": plan.name, "namespace": plan.namespace, "image": plan.image, "secrets": plan.secret_env}
    if to is not None:
        cli.emit({"file": to, **facts}, text=lambda: f"the Job {plan.name} in {to}", ids=[str(to)])
    elif cli.settings.json:
        cli.emit({"manifest": text, **facts}, text=lambda: text)
    else:
        cli.write(text)


def _image(cli: Cli, export: KubernetesExport) -> ImageReference:
    """What nodes pull; it is built and pushed first if need be, and if the user agrees."""
    from runctl.render.images import image_plan_lines

    image = export.image
    if image is None:
        return export.named_image()
    if not image.in_registry():
        build = image.build
        target = build.target.plan if build.target is not None else None
        cli.say(
            "\n".join(image_plan_lines(build.plan, build.context, build.find(pushes=False), target=target))
        )
        cli.confirm(f"build {build.plan.local} if it is not there, and push it as {build.plan.remote}?")
        build.build_and_push()
    return image.reference()
