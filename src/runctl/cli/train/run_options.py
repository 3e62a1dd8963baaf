"""The options that say what a run is: of ``train``, and of ``launch``, which rents the machine for it first."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runctl._dataclasses import dataclass
from runctl.agent.checkpoint_spec import CHECKPOINT_SIGNALS
from runctl.agent.spec import CONTRACTS
from runctl.checkpoints.keeping import Keeping
from runctl.cli.context import Cli
from runctl.cli.docker.options import build_on_option, build_options, dockerfile_options
from runctl.cli.framework.completion import complete_runs
from runctl.cli.framework.options import Decorator, MayBeBytes, with_options
from runctl.cli.framework.values import COUNT, DURATION
from runctl.cli.train.deadline_options import ProgressPattern
from runctl.cli.train.options import (
    VolumeOptions,
    checkpoint_options,
    container_options,
    parse_interpreter,
    sync_choice,
    volume_options,
)
from runctl.containers.container_options import ContainerOptions
from runctl.containers.image_plan import BuildOptions
from runctl.core.errors import UsageError
from runctl.providers.names import check_run_name
from runctl.providers.registry import plugin

if TYPE_CHECKING:
    from runctl.runs.images.settled_image import ImageOptions
    from runctl.runs.recovery import Recovery
    from runctl.runs.train.project_plan import TrainRequest


@dataclass(frozen=True)
class RunOptions:
    """What the user wants to run; each field is an option, or what options were gathered into."""

    as_command: bool
    interpreter: str | None
    volumes: VolumeOptions
    docker: bool | None
    dockerfile: Path | None
    dockerfile_search: bool
    build: BuildOptions
    build_on: str | None
    image: str | None
    env: tuple[str, ...]
    env_files: tuple[Path, ...]
    workdir: str | None
    run_name: str | None
    timeout: timedelta | None
    grace: timedelta | None
    checkpoint_signal: str | None
    keeping: Keeping
    resume_from: str | None
    """What it names is found once the machine is known."""
    resume_arg: str | None
    sync_code: bool | None
    dev_mode: bool
    include_patterns: tuple[str, ...]
    container: ContainerOptions
    auto_resume: bool | None = None
    max_attempts: int | None = None
    retry_within: timedelta | None = None
    progress_pattern: str | None = None
    contract: str | None = None

    def recovery(self, *, usual: bool = False) -> Recovery:
        """Whether further attempts are started, and how many; ``usual`` where nobody says whether."""
        from runctl.runs.recovery import DEFAULT_RULES, Recovery, RecoveryRules

        asked = self.max_attempts is not None or self.retry_within is not None
        if asked and self.auto_resume is False:
            raise UsageError(
                "--max-attempts and --retry-within have no effect with --no-auto-resume",
                hint="leave them out",
            )
        rules = RecoveryRules(
            self.max_attempts or DEFAULT_RULES.max_attempts,
            self.retry_within.total_seconds()
            if self.retry_within is not None
            else DEFAULT_RULES.retry_within,
        )
        return Recovery(asked or (usual if self.auto_resume is None else self.auto_resume), rules)

    @property
    def image_options(self) -> ImageOptions:
        """How the run's image is built, and where."""
        from runctl.runs.images.settled_image import ImageOptions

        return ImageOptions(self.build, self.build_on)

    def request(
        self,
        cli: Cli,
        provider: str,
        script: Path | None,
        args: tuple[str, ...],
        *,
        auto_resume: bool = False,
    ) -> TrainRequest:
        """The request, with what the configuration says where the options say nothing; ``auto_resume`` where they do
        not say that either. Raises `UsageError`."""
        from runctl.checkpoints.resume import parse_arguments
        from runctl.project.docker.dockerfile import DockerfileRequest
        from runctl.runs.train.environment import gather
        from runctl.runs.train.project_plan import TrainRequest
        from runctl.runs.train.request import with_configuration

        if self.run_name is not None:
            check_run_name(self.run_name)
        request = TrainRequest(
            script=script,
            args=args,
            is_command=self.as_command,
            interpreter=parse_interpreter(self.interpreter),
            container=self.container,
            cwd=Path.cwd(),
            mounts=self.volumes.mounts,
            automatic_mounts=self.volumes.automatic,
            docker=self.docker,
            image=self.image,
            dockerfile=DockerfileRequest(self.dockerfile, search=self.dockerfile_search),
            workdir=self.workdir,
            env=gather({}, self.env_files, self.env, os.environ),
            caller_env=os.environ,
            timeout=self.timeout,
            grace=self.grace,
            checkpoint_signal=self.checkpoint_signal,
            keeping=self.keeping,
            sync_code=sync_choice(self.sync_code, dev_mode=self.dev_mode),
            include_patterns=self.include_patterns,
            name=self.run_name,
            resume_args=parse_arguments(self.resume_arg),
            recovery=self.recovery(usual=auto_resume),
            progress_pattern=self.progress_pattern,
            contract=self.contract,
        )
        return with_configuration(request, cli.config, cli.defaults(provider))


