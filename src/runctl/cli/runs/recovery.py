"""``runs recover`` and ``runs watch``: a run that was interrupted continues on another machine."""

from __future__ import annotations

from datetime import timedelta

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_runs
from runctl.cli.framework.options import over_budget_option
from runctl.cli.framework.values import DURATION, RUN
from runctl.core.clock import SystemClock
from runctl.core.text import counted
from runctl.runs.records.shown_run import as_run


@click.command(
    cls=Command,
    name="recover",
    examples=[
        ("runctl runs recover latest", "once, for cron: a run that goes on is left alone"),
        ("runctl runs recover s3://mine/runs/run-7kq2m9xd4t", "a run that another computer has started"),
    ],
)
@click.argument("run_id", metavar="RUN", type=RUN, shell_complete=complete_runs)
@click.option(
    "--from",
    "store",
    metavar="ADDRESS",
    help="The --checkpoint-s3 of a run that another computer has started.",
)
@over_budget_option
@click.pass_obj
def recover_command(cli: Cli, run_id: str, store: str | None) -> None:
    """Start the next attempt of a run that was interrupted, on another machine.

    It keeps everything of the run: arguments, variables, project as it was sent, image, volumes, machine type. A run
    that is still going, or that has ended for good, is left alone. Exits with 6 if no machine is available now.

    RUN may also be the address of a run that was started with --checkpoint-s3, on any computer. This one knows the
    run from then on.
    """
    from runctl.runs.recovering.watching import check_capacity, recover_reference

    recovered = recover_reference(cli.session, run_id, store)
    check_capacity(recovered)
    record = recovered.record
    cli.emit(
        as_run(record, SystemClock().now()), text=lambda: f"{record.id} {recovered.why}", ids=[record.id]
    )


@click.command(
    cls=Command,
    name="watch",
    examples=[
        ("runctl runs watch", "all runs that were started with --auto-resume"),
        ("runctl runs watch latest", "one run, however it was started"),
    ],
)
@click.argument("run_ids", metavar="[RUN...]", nargs=-1, type=RUN, shell_complete=complete_runs)
@click.option("--every", type=DURATION, default="10s", show_default=True, help="Time between two rounds.")
@over_budget_option
@click.pass_obj
def watch_command(cli: Cli, run_ids: tuple[str, ...], every: timedelta) -> None:
    """Recover runs whenever they are interrupted, until all have ended.

    Without RUN, those that were started with --auto-resume. Stop it and start it again as you like, also in several
    terminals: each attempt is started once.
    """
    from runctl.runs.recovering.watching import watch_runs, watched_runs

    records = watch_runs(
        cli.session,
        watched_runs(cli.session, run_ids),
        on_change=lambda recovered: cli.progress.note(f"{recovered.record.id} {recovered.why}"),
        every=every,
    )
    now = SystemClock().now()

    def text() -> str:
        return "\n".join(
            f"{record.id} {'has not ended' if ended is None else f'ended as {ended.value}'}"
            f" after {counted(record.attempt, 'attempt')}"
            for record, ended in ((record, record.end_reason) for record in records)
        )

    cli.emit([as_run(record, now) for record in records], text=text, ids=[record.id for record in records])
