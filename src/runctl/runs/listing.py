"""The runs that this computer knows: listed, and one of them shown.

Where no run is known, nothing is loaded that asks machines or sums costs: such a list is there at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from runctl.core.clock import SystemClock
from runctl.core.run_models import Run
from runctl.machines.session import Session
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store


def list_runs(
    *,
    instance: str | None = None,
    project: str | None = None,
    name: str | None = None,
    states: Sequence[str] = (),
    limit: int | None = 50,
    cached: bool = False,
    session: Session | None = None,
) -> tuple[Run, ...]:
    """The runs that this computer knows, newest first.

    The machines are asked about those that are not known to have ended, unless ``cached``. ``states`` are states
    (`RunPhase`) or end reasons; a run in any of them is listed.
    """
    session = session or Session()
    # A state is known only once the machines have been asked.
    records = run_store(session).list(
        instance=instance, project=project, name=name, limit=None if states else limit
    )
    if not records:
        return ()
    records, now = _asked(session, records, cached=cached), SystemClock().now()
    wanted = {state.lower() for state in states}
    runs = _shown(records, now)
    found = [run for run in runs if not wanted or wanted & {run.state.value, (run.end_reason or "").lower()}]
    return _with_costs(session, found[:limit], now)


def show_run(reference: str, *, cached: bool = False, session: Session | None = None) -> Run:
    """One run, by its id, an unambiguous beginning of it, or its name. Raises `NotFound`, `UsageError`."""
    session = session or Session()
    (record,) = _asked(session, [run_store(session).get(reference)], cached=cached)
    now = SystemClock().now()
    (run,) = _with_costs(session, _shown([record], now), now)
    return run


def _asked(session: Session, records: Sequence[RunRecord], *, cached: bool) -> Sequence[RunRecord]:
    """The records with what the machines say now of runs that may still change, unless ``cached``."""
    if cached:
        return records
    from runctl.runs.asking import refresh

    return refresh(session, records)


def _shown(records: Sequence[RunRecord], now: datetime) -> list[Run]:
    from runctl.runs.records.shown_run import as_run

    return [as_run(record, now) for record in records]


def _with_costs(session: Session, runs: Sequence[Run], now: datetime) -> tuple[Run, ...]:
    from runctl.runs.costs import with_ledger_costs

    return with_ledger_costs(session, runs, now)
