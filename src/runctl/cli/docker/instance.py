"""``docker build --build-on instance``: the build is a run on the machine, which goes on when this computer sleeps."""

from __future__ import annotations

from pathlib import Path

from runctl.cli.context import Cli
from runctl.cli.docker.options import BuildOptions
from runctl.cli.machines.resolve import find_instance
from runctl.cli.settings.project import sync_limits
from runctl.cli.train.image import ImageOptions
from runctl.cli.train.training import Training
from runctl.containers.where import INSTANCE
from runctl.core.errors import UsageError
from runctl.project.dockerfile import DockerfileWish
from runctl.runs.plan import TrainRequest, plan_project


def build_on_instance(
    cli: Cli,
    instance_id: str | None,
    wish: DockerfileWish,
    build: BuildOptions,
    *,
    transport: str | None,
    dry_run: bool,
) -> int:
    """The machine's engine has the image; the log has been shown, and the run's exit code is returned."""
    if instance_id is None:
        raise UsageError(
            "--build-on instance: on which one?",
            hint="name it: --instance i-0123456789abcdef0",
            code="no-instance",
        )
    request = TrainRequest(
        script=None,
        cwd=Path.cwd(),
        is_command=True,
        automatic_mounts=False,
        docker=True,
        dockerfile=wish,
        include_patterns=cli.config.sync.include_patterns,
        limits=sync_limits(cli.config),
    )
    project = plan_project(request)
    options = ImageOptions(build, INSTANCE, only=True)
    training = Training(cli, request, project, find_instance(cli, "aws", instance_id), transport, options)
    plan = training.plan()
    return training.show_only(plan) if dry_run else training.carry_out(plan, wait=True)
