"""``--wait``: a run is followed to its end, over all of its attempts where they are started by whoever waits."""

from __future__ import annotations

from datetime import timedelta

from runctl.agent.end_reason import RETRIED
from runctl.cli.context import Cli
from runctl.cli.runs.show_log import show_log
from runctl.core.clock import SystemClock
from runctl.core.errors import Conflict, InstanceEnded, NotFound, RunctlError, passes_by_itself
from runctl.core.waiting import attempts
from runctl.machines.machine import Machine
from runctl.runs.asking import machine_of, refresh
from runctl.runs.end_report import exit_code
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.shown_run import as_run
from runctl.runs.records.updates import end_of
from runctl.runs.recovering.watching import DeadlineWatch

OUT_OF_REACH_SECONDS = 600.0
"""For which a run's store and its provider may be out of reach, or too busy, while its next attempt is prepared."""
PATIENCE_SECONDS = 300.0
"""For a provider to say that a machine has ended that nobody can reach."""


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
        # It may have been moved while its log was read.
        going = record if record.attempt > shown and not record.has_ended else recovered_from(cli, record)
        following, record = reached(cli, going) if going is not None else (None, record)
        if following is None:
            end = end_of(record, record.attempt)
            if record.attempt > shown and end is not None:
                code = exit_code(end)
                machine = _last_machine(cli, machine, record)
            break
        machine = following
    if emits and cli.settings.json:
        cli.emit(as_run(record, SystemClock().now()), text=str)
    return code, machine, record


def reached(cli: Cli, record: RunRecord) -> tuple[Machine | None, RunRecord]:
    """The machine that the run is on, and its attempt there: a later one where a machine was taken back before anybody
    heard of it. ``None`` where the run has ended for good.

    Raises what `machine_of` raises, where nobody says for minutes that the machine has ended.
    """
    clock = SystemClock()
    until = clock.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return machine_of(cli.session, record), record
        except RunctlError as error:
            if not isinstance(error, InstanceEnded | NotFound | Conflict) and not passes_by_itself(error):
                raise
            (record,) = refresh(cli.session, [record])
            if not record.has_ended:
                if clock.monotonic() >= until:
                    raise
                clock.sleep(2.0)
                continue
        following = recovered_from(cli, record)
        if following is None:
            return None, record
        record, until = following, clock.monotonic() + PATIENCE_SECONDS


def _last_machine(cli: Cli, machine: Machine, record: RunRecord) -> Machine:
    """The one that the run has ended on, unseen, after it had left ``machine``; its results are there. ``machine``
    where that does not run either. Raises what `machine_of` raises, where nobody answers for minutes."""
    for waited in attempts(SystemClock(), timedelta(seconds=PATIENCE_SECONDS)):
        try:
            return machine_of(cli.session, record)
        except (InstanceEnded, NotFound, Conflict):
            # It has ended, or was stopped: nothing can be fetched from it now.
            return machine
        except RunctlError as error:
            if not passes_by_itself(error) or waited >= PATIENCE_SECONDS:
                raise
    return machine


def recovered_from(cli: Cli, record: RunRecord) -> RunRecord | None:
    """`recovered`, after an end that another machine changes."""
    return recovered(cli, record) if record.end_reason in RETRIED else None


def recovered(cli: Cli, record: RunRecord) -> RunRecord | None:
    """The next attempt, which has started; ``None`` where there is none."""
    from runctl.runs.recovering.outcome import BeingRecovered, Outcome, StoreAway
    from runctl.runs.recovering.recover import recover_run
    from runctl.runs.stored.recipe import Recipes

    recipe = Recipes(cli.session.database).find(record.id)
    if recipe is None or not recipe.auto_resume:
        return None
    cli.progress.note(f"recovering {record.id}; Ctrl-C gives back what is rented for that")
    clock, told = SystemClock(), ""
    until = clock.monotonic() + OUT_OF_REACH_SECONDS
    while True:
        try:
            done = recover_run(cli.session, record, once=False)
        except BeingRecovered:
            cli.progress.step(f"waiting for another command that recovers {record.id}")
            clock.sleep(2.0)
            continue
        except RunctlError as error:
            # The run's store, or its provider, may answer in a moment: nobody else sees to the run.
            in_vain = error.rented_on and not isinstance(error, StoreAway)
            if in_vain or not passes_by_itself(error) or clock.monotonic() >= until:
                raise
            if error.message != told:
                told = error.message
                cli.progress.warn(f"{record.id}: {error.message}; trying again")
            clock.sleep(2.0)
            continue
        until = clock.monotonic() + OUT_OF_REACH_SECONDS
        if done.outcome is Outcome.GOES_ON and done.record.has_ended:
            cli.progress.step(f"{record.id} {done.why}")
            clock.sleep(2.0)
            continue
        cli.progress.note(f"{record.id} {done.why}")
        return None if done.outcome is Outcome.ENDED else done.record
