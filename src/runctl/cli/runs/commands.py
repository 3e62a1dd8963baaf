"""``runs``: every run that this computer has started, wherever it runs."""

from __future__ import annotations

import dataclasses
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import click

from runctl.agent.spec import EndReason
from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_instances, complete_runs
from runctl.cli.framework.values import COUNT, DURATION, LINES, RUN, wide_option
from runctl.cli.machines.resolve import wanted_transport
from runctl.core.amounts import counted
from runctl.core.clock import SystemClock
from runctl.core.errors import Conflict, MachineError, NotFound, RunctlError, Unreachable
from runctl.core.models import RunPhase
from runctl.runs.store import RunRecord

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
@click.option("--cached", is_flag=True, help="Show what is remembered; ask no machine.")
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
@click.option("--limit", type=COUNT, default=50, show_default=True, metavar="N", help="At most N.")
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
    # A state is known only once the machines have been asked.
    records = cli.store.list(instance=instance, project=project, name=name, limit=None if states else limit)
    if not cached:
        records = refresh_all(cli, records)
    now = SystemClock().now()
    wanted = {state.lower() for state in states}
    shown = [
        record.as_run(now)
        for record in records
        if not wanted or wanted & {record.state.value.lower(), (record.end_reason or "").lower()}
    ][:limit]

    def text() -> str:
        from runctl.render.run_table import runs_table
        from runctl.render.tables import screen_of

        return runs_table(shown, screen=screen_of(sys.stdout, wide=wide))

    cli.emit(shown, text=text, ids=[run.id for run in shown])
    if not shown:
        filtered = any((instance, project, name, states))
        cli.progress.note(
            "none of the runs that this computer knows matches; runctl runs list shows all of them"
            if filtered
            else "no runs yet; runctl aws train, or runctl local train, starts one"
        )


@click.command(cls=Command, name="show")
@click.argument("run_id", metavar="RUN", type=RUN, shell_complete=complete_runs)
@click.option("--cached", is_flag=True, help="Show what is remembered; ask no machine.")
@click.pass_obj
def show_command(cli: Cli, run_id: str, cached: bool) -> None:
    """Show one run."""
    record = cli.store.get(run_id)
    if not cached:
        (record,) = refresh_all(cli, [record])
    run = record.as_run(SystemClock().now())

    def text() -> str:
        from runctl.render.run_table import run_details

        return run_details(run)

    cli.emit(run, text=text, ids=[run.id])


@click.command(cls=Command, name="logs", exclusive=[("--wait", "--no-follow")])
@click.argument("run_id", metavar="RUN", type=RUN, shell_complete=complete_runs)
@click.option(
    "--follow/--no-follow", "-f", default=False, help="Stay until the run has ended.", show_default=True
)
@click.option("--tail", type=LINES, metavar="N", help="Begin with the last N lines.")
@click.option("--wait", is_flag=True, help="Follow, and exit with the code of the run's script.")
@click.pass_obj
def logs_command(cli: Cli, run_id: str, follow: bool, tail: int | None, wait: bool) -> int:
    """Print the log of a run.

    When its machine is gone: what was followed on this computer, and what the volume with its checkpoints has. What
    is missing is said.
    """
    from runctl.cli.runs.kept_logs import show_kept_log
    from runctl.cli.train.following import show_log

    record = cli.store.get(run_id)
    try:
        there, machine = _machine_of(cli, record)
        code = show_log(there, machine, record, follow=follow or wait, tail=tail)
    except (NotFound, Conflict, MachineError) as error:
        if not _log_is_not_there(error):
            raise
        (record,) = refresh_all(cli, [record])
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
    "--grace", type=DURATION, metavar="TIME", help="Between SIGTERM and SIGKILL (default: the run's own)."
)
@click.option("--force", is_flag=True, help="SIGKILL at once; nothing is saved.")
@click.pass_obj
def stop_command(cli: Cli, run_ids: tuple[str, ...], grace: timedelta | None, force: bool) -> None:
    """Stop runs: SIGTERM first, so that a script can save, then SIGKILL. The machines stay."""
    from runctl.runs.refresh import from_status

    stopped: list[RunRecord] = []
    for run_id in run_ids:
        record = cli.store.get(run_id)
        if not record.has_ended:
            there, machine = _machine_of(cli, record)
            there.progress.step(f"stopping {record.id} on {record.instance_id}")
            status = machine.agent.stop(record.id, record.attempt, grace=grace, force=force)
            record = from_status(record, status, SystemClock().now())
            cli.store.put(record)
        stopped.append(record)
        if record.end_reason != "STOPPED":
            cli.progress.note(f"{record.id} had ended already: {record.end_reason}")
    now = SystemClock().now()
    cli.emit(
        [record.as_run(now) for record in stopped],
        text=lambda: "\n".join(
            f"{record.id} {record.state.value} ({record.end_reason})" for record in stopped
        ),
        ids=[record.id for record in stopped],
    )


