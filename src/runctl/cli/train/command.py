"""``train``, ``monitor`` and ``processes`` of a provider."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runctl.cli.context import Cli
from runctl.cli.docker.options import BuildOptions, build_on_option, build_options, dockerfile_options
from runctl.cli.framework.commands import Command, PassthroughCommand
from runctl.cli.framework.completion import complete_runs
from runctl.cli.framework.values import DURATION, LINES, RUN, wide_option
from runctl.cli.machines.resolve import (
    LOCAL,
    find_instance,
    instance_argument,
    transport_option,
    wanted_transport,
)
from runctl.cli.settings.project import sync_limits
from runctl.cli.train.docker import (
    code_wish,
    container_options,
    interpreter_of,
    starts_service,
    watch_wish,
    with_configuration,
)
from runctl.cli.train.help import SECTIONS, train_examples
from runctl.cli.train.volumes import VolumeOptions, volume_options
from runctl.containers.running import ContainerWishes
from runctl.core.names import check_run_name

if TYPE_CHECKING:
    from runctl.checkpoints.resume import ResumeFrom
    from runctl.core.models import Instance


class _Train(PassthroughCommand):
    rest_name = "ARGS"


def train_command(provider: str) -> click.Command:
    """``train`` of a provider."""

    @click.command(
        cls=_Train,
        sections=SECTIONS,
        examples=train_examples(provider),
        exclusive=[("--dockerfile", "--dockerfile-search")],
    )
    @instance_argument(provider)
    @click.argument("script", type=click.Path(path_type=Path), required=False)
    @click.option(
        "--command",
        "as_command",
        is_flag=True,
        help="Run what follows -- as a command, instead of a script; without any, what the image itself starts.",
    )
    @click.option(
        "--interpreter",
        metavar="PROGRAM",
        help="Run the script with this program (default: by its extension, or its #! line).",
    )
    @volume_options(provider)
    @click.option(
        "--docker/--no-docker",
        "docker",
        default=None,
        help="Run in a container, or on the host; by default in one if the project has a Dockerfile.",
    )
    @dockerfile_options
    @build_options
    @build_on_option
    @click.option("--image", metavar="REFERENCE", help="Run in a container from this image.")
    @click.option(
        "--env", "env", multiple=True, metavar="K=V", help="Set a variable for the script. Repeatable."
    )
    @click.option(
        "--env-file",
        "env_files",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Read variables from a file.",
    )
    @click.option(
        "--workdir",
        metavar="PATH",
        help="Where the script starts; in a container, where the project is (default /workspace).",
    )
    @click.option(
        "--wait", is_flag=True, help="Follow the log to the end and exit with the script's own code."
    )
    @click.option("--run-name", metavar="NAME", help="A name to call the run by, such as baseline.")
    @click.option(
        "--timeout", type=DURATION, metavar="TIME", help="End the run after this long, such as 12h."
    )
    @click.option("--grace", type=DURATION, metavar="TIME", help="Between SIGTERM and SIGKILL (default 30s).")
    @click.option(
        "--resume-from",
        metavar="RUN|PATH",
        shell_complete=complete_runs,
        help="Go on from the newest complete checkpoint of a run, or from a checkpoint or folder of the machine. The"
        " script finds it in RUNCTL_RESUME_FROM.",
    )
    @click.option(
        "--resume-arg",
        metavar="ARGS",
        help="Arguments for the script where there is a checkpoint to go on from, such as '--resume {checkpoint}'.",
    )
    @click.option(
        "--sync-code/--no-sync-code",
        "sync_code",
        default=None,
        help="Send the project, and use it over the image's copy; or leave what is there. By default it is sent, and"
        " used unless the image has the script.",
    )
    @click.option(
        "--watch",
        is_flag=True,
        help="Follow the run, and sync the project on every save; r starts the run over with it.",
    )
    @click.option("--restart-on-change", is_flag=True, help="With --watch: a save starts the run over.")
    @click.option(
        "--dev-mode",
        is_flag=True,
        help="The same as --sync-code: an edit runs without building the image again.",
    )
    @click.option(
        "--include-pattern",
        "include_patterns",
        multiple=True,
        metavar="GLOB",
        help="Send files that the ignore rules leave out. Repeatable.",
    )
    @container_options
    @click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
    @transport_option
    @click.pass_obj
    def command(
        cli: Cli,
        script: Path | None,
        as_command: bool,
        interpreter: str | None,
        container_wishes: ContainerWishes,
        on_volumes: VolumeOptions,
        docker: bool | None,
        dockerfile: Path | None,
        dockerfile_search: bool,
        build: BuildOptions,
        build_on: str | None,
        image: str | None,
        env: tuple[str, ...],
        env_files: tuple[Path, ...],
        workdir: str | None,
        wait: bool,
        run_name: str | None,
        timeout: timedelta | None,
        grace: timedelta | None,
        resume_from: str | None,
        resume_arg: str | None,
        sync_code: bool | None,
        dev_mode: bool,
        watch: bool,
        restart_on_change: bool,
        include_patterns: tuple[str, ...],
        dry_run: bool,
        transport: str | None,
        rest: tuple[str, ...],
        instance_id: str = LOCAL,
    ) -> int:
        """Train a script on an instance.

        What follows -- goes to the script exactly as it is; with --command it is the command itself. The run goes
        on when this computer sleeps or the connection breaks; monitor finds it again.
        """
        from runctl.checkpoints.resume import parse_arguments
        from runctl.cli.train.image import ImageOptions
        from runctl.cli.train.training import Training
        from runctl.core.clock import parse_duration
        from runctl.project.dockerfile import DockerfileWish
        from runctl.runs.environment import gather
        from runctl.runs.plan import TrainRequest, plan_project

        if run_name is not None:
            check_run_name(run_name)
        config = cli.config
        if docker is None:
            docker = True if dockerfile is not None or dockerfile_search else config.docker.enabled
        uses_configured_image = docker is not False and dockerfile is None and not dockerfile_search
        uses_configured_image = uses_configured_image and container_wishes.compose is None
        request = TrainRequest(
            script=script,
            args=rest,
            is_command=as_command or starts_service(script, rest, container_wishes),
            interpreter=interpreter_of(script, interpreter, config.train.interpreters),
            container=with_configuration(container_wishes, config),
            cwd=Path.cwd(),
            ebs_mounts=on_volumes.ebs_mounts,
            configured_mounts=config.ebs.mount_points if provider != LOCAL else (),
            volumes=on_volumes.volumes,
            automatic_mounts=on_volumes.automatic,
            docker=docker,
            image=image or (config.docker.image if uses_configured_image else None),
            dockerfile=DockerfileWish(dockerfile, config.docker.dockerfile_path, dockerfile_search),
            container_workdir=config.docker.workdir,
            workdir=workdir,
            env=gather(config.train.env, env_files, env, os.environ),
            caller_env=os.environ,
            timeout=timeout or (parse_duration(config.train.timeout) if config.train.timeout else None),
            grace=grace or parse_duration(config.train.grace),
            sync_code=code_wish(sync_code, dev_mode=dev_mode),
            include_patterns=(*config.sync.include_patterns, *include_patterns),
            limits=sync_limits(config),
            name=run_name,
            resume_args=parse_arguments(resume_arg),
        )
        project = plan_project(request)
        wish = watch_wish(project, watch=watch, restart_on_change=restart_on_change)
        instance = find_instance(cli, provider, instance_id)
        if resume_from is not None:
            request = replace(request, resume=_resume(cli, resume_from, instance))
        training = Training(cli, request, project, instance, transport, ImageOptions(build, build_on))
        plan = training.plan()
        if dry_run:
            return training.show_only(plan)
        return training.carry_out(plan, wait=wait, watch=wish)

    return command


def _resume(cli: Cli, text: str, instance: Instance) -> ResumeFrom:
    """What ``--resume-from`` names. Raises `NotFound`, `Conflict`, `UsageError`."""
    from runctl.checkpoints.resume import from_path, from_run, is_path

    if is_path(text):
        return from_path(text)
    record = cli.store.get(text)
    return from_run(
        record.id,
        saved_volume=record.saved_volume,
        saved_folder=record.saved_folder,
        checkpoint_dir=record.checkpoint_dir,
        saved_on=record.instance_id,
        instance_id=instance.id,
    )


def monitor_command(provider: str) -> click.Command:
    """``monitor`` of a provider."""

    @click.command(cls=Command, exclusive=[("--wait", "--no-follow")])
    @instance_argument(provider)
    @click.argument("run_id", metavar="[RUN]", required=False, type=RUN, shell_complete=complete_runs)
    @click.option(
        "--follow/--no-follow", default=True, help="Stay until the run has ended.", show_default=True
    )
    @click.option("--tail", type=LINES, metavar="N", help="Begin with the last N lines.")
    @click.option("--wait", is_flag=True, help="Exit with the code of the run's script.")
    @transport_option
    @click.pass_obj
    def command(
        cli: Cli,
        run_id: str | None,
        follow: bool,
        tail: int | None,
        wait: bool,
        transport: str | None,
        instance_id: str = LOCAL,
    ) -> int:
        """Follow the log of a run, by default the newest one on the instance."""
        from runctl.cli.train.following import find_on_machine, show_log
        from runctl.machines.machine import open_machine

        instance = find_instance(cli, provider, instance_id)
        machine = open_machine(
            cli.provider(provider), instance, wanted_transport(cli, instance, transport), cli.progress
        )
        record = find_on_machine(cli, machine, run_id)
        code = show_log(cli, machine, record, follow=follow, tail=tail)
        return code if wait else 0

    return command


def processes_command(provider: str) -> click.Command:
    """``processes`` of a provider."""

    @click.command(cls=Command)
    @instance_argument(provider)
    @click.option("--all", "everything", is_flag=True, help="Show runs that have ended, too.")
    @wide_option
    @transport_option
    @click.pass_obj
    def command(
        cli: Cli, everything: bool, wide: bool, transport: str | None, instance_id: str = LOCAL
    ) -> None:
        """Show what runs on an instance, and what it uses."""
        from runctl.machines.machine import open_machine
        from runctl.render.run_table import attempt_document, attempts_table
        from runctl.render.tables import screen_of

        instance = find_instance(cli, provider, instance_id)
        machine = open_machine(
            cli.provider(provider), instance, wanted_transport(cli, instance, transport), cli.progress
        )
        attempts = [status for status in machine.agent.attempts() if everything or status.end is None]
        cli.emit(
            [attempt_document(status) for status in attempts],
            text=lambda: attempts_table(attempts, screen=screen_of(sys.stdout, wide=wide)),
            ids=[status.run_id for status in attempts],
        )
        if not attempts:
            cli.progress.note(f"no run on {instance.id}")

    return command
