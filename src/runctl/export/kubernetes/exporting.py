"""From what ``train`` would be asked to a finished Job: the facts are gathered, then everything is decided at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field, replace
from functools import cached_property
from pathlib import PurePosixPath

from runctl._dataclasses import dataclass
from runctl.agent.spec import ContainerSpec
from runctl.agent.starter import starter
from runctl.containers.image_plan import AS_CONFIGURED, BuildOptions
from runctl.containers.mounts import CONFIG, VOLUME_FLAG, MountRequest, check_targets
from runctl.core.errors import Conflict, UsageError, ZoneMismatch
from runctl.core.machine_models import Market, Volume, VolumeState
from runctl.core.masking import is_secret
from runctl.core.mount_points import usual_mount_points
from runctl.export.kubernetes.image import ImageReference, ProjectImage, check_code, named_image
from runctl.export.kubernetes.manifest import named
from runctl.export.kubernetes.plan import (
    JobPlan,
    Nodes,
    Store,
    VolumeClaim,
    check_name,
    check_reference,
    fit_for_a_name,
    parse_user,
)
from runctl.machines.nodes import Engine
from runctl.machines.session import Session
from runctl.providers.abilities.kubernetes import Kubernetes, NodeTypes
from runctl.providers.capacity import Needs
from runctl.providers.interface import require
from runctl.runs.train.project_plan import DEFAULT_GRACE, ProjectPlan, TrainRequest, plan_project

ATTEMPTS_OF_SEVERAL = 3
"""In all, where nobody says how many: of several nodes a script's own failure counts, too."""
PUBLISHED_EVERY = 60
USUAL_FSTYPE = "ext4"
_HARMLESS = re.compile(r"[0-9.eE+-]*|true|false", re.IGNORECASE)
_GONE = {VolumeState.DELETING, VolumeState.DELETED, VolumeState.ERROR}


@dataclass(frozen=True)
class JobRequest:
    """What is asked for besides what ``train`` takes."""

    name: str | None = None
    """``None``: by project, script and content."""
    namespace: str | None = None
    service_account: str | None = None
    csi_driver: str | None = None
    """``None``: the provider's usual one."""
    fstype: str | None = None
    """Of the volumes; ``None``: ext4."""
    secret: str | None = None
    """The Secret that has secret variables; ``None``: by the project's name."""
    nodes: int = 1
    engine: Engine | None = None
    """``None``: torchrun for a Python script."""
    market: Market = Market.ON_DEMAND
    needs: Needs = field(default_factory=Needs)
    instance_types: tuple[str, ...] = ()
    build: BuildOptions = AS_CONFIGURED
    max_attempts: int | None = None


