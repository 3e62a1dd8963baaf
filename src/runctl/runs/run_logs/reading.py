"""A run's log is followed with a copy kept on this computer, or read from what is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runctl.core.clock import SystemClock
from runctl.machines.machine import Machine, reach
from runctl.machines.session import Session
from runctl.providers.registry import is_this_computer
from runctl.runs.costs import note_past_ends
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import with_end
from runctl.runs.run_logs.follow import Followed, follow

if TYPE_CHECKING:
    from runctl.runs.run_logs.sources import KeptLog


def follow_run(
    session: Session,
    machine: Machine,
    record: RunRecord,
    on_log: Callable[[bytes], None],
    *,
    offset: int = 0,
    to_the_end: bool = True,
) -> Followed:
    """`runctl.runs.run_logs.follow.follow`, with a copy of the log kept on this computer."""
    from runctl.runs.run_logs.archive import log_archive

    # The log of a run on this computer is here already.
    here = is_this_computer(record.provider)
    keep = None if here else log_archive().writer(record.id, record.attempt, session.progress.warn)
    try:
        followed = follow(
            record,
            machine,
            run_store(session),
            clock=SystemClock(),
            on_log=on_log,
            offset=offset,
            to_the_end=to_the_end,
            keep=keep,
        )
        note_past_ends(session, followed.record)
        return followed
    finally:
        if keep is not None:
            keep.close()


def find_kept(session: Session, record: RunRecord) -> tuple[RunRecord, KeptLog]:
    """What can be had of the log of a run whose machine does not give it, and the record with the end it tells of."""
    from runctl.runs.run_logs.archive import log_archive
    from runctl.runs.run_logs.sources import find_kept_log

    there = session.in_region(record.region)
    kept = find_kept_log(
        record,
        log_archive(),
        provider=there.provider(record.provider),
        agent_on=lambda instance: reach(there, instance).agent,
        progress=session.progress,
    )
    if kept.end is not None and record.end_reason is not kept.end.reason:
        ended = with_end(record, kept.end)
        # Unless it was stopped, or has gone on as another attempt, while that was read.
        run_store(session).replace(ended, record)
        record = ended
    return record, kept
