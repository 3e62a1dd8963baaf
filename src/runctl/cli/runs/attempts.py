"""``--wait``: a run is followed to its end, over all of its attempts where they are started by whoever waits."""

from __future__ import annotations

from runctl.cli.context import Cli
from runctl.cli.runs.show_log import show_log
from runctl.core.clock import SystemClock
from runctl.machines.machine import Machine
from runctl.runs.control import machine_of
from runctl.runs.records.run_record import RunRecord
from runctl.runs.recovering.watching import DeadlineWatch
from runctl.runs.recovery import RETRIED


def follow_attempts(
    cli: Cli, machine: Machine, record: RunRecord, *, emits: bool = True
) -> tuple[int, Machine, RunRecord]:
    """The log of every attempt is shown; the exit code, machine and record of the last one.

    With ``emits``, the run is the document under ``--output json``.
    """
    while True:
        with DeadlineWatch(cli.session, record):
            code = show_log(cli, machine, record, follow=True, document=True, emits=False)
        shown, record = record.attempt, cli.store.get(record.id)
        if record.attempt > shown and not record.has_ended:
            # It was moved while its log was read.
            following: tuple[Machine, RunRecord] | None = machine_of(cli.session, record), record
        else:
            followed_by = recovered(cli, record) if record.end_reason in RETRIED else None
            following = None if followed_by is None else (machine_of(cli.session, followed_by), followed_by)
        if following is None:
            break
        machine, record = following
    if emits and cli.settings.json:
        cli.emit(record.as_run(SystemClock().now()), text=str)
    return code, machine, record


def recovered(cli: Cli, record: RunRecord) -> RunRecord | None:
    """The next attempt, which has started; ``None`` where there is none."""
    from runctl.runs.recovering.recover import BeingRecovered, Outcome, recover_run
    from runctl.runs.stored.recipe import Recipes

    recipe = Recipes(cli.session.database).find(record.id)
    if recipe is None or not recipe.auto_resume:
        return None
    cli.progress.note(f"recovering {record.id}; Ctrl-C gives back what is rented for that")
    while True:
        try:
            done = recover_run(cli.session, record, once=False)
        except BeingRecovered:
            cli.progress.step(f"waiting for another command that recovers {record.id}")
            SystemClock().sleep(2.0)
            continue
        if done.outcome is Outcome.GOES_ON and done.record.has_ended:
            cli.progress.step(f"{record.id} {done.why}")
            SystemClock().sleep(2.0)
            continue
        cli.progress.note(f"{record.id} {done.why}")
        return None if done.outcome is Outcome.ENDED else done.record