@dataclass
class KubernetesExport:
    """One run on its way into a cluster. Creates and changes nothing, but for `ProjectImage.build` when it is asked."""

    session: Session
    provider: str
    train: TrainRequest
    job: JobRequest

    @cached_property
    def project(self) -> ProjectPlan:
        """What this disk says. Raises what `plan_project` raises."""
        return plan_project(self.train)

    @cached_property
    def container(self) -> ContainerSpec:
        """What the project's container is to be like. Raises `UsageError` for a run on the host."""
        container = self.project.container
        if container is None:
            raise UsageError(
                f"a cluster runs images, and this run has none ({self.project.container_reason})",
                hint="add a Dockerfile, or name an image that has the project: --image NAME@sha256:…",
                code="no-container",
            )
        return container

    @cached_property
    def cluster(self) -> Kubernetes:
        """The provider's ability. Raises `Unsupported`."""
        return require(self.session.provider(self.provider).kubernetes)

    @cached_property
    def image(self) -> ProjectImage | None:
        """The image to be built; ``None``: one is named."""
        container = self.container
        if container.dockerfile is None:
            return None
        types = self.job.instance_types
        return ProjectImage(
            self.session,
            self.provider,
            self.project.root.path,
            container,
            self.job.build,
            self.job.needs.architecture,
            types[0] if types else None,
        )

    @cached_property
    def volumes(self) -> tuple[VolumeClaim, ...]:
        """As the provider knows them now. Raises `NotFound`, `Conflict`, `ZoneMismatch`, `UsageError`."""
        asked = [
            request
            for request in self.project.mount_requests
            if not (request.is_path and request.origin == CONFIG)
        ]
        for request in asked:
            if request.is_path:
                raise UsageError(
                    f"--ebs-mount {request.text}: a pod does not see the folders of a machine",
                    hint="name a volume in place of the path",
                    code="bad-mount",
                )
        if not asked:
            return ()
        if self.job.nodes > 1:
            raise UsageError(
                f"--nodes {self.job.nodes}: a volume cannot be on several nodes",
                hint="keep checkpoints in a store (--checkpoint-s3), and data in one or in the image",
                code="volume-of-several",
            )
        volumes = require(self.session.provider(self.provider).volumes)
        found = [(request, volumes.find(request.source)) for request in asked]
        placed = [(_placed(request, volume), volume) for request, volume in found]
        script = None if self.project.is_command else self.project.script
        check_targets([request for request, _ in placed], self.container.workdir, script)
        for _, volume in placed:
            self._check_volume(volume, placed[0][1])
        return tuple(
            VolumeClaim(
                str(volume.id),
                volume.name,
                volume.size_gib,
                volume.zone,
                request.target,
                request.read_only,
                self.job.csi_driver or self.cluster.volume_driver,
                self.job.fstype or USUAL_FSTYPE,
            )
            for request, volume in placed
        )

    def _check_volume(self, volume: Volume, first: Volume) -> None:
        if volume.state in _GONE:
            raise Conflict(
                f"{volume.id} is {volume.state.value}", hint="name another volume", code="bad-volume"
            )
        if volume.zone != first.zone:
            raise ZoneMismatch(
                str(volume.id),
                volume.zone,
                first.zone,
                hint=f"move one of them: a pod is in one zone ({first.zone})",
            )
        if volume.attached_to is not None:
            self.session.progress.warn(
                f"{volume.id} is on {volume.attached_to}: the pod waits until it is detached there"
            )

    @cached_property
    def nodes(self) -> Nodes:
        """On what it runs. Raises `NotFound`, `UsageError`."""
        job, needs = self.job, self.job.needs
        wants = needs.wants_gpu
        if job.instance_types and wants:
            raise UsageError(
                f"{job.instance_types[0]} is named, and GPUs are asked for as well",
                hint="name instance types, or say what the machine needs, not both",
            )
        types = NodeTypes((), 0)
        if job.instance_types:
            types = self.cluster.types_named(job.instance_types)
        elif wants:
            types = self.cluster.types_with(replace(needs, cpus=None, memory_gib=None), job.market)
        return Nodes(
            count=job.nodes,
            types=types.names,
            spot_labels=tuple(self.cluster.spot_labels) if job.market is Market.SPOT else (),
            architecture=needs.architecture,
            gpus=self._gpus(types),
            cpus=needs.cpus,
            memory_gib=needs.memory_gib,
            annotations=tuple(self.cluster.pod_annotations),
        )

    def _gpus(self, types: NodeTypes) -> int:
        asked, needs = self.container.gpus, self.job.needs
        if asked.isdigit():
            there = (needs.gpu_count or 1) if needs.wants_gpu else types.gpus
            if types.names and int(asked) > there:
                raise UsageError(
                    f"--gpus {asked}: the nodes that are asked for may have only {there}",
                    hint="ask for nodes that have as many: --gpu MODEL:N, or another --instance-type",
                )
            return int(asked)
        if asked == "none":
            return 0
        return (needs.gpu_count or 1) if needs.wants_gpu else types.gpus

    def check(self) -> None:
        """Everything that can be wrong has been found before an image is built."""
        plan = self.plan(ImageReference("none"))
        if plan.attempts > 1 and plan.saves_to is None and plan.store is None:
            self.session.progress.warn(
                "what the run saves ends with its pod, and a further attempt begins from the start: --ebs-mount or"
                " --checkpoint-s3 keeps it"
            )
        if self.image is not None:
            self.image.build.context  # noqa: B018 (it is read, and says what is wrong with it)

    def named_image(self) -> ImageReference:
        """The image that the user names; only without `image`."""
        return named_image(str(self.container.image))

    def plan(self, image: ImageReference) -> JobPlan:
        """The finished plan, with its name. Raises what the parts raise."""
        train, job, project, container = self.train, self.job, self.project, self.container
        _check_arguments(project.args)
        label = self.session.config.project.name or project.root.path.name
        command, torchrun = self._command()
        secret = {name: value for name, value in train.env.items() if _is_secret(name, value)}
        for option, text in (
            ("--namespace", job.namespace),
            ("--service-account", job.service_account),
            ("--env-secret", job.secret),
            ("--csi-driver", job.csi_driver),
        ):
            check_reference(text, option)
        if job.name is not None:
            check_name(job.name, "--name")
        stem = PurePosixPath(project.script).stem
        plan = JobPlan(
            name=job.name or fit_for_a_name(f"{label}-{stem}"),
            namespace=job.namespace,
            project=label,
            image=image.reference,
            image_notes=image.notes,
            command=command,
            torchrun=torchrun,
            resume_args=train.resume_args,
            env={name: value for name, value in train.env.items() if name not in secret},
            secret_env=tuple(sorted(secret)),
            secret=job.secret or fit_for_a_name(f"{label}-env"),
            volumes=self.volumes,
            nodes=self.nodes,
            workdir=self._workdir(),
            user=parse_user(container.user),
            shm_mib=container.shm_mib,
            timeout=train.timeout,
            grace=train.grace or DEFAULT_GRACE,
            attempts=self._attempts(),
            store=self._store(),
            service_account=job.service_account,
            left_out=tuple(self._left_out()),
        )
        self._check_effects(plan)
        return plan if job.name else named(plan)

    def _check_effects(self, plan: JobPlan) -> None:
        """Whoever gives an option that changes nothing means something else."""
        job = self.job
        if job.build.given and self.container.dockerfile is None:
            raise _without_effect("a build option", "the image is named, and not built")
        if not plan.volumes:
            for option, given in (("--fstype", job.fstype), ("--csi-driver", job.csi_driver)):
                if given is not None:
                    raise _without_effect(option, "the run has no volume")
        if job.secret is not None and not plan.secret_env:
            raise _without_effect("--env-secret", "no variable looks secret")
        if plan.resume_args and plan.saves_to is None and plan.store is None:
            raise _without_effect("--resume-arg", "checkpoints end with their pod, and none is ever there")

    def _command(self) -> tuple[tuple[str, ...], bool]:
        project, container = self.project, self.container
        entrypoint, engine = container.entrypoint or (), self.job.engine
        several = self.job.nodes > 1
        if engine is Engine.RAY:
            raise UsageError(
                "--engine ray is not carried over to a cluster: KubeRay runs Ray's scripts there, as a RayJob",
                hint="torchrun, or none for a script that starts itself",
                code="not-carried-over",
            )
        if project.is_command:
            if not project.script:
                raise UsageError(
                    "--command without a command runs what the image starts, and a cluster must be told what that is",
                    hint="--command -- python -m package",
                    code="no-command",
                )
            return (*entrypoint, project.script, *project.args), several and engine is Engine.TORCHRUN
        path = project.root.path / project.script
        head = path.read_bytes()[:256] + b"\n"
        is_python = path.suffix.lower() == ".py" and not self.train.interpreter
        if several and is_python and engine is not Engine.NONE:
            return (project.script, *project.args), True
        argv = starter(
            project.script,
            container.python,
            self.train.interpreter,
            head,
            executable=bool(path.stat().st_mode & 0o100),
        )
        command = (*entrypoint, *(argv or [project.script]), *project.args)
        return command, several and engine is Engine.TORCHRUN

    def _workdir(self) -> str | None:
        container, project = self.container, self.project
        if self.train.workdir is not None:
            return self.train.workdir
        if container.dockerfile is None:
            return None
        target = self.job.build.target or self.session.config.docker.target
        script = None if project.is_command else project.script
        has_folder = check_code(project.root.path, container.dockerfile, target, script)
        return None if has_folder else container.workdir

    def _attempts(self) -> int:
        if not self.train.recovery.auto_resume:
            return 1
        if self.job.nodes > 1 and self.job.max_attempts is None:
            return ATTEMPTS_OF_SEVERAL
        return self.train.recovery.rules.max_attempts

    def _store(self) -> Store | None:
        spec = self.train.keeping.store()
        if spec is None or self.train.keeping.s3 is None:
            return None
        if spec.endpoint:
            raise UsageError(
                "--checkpoint-endpoint is not carried over: pods reach the provider's own store",
                hint="leave it out, or keep checkpoints on a volume",
            )
        return Store(spec.url, self.cluster.carrier, PUBLISHED_EVERY)

    def _left_out(self) -> Sequence[str]:
        train, found = self.train, []
        for mount in self.project.mount_requests:
            if mount.is_path and mount.origin == CONFIG:
                found.append(
                    f"[ebs] mount_points has {mount.text}: a pod does not see the folders of a machine."
                )
        if train.keeping.folder is not None and train.keeping.s3 is None:
            found.append(f"Checkpoints are not published to {train.keeping.folder}, a folder of a machine.")
        if train.keeping.keep_last is not None or train.keeping.keep_best:
            found.append("All checkpoints stay in the store: nobody prunes them.")
        if train.keeping.every is not None:
            found.append(f"The script is not asked for a checkpoint every {train.keeping.every}.")
        if train.keeping.s3 is not None and self.job.service_account is None:
            found.append(
                "The nodes' own role must be able to write to the store: --service-account names one that can."
            )
        return found


def _without_effect(what: str, why: str) -> UsageError:
    return UsageError(f"{what} has no effect here: {why}", hint="leave it out")


def _placed(request: MountRequest, volume: Volume) -> MountRequest:
    """With the place where ``train`` would show it."""
    if request.target:
        return request
    return replace(
        request, target=request.mount_point or usual_mount_points(volume)[0].path, origin=VOLUME_FLAG
    )


def _is_secret(name: str, value: str) -> bool:
    return is_secret(name, value) and not _HARMLESS.fullmatch(value)


def _check_arguments(args: Sequence[str]) -> None:
    """A manifest is kept and shared. Raises `UsageError` for an argument that looks like a key."""
    for number, argument in enumerate(args, start=1):
        if is_secret("", argument):
            raise UsageError(
                f"argument {number} of the script looks like a secret, and a manifest would show it",
                hint="give it as a variable: --env NAME takes this shell's value, and a Secret holds it",
                code="secret-argument",
            )
