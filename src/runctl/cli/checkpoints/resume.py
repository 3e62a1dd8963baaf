"""``checkpoint resume``: a run goes on where it was."""

from __future__ import annotations

import os

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_runs
from runctl.cli.framework.options import MayBeBytes
from runctl.core.clock import SystemClock
from runctl.core.errors import UsageError
from runctl.runs.checkpoints.resuming import plan_resume, resume
from runctl.runs.records.shown_run import as_run


@click.command(
    cls=Command,
    name="resume",
    examples=[("runctl checkpoint resume base --dry-run", "from which checkpoint, and where")],
)
@click.argument("run", metavar="RUN", shell_complete=complete_runs)
@click.option(
    "--env",
    "variables",
    cls=MayBeBytes,
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Set a variable that the run had, since its value is kept nowhere; without VALUE, to this computer's."
    " Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be started, and stop.")
@click.pass_obj
def resume_command(cli: Cli, run: str, variables: tuple[str, ...], dry_run: bool) -> None:
    """Start a further attempt of a run on its machine, from its newest checkpoint there.

    RUN must have ended, and its machine must still exist. The attempt is like the last one: the same code, arguments,
    mounts and image, and the same id.
    """
    from runctl.render.checkpoints import checkpoint_details

    plan = plan_resume(cli.session, run)
    if dry_run:
        cli.emit(
            plan.checkpoint,
            text=lambda: (
                f"would start attempt {plan.attempt} of {plan.record.id} on {plan.record.instance_id} from\n"
                + checkpoint_details(plan.checkpoint, SystemClock().now())
            ),
            ids=[plan.record.id],
        )
        return
    record = resume(cli.session, plan, dict(_variable(text) for text in variables))
    shown = as_run(record, SystemClock().now())
    cli.emit(
        shown,
        text=lambda: (
            f"{record.id}: attempt {record.attempt} on {record.instance_id}, from {plan.checkpoint.name};"
            f" runctl runs logs {record.id} --wait follows it"
        ),
        ids=[record.id],
    )


def _variable(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not given and name not in os.environ:
        raise UsageError(f"--env {name}: this computer has no such variable", hint=f"--env {name}=VALUE")
    return name, value if given else os.environ[name]
