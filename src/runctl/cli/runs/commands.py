"""``runs``: every run that this computer has started, wherever it runs."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import click

from runctl.agent.end_reason import EndReason
from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_instances, complete_runs
from runctl.cli.framework.values import COUNT, DURATION, LINES, RUN, node_option, wide_option
from runctl.core.clock import SystemClock
from runctl.core.errors import Conflict, MachineError, NotFound, RunctlError, Unreachable
from runctl.core.run_models import RunPhase
from runctl.providers.registry import command, names
from runctl.runs.records.shown_run import as_run

PHASES = tuple(phase.value for phase in RunPhase)
STATES = (*PHASES, *(reason.value for reason in EndReason))


@click.command(
    cls=Command,
    name="list",
    examples=[
        ("runctl runs list --state running", "those that go on"),
        ("runctl runs list --state failed --project digits", "those of one project that failed"),
    ],
)
@click.option("--cached", is_flag=True, help="Show what this computer knows, without asking machines.")
@click.option(
    "--instance", metavar="ID|NAME", shell_complete=complete_instances, help="Only runs on this instance."
)
@click.option("--project", metavar="NAME", help="Only runs of this project.")
@click.option("--name", metavar="NAME", help="Only runs of this name.")
@click.option(
    "--state",
    "states",
    type=click.Choice(STATES, case_sensitive=False),
    multiple=True,
    metavar="STATE",
    help=f"Only runs in this state ({', '.join(PHASES)}), or that ended for this reason. Repeatable.",
)
@click.option("--limit", type=COUNT, default=50, show_default=True, metavar="N", help="Show at most N runs.")
@wide_option
@click.pass_obj
def list_command(
    cli: Cli,
    *,
    cached: bool,
    instance: str | None,
    project: str | None,
    name: str | None,
    states: tuple[str, ...],
    limit: int,
    wide: bool,
) -> None:
    """List runs, newest first.

    Machines are asked about runs that are not known to have ended; one that cannot be asked shows "unknown".
    """
    from runctl.runs.listing import list_runs

    shown = list_runs(
        instance=instance,
        project=project,
        name=name,
        states=states,
        limit=limit,
        cached=cached,
        session=cli.session,
    )

    def text() -> str:
        if not shown:
            return ""
        from runctl.render.run_table import runs_table
        from runctl.render.tables import screen_of

        return runs_table(shown, screen=screen_of(sys.stdout, wide=wide))

    cli.emit(shown, text=text, ids=[run.id for run in shown])
    if not shown:
        filtered = any((instance, project, name, states))
        cli.progress.note(
            "none of the runs that this computer knows matches; runctl runs list shows all of them"
            if filtered
            else "no runs yet; " + " or ".join(command(each, "train") for each in names()) + " starts one"
        )


@click.command(cls=Command, name="show")
@click.argument("run_id", metavar="RUN", type=RUN, shell_complete=complete_runs)
@click.option("--cached", is_flag=True, help="Show what this computer knows, without asking machines.")
@click.pass_obj
def show_command(cli: Cli, run_id: str, cached: bool) -> None:
    """Show one run."""
    from runctl.runs.listing import show_run

    run = show_run(run_id, cached=cached, session=cli.session)

    def text() -> str:
        from runctl.render.run_table import run_details

        return run_details(run, is_there=lambda folder: Path(folder).is_dir())

    cli.emit(run, text=text, ids=[run.id])


@click.command(cls=Command, name="logs", exclusive=[("--wait", "--no-follow")])
@click.argument("run_id", metavar="RUN", type=RUN, shell_complete=complete_runs)
@click.option(
    "--follow/--no-follow", "-f", default=False, help="Stay until the run has ended.", show_default=True
)
@click.option("--tail", type=LINES, metavar="N", help="Begin with the last N lines.")
@click.option("--wait", is_flag=True, help="Follow, and exit with the code of the run's script.")
@node_option
@click.pass_obj
def logs_command(cli: Cli, run_id: str, follow: bool, tail: int | None, wait: bool, node: int | None) -> int:
    """Print the log of a run.

    If its machine is gone: what was followed on this computer, and what the volume with its checkpoints has; what is
    missing is named. For a run on several machines: the lines of all, each with its node's rank before it.
    """
    from runctl.cli.runs.node_logs import check_several, show_node_logs
    from runctl.cli.runs.show_log import show_kept_log, show_log
    from runctl.runs.asking import machine_of, refresh

    record = cli.store.get(run_id)
    if record.needs_refresh and (node is not None or record.nodes is not None):
        # Its machines are others after each attempt.
        (record,) = refresh(cli.session, [record])
    check_several(record, node)
    if record.nodes is not None and not (record.needs_refresh and (follow or wait)):
        code = show_node_logs(cli, record, follow=follow or wait, rank=node, tail=tail)
        return code if wait else 0
    if record.needs_refresh:
        if follow or wait:
            from runctl.cli.runs.show_log import follow_to_the_end

            code = follow_to_the_end(cli, record, tail=tail, rank=node)
            return code if wait else 0
        (record,) = refresh(cli.session, [record])
        if record.nodes is not None:
            show_node_logs(cli, record, follow=False, tail=tail)
            return 0
    try:
        code = show_log(cli, machine_of(cli.session, record), record, follow=follow or wait, tail=tail)
    except (NotFound, Conflict, MachineError) as error:
        if not _log_is_not_there(error):
            raise
        (record,) = refresh(cli.session, [record])
        code = show_kept_log(cli, record, error, tail=tail)
    except Unreachable as error:
        if follow or wait:
            raise
        code = show_kept_log(cli, record, error, tail=tail)
    return code if wait else 0


def _log_is_not_there(error: RunctlError) -> bool:
    """The machine has ended or is stopped, or keeps nothing of the run any more."""
    return isinstance(error, NotFound) or error.code in {"not-running", "no-such-run"}


@click.command(cls=Command, name="stop", exclusive=[("--force", "--grace")])
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True, type=RUN, shell_complete=complete_runs)
@click.option(
    "--grace",
    type=DURATION,
    metavar="TIME",
    help="Wait this long between SIGTERM and SIGKILL (default: the run's own).",
)
@click.option("--force", is_flag=True, help="Kill it at once, with SIGKILL; nothing is saved.")
@click.pass_obj
def stop_command(cli: Cli, run_ids: tuple[str, ...], grace: timedelta | None, force: bool) -> None:
    """Stop runs: SIGTERM first, so that a script can save, then SIGKILL. The machines stay.

    With a run that was started with --unattended, its group and its machine end too.
    """
    from runctl.runs.stopping import stop_run

    records, lines = [], []
    for run_id in run_ids:
        stopped = stop_run(cli.session, cli.store.get(run_id), grace=grace, force=force)
        record = stopped.record
        records.append(record)
        reason = record.end_reason.value if record.end_reason is not None else "unknown"
        lines.append(
            f"{record.id} {'had ended already' if stopped.had_ended else record.state.value} ({reason})"
        )
        if stopped.had_ended and cli.settings.json:
            cli.progress.note(lines[-1])
    now = SystemClock().now()
    cli.emit(
        [as_run(record, now) for record in records],
        text=lambda: "\n".join(lines),
        ids=[record.id for record in records],
    )


@click.command(
    cls=Command,
    name="interrupt",
    examples=[("runctl runs interrupt latest --notice 30s", "see whether the script saves in half a minute")],
)
@click.argument("run_id", metavar="RUN", type=RUN, shell_complete=complete_runs)
@click.option(
    "--notice",
    type=DURATION,
    default="2m",
    show_default=True,
    metavar="TIME",
    help="How long until the machine would end.",
)
@click.pass_obj
def interrupt_command(cli: Cli, run_id: str, notice: timedelta) -> None:
    """Rehearse an interruption: a run gets its notice as if its machine were taken back, and ends.

    Nothing happens to the machine. Works with every provider, also with those that give no notice.
    """
    from runctl.runs.stopping import interrupt_run

    record = interrupt_run(cli.session, cli.store.get(run_id), notice)
    cli.emit(
        as_run(record, SystemClock().now()),
        text=lambda: f"{record.id} has its notice; runctl runs logs {record.id} --follow shows what it does",
        ids=[record.id],
    )