def run_options(provider: str) -> Decorator:
    """Adds the options; the command gets them as the one parameter ``run``: `RunOptions`."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def gather(*arguments: Any, **given: Any) -> Any:
            run = RunOptions(**{field.name: given.pop(field.name, None) for field in fields(RunOptions)})
            return function(*arguments, run=run, **given)

        return with_options(gather, _options(provider))

    return decorate


def _recovery_options() -> list[Decorator]:
    return [
        click.option(
            "--auto-resume/--no-auto-resume",
            "auto_resume",
            default=None,
            help="While --wait or runs watch is running: restart the run on another machine if its own is taken"
            " back or lost (default for launch --spot).",
        ),
        click.option(
            "--max-attempts",
            type=COUNT,
            metavar="N",
            help="Attempts in all, the first included (default 20); implies --auto-resume.",
        ),
        click.option(
            "--retry-within",
            type=DURATION,
            metavar="TIME",
            help="Give up when no machine is found for this long (default 1h); implies --auto-resume.",
        ),
    ]


def _options(provider: str) -> list[Decorator]:
    return [
        click.option(
            "--command",
            "as_command",
            is_flag=True,
            help="Run what follows -- as a command instead of a script; with nothing there, what the image itself"
            " starts.",
        ),
        click.option(
            "--interpreter",
            metavar="PROGRAM",
            help="Run the script with this program (default: by its extension, or its #! line).",
        ),
        volume_options(provider),
        click.option(
            "--docker/--no-docker",
            "docker",
            default=None,
            help="Run in a container, or on the host; by default in one if the project has a Dockerfile.",
        ),
        dockerfile_options,
        build_options,
        build_on_option,
        click.option("--image", metavar="REFERENCE", help="Run in a container from this image."),
        click.option(
            "--contract",
            type=click.Choice(CONTRACTS),
            help="Give the script what SageMaker gives: /opt/ml, hyperparameters from its arguments, SM_ variables.",
        ),
        click.option(
            "--env",
            "env",
            cls=MayBeBytes,
            multiple=True,
            metavar="K=V",
            help="Set a variable for the script. Repeatable.",
        ),
        click.option(
            "--env-file",
            "env_files",
            multiple=True,
            type=click.Path(path_type=Path),
            help="Read variables from a file.",
        ),
        click.option(
            "--workdir",
            metavar="PATH",
            help="Start the script in this folder; in a container, the project is there (default /workspace).",
        ),
        click.option("--run-name", metavar="NAME", help="A name to call the run by, such as baseline."),
        click.option(
            "--timeout", type=DURATION, metavar="TIME", help="End the run after this long, such as 12h."
        ),
        click.option(
            "--grace",
            type=DURATION,
            metavar="TIME",
            help="Wait this long between SIGTERM and SIGKILL (default 30s).",
        ),
        click.option(
            "--checkpoint-signal",
            type=click.Choice(CHECKPOINT_SIGNALS, case_sensitive=False),
            metavar="SIGNAL",
            help="Ask the script for a checkpoint with this signal, where it has a handler for it: USR1 (default),"
            " USR2, HUP or none.",
        ),
        checkpoint_options,
        click.option(
            "--resume-from",
            metavar="RUN|PATH|s3://",
            shell_complete=complete_runs,
            help="Resume from the newest complete checkpoint of a run, of a run's prefix in a store, or from a"
            " checkpoint or folder on the machine. The script finds it in RUNCTL_RESUME_FROM.",
        ),
        click.option(
            "--resume-arg",
            metavar="ARGS",
            help="Arguments for the script if there is a checkpoint to resume from, such as '--resume {checkpoint}'.",
        ),
        click.option(
            "--progress-pattern",
            type=ProgressPattern(),
            metavar="REGEX",
            help="Read the script's progress out of its log, for runs list and --deadline:"
            " 'step (?P<step>\\d+)/(?P<total>\\d+)', or '(?P<percent>[\\d.]+)%'.",
        ),
        *([] if plugin(provider).this_computer else _recovery_options()),
        click.option(
            "--sync-code/--no-sync-code",
            "sync_code",
            default=None,
            help="Send the project and use it in place of the image's copy, or use what is there (default: sent,"
            " and used unless the image has the script).",
        ),
        click.option(
            "--dev-mode",
            is_flag=True,
            help="Same as --sync-code: edits run without rebuilding the image.",
        ),
        click.option(
            "--include-pattern",
            "include_patterns",
            multiple=True,
            metavar="GLOB",
            help="Send files that the ignore rules leave out. Repeatable.",
        ),
        container_options,
    ]
