"""``train``, ``monitor`` and ``processes`` of a provider."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click

from runctl.agent.checkpoint_spec import CHECKPOINT_SIGNALS
from runctl.cli.context import Cli
from runctl.cli.docker.options import build_on_option, build_options, dockerfile_options
from runctl.cli.framework.commands import Command, PassthroughCommand
from runctl.cli.framework.completion import complete_runs
from runctl.cli.framework.values import DURATION, LINES, RUN, wide_option
from runctl.cli.machines.resolve import (
    find_instance,
    instance_argument,
    transport_option,
)
from runctl.cli.train.help import SECTIONS, train_examples
from runctl.cli.train.options import (
    VolumeOptions,
    container_options,
    parse_interpreter,
    sync_choice,
    volume_options,
)
from runctl.containers.container_options import ContainerOptions
from runctl.containers.image_plan import BuildOptions
from runctl.providers.names import check_run_name


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
        help="Start the script in this folder; in a container, the project is there (default /workspace).",
    )
    @click.option(
        "--wait", is_flag=True, help="Follow the log to the end and exit with the script's own code."
    )
    @click.option("--run-name", metavar="NAME", help="A name to call the run by, such as baseline.")
    @click.option(
        "--timeout", type=DURATION, metavar="TIME", help="End the run after this long, such as 12h."
    )
    @click.option(
        "--grace",
        type=DURATION,
        metavar="TIME",
        help="Wait this long between SIGTERM and SIGKILL (default 30s).",
    )
    @click.option(
        "--checkpoint-signal",
        type=click.Choice(CHECKPOINT_SIGNALS, case_sensitive=False),
        metavar="SIGNAL",
        help="Ask the script for a checkpoint with this signal, where it has a handler for it: USR1 (default), USR2,"
        " HUP or none.",
    )
    @click.option(
        "--resume-from",
        metavar="RUN|PATH",
        shell_complete=complete_runs,
        help="Resume from the newest complete checkpoint of a run, or from a checkpoint or folder on the machine. The"
        " script finds it in RUNCTL_RESUME_FROM.",
    )
    @click.option(
        "--resume-arg",
        metavar="ARGS",
        help="Arguments for the script if there is a checkpoint to resume from, such as '--resume {checkpoint}'.",
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
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli,
        script: Path | None,
        as_command: bool,
        interpreter: str | None,
        container: ContainerOptions,
        volumes: VolumeOptions,
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
        checkpoint_signal: str | None,
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
        instance_id: str | None = None,
    ) -> int:
        """Train a script on an instance.

        What follows -- goes to the script exactly as it is; with --command it is the command itself. The run goes
        on when this computer sleeps or the connection breaks; monitor finds it again.
        """
        from runctl.checkpoints.resume import parse_arguments
        from runctl.cli.train.carry_out import carry_out, check_watch, show_plan
        from runctl.project.dockerfile import DockerfileRequest
        from runctl.runs.environment import gather
        from runctl.runs.images.run_image import ImageOptions
        from runctl.runs.project_plan import TrainRequest, plan_project
        from runctl.runs.request import with_configuration
        from runctl.runs.training import Training, find_checkpoint

        if run_name is not None:
            check_run_name(run_name)
        request = with_configuration(
            TrainRequest(
                script=script,
                args=rest,
                is_command=as_command,
                interpreter=parse_interpreter(interpreter),
                container=container,
                cwd=Path.cwd(),
                mounts=volumes.mounts,
                automatic_mounts=volumes.automatic,
                docker=docker,
                image=image,
                dockerfile=DockerfileRequest(dockerfile, search=dockerfile_search),
                workdir=workdir,
                env=gather({}, env_files, env, os.environ),
                caller_env=os.environ,
                timeout=timeout,
                grace=grace,
                checkpoint_signal=checkpoint_signal,
                sync_code=sync_choice(sync_code, dev_mode=dev_mode),
                include_patterns=include_patterns,
                name=run_name,
                resume_args=parse_arguments(resume_arg),
            ),
            cli.config,
            cli.defaults(provider),
        )
        project = plan_project(request)
        on_save = check_watch(project, watch=watch, restart_on_change=restart_on_change)
        instance = find_instance(cli, provider, instance_id)
        if resume_from is not None:
            request = replace(request, resume=find_checkpoint(cli.session, resume_from, instance))
        training = Training(cli.session, request, project, instance, transport, ImageOptions(build, build_on))
        plan = training.plan()
        if dry_run:
            show_plan(cli, plan)
            return 0
        return carry_out(cli, training, plan, wait=wait, on_save=on_save)

    return command


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
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli,
        run_id: str | None,
        follow: bool,
        tail: int | None,
        wait: bool,
        transport: str | None,
        instance_id: str | None = None,
    ) -> int:
        """Follow the log of a run, by default the newest one on the instance."""
        from runctl.cli.runs.show_log import show_log
        from runctl.machines.machine import reach
        from runctl.runs.control import find_on_machine

        machine = reach(cli.session, find_instance(cli, provider, instance_id), transport)
        record = find_on_machine(cli.session, machine, run_id)
        code = show_log(cli, machine, record, follow=follow, tail=tail)
        return code if wait else 0

    return command


def processes_command(provider: str) -> click.Command:
    """``processes`` of a provider."""

    @click.command(cls=Command)
    @instance_argument(provider)
    @click.option("--all", "everything", is_flag=True, help="Show runs that have ended, too.")
    @wide_option
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli, everything: bool, wide: bool, transport: str | None, instance_id: str | None = None
    ) -> None:
        """Show what runs on an instance, and what it uses."""
        from runctl.machines.machine import reach
        from runctl.render.run_table import attempt_document, attempts_table
        from runctl.render.tables import screen_of

        instance = find_instance(cli, provider, instance_id)
        machine = reach(cli.session, instance, transport)
        attempts = [status for status in machine.agent.attempts() if everything or status.end is None]
        cli.emit(
            [attempt_document(status) for status in attempts],
            text=lambda: attempts_table(attempts, screen=screen_of(sys.stdout, wide=wide)),
            ids=[status.run_id for status in attempts],
        )
        if not attempts:
            cli.progress.note(f"no run on {instance.id}")

    return command
