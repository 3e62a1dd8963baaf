"""Runs are stopped, or interrupted for a rehearsal, wherever they are."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from runctl._dataclasses import dataclass
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.core.clock import SystemClock
from runctl.core.errors import Conflict, MachineError, NotFound
from runctl.machines.session import Session
from runctl.runs.asking import machine_of, refresh, with_news_elsewhere
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import from_status


@dataclass(frozen=True)
class Stopped:
    """What became of a run that was to be stopped."""

    record: RunRecord
    had_ended: bool
    """It had ended by itself before the request came."""


def stop_run(
    session: Session, record: RunRecord, *, grace: timedelta | None = None, force: bool = False
) -> Stopped:
    """The run has ended: SIGTERM, ``grace`` (the run's own), SIGKILL; ``force`` goes straight to that.

    Of a run that nobody watches the group has ended, too.
    """
    if record.needs_refresh:
        from runctl.runs.unattended.ending import stop_unattended

        return Stopped(*stop_unattended(session, record, grace=grace, force=force))
    (record,) = with_news_elsewhere(session, [record])
    if record.has_ended:
        return _stop_recovery(session, record)
    if record.nodes is not None:
        from runctl.runs.nodes.asking import stop_nodes

        record = stop_nodes(session, record, grace=grace, force=force)
        run_store(session).put(record)
        return Stopped(record, had_ended=record.end_reason is not EndReason.STOPPED)
    try:
        machine = machine_of(session, record)
    except NotFound:
        (record,) = refresh(session, [record])
        if not record.has_ended:
            raise
        return _stop_recovery(session, record)
    session.progress.step(f"stopping {record.id} on {record.instance_id}")
    status = machine.agent.stop(record.id, record.attempt, grace=grace, force=force)
    record = from_status(record, status, SystemClock().now())
    run_store(session).put(record)
    return Stopped(record, had_ended=record.end_reason is not EndReason.STOPPED)


def _stop_recovery(session: Session, record: RunRecord) -> Stopped:
    """Of a run that has ended: nobody starts another attempt. Whoever prepares one finds that out, and gives back what
    is rented for it."""
    from runctl.runs.stored.elsewhere import end_elsewhere
    from runctl.runs.stored.recipe import Recipes

    if record.end_reason not in RETRIED:
        return Stopped(record, had_ended=True)
    message = f"stopped on request after attempt {record.attempt} ended as {record.end_reason.value}"
    stopped = replace(record, end_reason=EndReason.STOPPED, message=message)
    recipe = Recipes(session.database).find(record.id)
    if not run_store(session).replace(stopped, record):
        # Its next attempt has begun meanwhile.
        return stop_run(session, run_store(session).get(record.id))
    trouble = end_elsewhere(session, record, recipe)
    if trouble:
        session.progress.warn(f"{record.id} is not recovered from here any more, but {trouble}")
    return Stopped(stopped, had_ended=False)


def interrupt_run(session: Session, record: RunRecord, notice: timedelta) -> RunRecord:
    """The run is ending as if its machine had just been taken back; the machine stays. Raises `Conflict`."""
    ended = Conflict(f"{record.id} has ended, so it cannot be interrupted", code="has-ended")
    if record.has_ended:
        raise ended
    machine = machine_of(session, record)
    try:
        status = machine.agent.interrupt(record.id, record.attempt, notice=notice)
    except MachineError as error:
        if error.code == "has-ended":
            raise ended from error
        raise
    record = from_status(record, status, SystemClock().now())
    run_store(session).put(record)
    return record