def refresh_all(cli: Cli, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Ask the machines, side by side, about runs that may still change; remember what they say."""
    open_ones: dict[tuple[str, str | None, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        if not record.has_ended:
            open_ones[(record.provider, record.region, record.instance_id)].append(record)
    if not open_ones:
        return list(records)
    cli.progress.step(f"asking {counted(len(open_ones), 'machine')} about runs")
    with ThreadPoolExecutor(max_workers=min(8, len(open_ones))) as pool:
        answers = list(pool.map(lambda group: _ask(cli, group), open_ones.values()))
    updated = {record.id: record for answer in answers for record in answer}
    for record in updated.values():
        if record.state is not RunPhase.UNKNOWN:
            cli.store.put(record)
    return [updated.get(record.id, record) for record in records]


def _ask(cli: Cli, group: list[RunRecord]) -> list[RunRecord]:
    """What became of these runs of one machine; ``unknown`` where it cannot be told."""
    from runctl.providers.ended import what_became_of
    from runctl.runs.refresh import from_status, with_its_machine
    from runctl.runs.store import ended

    now = SystemClock().now()
    try:
        there, machine = _machine_of(cli, group[0])
    except RunctlError as error:
        first = group[0]
        if isinstance(error, NotFound | Unreachable):
            provider = cli.in_region(first.region).provider(first.provider)
            gone = what_became_of(provider, first.instance_id)
            if gone is not None:
                return [with_its_machine(record, gone, now) for record in group]
        cli.progress.warn(f"{group[0].instance_id} cannot be asked: {error.message}")
        return [dataclasses.replace(record, state=RunPhase.UNKNOWN) for record in group]
    refreshed = []
    for record in group:
        try:
            status = machine.agent.status(record.id, record.attempt)
            refreshed.append(from_status(record, status, SystemClock().now()))
        except MachineError as error:
            if error.code != "no-such-run":
                raise
            refreshed.append(
                ended(
                    record,
                    reason=EndReason.NOT_STARTED.value,
                    at=record.by_its_clock(now),
                    message="the machine never heard of it",
                )
            )
        except RunctlError as error:
            gone = what_became_of(machine.provider, machine.instance.id)
            if gone is None:
                there.progress.warn(f"{record.instance_id} cannot be asked: {error.message}")
            refreshed.append(
                with_its_machine(record, gone, now)
                if gone
                else dataclasses.replace(record, state=RunPhase.UNKNOWN)
            )
    return refreshed


def _machine_of(cli: Cli, record: RunRecord):  # type: ignore[no-untyped-def]
    """The machine that a run is on, in its own region; raises `NotFound` when it has ended."""
    from runctl.core.models import InstanceState
    from runctl.machines.machine import open_machine

    there = cli.in_region(record.region)
    provider = there.provider(record.provider)
    instance = provider.instance(record.instance_id)
    if instance.state.is_over:
        raise NotFound(
            f"{record.instance_id}, on which {record.id} was started, is {instance.state.value}",
            hint=f"runctl runs logs {record.id} shows what is kept of its log; what it wrote to an EBS volume is"
            " there still",
            code="instance-ended",
        )
    if instance.state is not InstanceState.RUNNING:
        raise Conflict(
            f"{record.instance_id}, on which {record.id} was started, is {instance.state.value}",
            hint=f"runctl {record.provider} start {record.instance_id}",
            code="not-running",
        )
    return there, open_machine(provider, instance, wanted_transport(there, instance, None), there.progress)
