"""The public functions of `runctl.runs`: the same as the commands', for a program."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from runctl.core.clock import SystemClock
from runctl.core.errors import Conflict, NotFound
from runctl.core.run_models import Run
from runctl.machines.session import Session
from runctl.runs.asking import machine_of, refresh
from runctl.runs.records.shown_run import as_run
from runctl.runs.records.store import run_store
from runctl.runs.run_logs.reading import find_kept, follow_run
from runctl.runs.stopping import interrupt_run, stop_run


def follow_logs(
    reference: str,
    on_log: Callable[[bytes], None],
    *,
    follow: bool = False,
    session: Session | None = None,
) -> Run:
    """Every byte of the run's log has gone to ``on_log``, up to now, or with ``follow`` to the run's end.

    What is kept on this computer is used where the machine does not give it any more. Raises `NotFound` (code
    ``log-gone``) when nothing is kept, and what the machine raises.
    """
    from runctl.runs.run_logs.archive import log_archive

    session = session or Session()
    record = run_store(session).get(reference)
    if record.needs_refresh:
        (record,) = refresh(session, [record])
    if record.nodes is not None:
        from runctl.runs.nodes.following import follow_merged

        return as_run(follow_merged(session, record, on_log, to_the_end=follow), SystemClock().now())
    try:
        machine = machine_of(session, record)
        record = follow_run(session, machine, record, on_log, to_the_end=follow).record
    except (NotFound, Conflict) as error:
        (record,) = refresh(session, [record])
        record, kept = find_kept(session, record)
        pieces = list(log_archive().read(record.id, record.attempt))
        if not pieces:
            raise NotFound(
                f"{error.message}; nothing of its log was followed here",
                hint=kept.elsewhere or error.hint,
                code="log-gone",
            ) from error
        for _, data in pieces:
            on_log(data)
    return as_run(record, SystemClock().now())


def stop(
    reference: str,
    *,
    grace: timedelta | None = None,
    force: bool = False,
    session: Session | None = None,
) -> Run:
    """The run has ended; one that had ended already is as it was. Raises `NotFound`, `UsageError`, `Unreachable`."""
    session = session or Session()
    stopped = stop_run(session, run_store(session).get(reference), grace=grace, force=force)
    return as_run(stopped.record, SystemClock().now())


def interrupt(
    reference: str, *, notice: timedelta = timedelta(minutes=2), session: Session | None = None
) -> Run:
    """An interruption is rehearsed: the run gets its notice as if its machine were taken back, and saves; the machine
    stays. Returns at once. Raises `Conflict` for a run that has ended, `NotFound`, `UsageError`, `Unreachable`."""
    session = session or Session()
    record = interrupt_run(session, run_store(session).get(reference), notice)
    return as_run(record, SystemClock().now())
