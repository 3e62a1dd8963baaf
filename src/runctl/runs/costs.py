"""What was spent, for the commands of ``runctl cost`` and for programs: the ledger, settled and summed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock, SystemClock
from runctl.core.database import Database, StateError
from runctl.core.errors import InstanceEnded, RunctlError, UsageError
from runctl.core.ids import InstanceId
from runctl.core.run_models import Run
from runctl.costs.billing import NOTHING, day_start, month_start
from runctl.costs.entries import By, Entry, EntryKind
from runctl.costs.ledger import Ledger
from runctl.costs.reconciliation import Reconciliation, reconcile
from runctl.costs.report import CostReport, RunTime, by_run, report
from runctl.machines.session import Session
from runctl.machines.settling import settle
from runctl.providers.interface import require
from runctl.runs.one_sums import comparable
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.run_times import run_times
from runctl.runs.stored.stored_data import note_all_stored


def cost_report(
    by: By | str = By.RUN,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    cached: bool = False,
    session: Session | None = None,
    clock: Clock | None = None,
) -> CostReport:
    """What was spent from ``since`` (the first of this month without it) until ``until`` (now without it).

    The cloud is asked first what became of what goes on in the ledger; ``cached`` leaves that out. Times are UTC.
    Raises `UsageError` where nothing lies in between.
    """
    (found,) = cost_reports([By(by)], since=since, until=until, cached=cached, session=session, clock=clock)
    return found


def cost_reports(
    groupings: Sequence[By],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    cached: bool = False,
    session: Session | None = None,
    clock: Clock | None = None,
) -> list[CostReport]:
    """As `cost_report`, of the same moment by several groupings: all of them come to the same total."""
    session, clock = session or Session(), clock or SystemClock()
    now = clock.now()
    until = min(until or now, now)
    since = since or month_start(until)
    if since >= now:
        raise UsageError(f"nothing was spent yet since {since:%Y-%m-%d %H:%M} (UTC): that is in the future")
    if since >= until:
        raise UsageError(f"--since {since:%Y-%m-%d %H:%M} is not before --until {until:%Y-%m-%d %H:%M} (UTC)")
    unsettled: Sequence[str] = ()
    if not cached:
        unsettled = (*settle(session, clock=clock).problems, *note_all_stored(session, clock))
    ledger, in_sandbox = Ledger(session.database), session.in_sandbox
    return [
        report(
            ledger.touching(since, until, in_sandbox=in_sandbox, beyond=by),
            by,
            since,
            until,
            run_times(session.database) if by is By.RUN else (),
            closed=ledger.closed_sums(by, since, until, in_sandbox=in_sandbox),
            unsettled=unsettled,
        )
        for by in groupings
    ]


@dataclass(frozen=True)
class AttemptCost:
    """What one attempt of a run cost, with all that came and went with its machine."""

    attempt: int
    instance_id: str
    instance_type: str
    market: str
    zone: str | None
    started_at: datetime
    ended_at: datetime | None
    usd: Decimal
    saved_usd: Decimal
    end_reason: str


@dataclass(frozen=True)
class RunCost:
    """What a run cost."""

    run_id: str
    attempts: tuple[AttemptCost, ...]
    storage_usd: Decimal
    """What it keeps in an object store, as far as that was looked at."""
    usd: Decimal
    """The sum over the attempts and the storage, to the last digit."""
    saved_usd: Decimal
    """What the same machines would have cost more on demand, for the same time."""
    exact: bool
    """Every price and every end is known from the provider; what goes on is counted until now."""
    as_of: datetime


def cost_of_run(
    reference: str, *, cached: bool = False, session: Session | None = None, clock: Clock | None = None
) -> RunCost:
    """What the run cost so far. Raises what `RunStore.get` raises."""
    session, clock = session or Session(), clock or SystemClock()
    from runctl.runs.records.store import run_store

    run_id = run_store(session).get(reference).id
    if not cached:
        settle(session, clock=clock)
        list(note_all_stored(session, clock))
    return run_cost(session, run_id, clock.now())


def run_cost(session: Session, run_id: str, now: datetime) -> RunCost:
    """As `cost_of_run`, of what the ledger has."""
    times = _times_on_machines_of(session.database, {run_id})
    instances = [time.instance_id for time in times]
    return _run_cost(run_id, Ledger(session.database).of_runs([run_id], instances), times, now)


def note_end(session: Session, record: RunRecord, instance_id: InstanceId | None = None) -> None:
    """The ledger has when the run's machine (or that one of it) has ended, as far as the provider can be asked."""
    there = session.in_region(record.region)
    with suppress(RunctlError):
        provider = there.provider(record.provider)
        there.ledger_record(record.provider).seen(provider.instance(instance_id or record.instance_id))


def as_the_ledger_knows(session: Session, record: RunRecord, gone: InstanceEnded) -> InstanceEnded:
    """Of a machine of which the provider knows nothing any more: what it said of the end to whoever looked in time."""
    with suppress(RunctlError):
        books = session.in_region(record.region).ledger_record(record.provider)
        entry = books.ledger.of_resource(*books.scope[:2], record.instance_id) if gone.forgotten else None
        if entry is not None and entry.state.is_over and not entry.estimated:
            why = ": the provider took it back" if entry.taken_back else ""
            return InstanceEnded(
                f"{gone.message}{why}", interrupted=entry.taken_back, at=entry.ended_at, forgotten=True
            )
    return gone


def note_past_ends(session: Session, record: RunRecord) -> None:
    """As `note_end`, for the machines of all earlier attempts once the run has ended: when they were left they were
    there still."""
    if record.has_ended:
        for each in record.past:
            for machine in each.machines or (each.instance_id,):
                note_end(session, record, machine)


def with_ledger_costs(session: Session, runs: Sequence[Run], now: datetime) -> tuple[Run, ...]:
    """The runs with what the ledger has of their machines, where it has all of them and every price.

    As in `Run.cost`, of the instances alone: without disks and addresses. A run within the minimum that a machine of
    the user's own is billed for adds nothing to the bill; it is told what its time costs all the same.
    """
    if not runs:
        return ()
    wanted: set[str] = {run.id for run in runs}
    try:
        times = _times_on_machines_of(session.database, wanted)
        entries = Ledger(session.database).of_runs(list(wanted), [time.instance_id for time in times])
    except StateError:
        return tuple(runs)
    machines = [entry for entry in entries if entry.kind is EntryKind.INSTANCE]
    return tuple(_with_ledger_cost(run, machines, times, now) for run in runs)


def _times_on_machines_of(database: Database, run_ids: Collection[str]) -> list[RunTime]:
    """Of other runs, too, that have their own share of the same machines."""
    times = run_times(database)
    machines = {time.instance_id for time in times if time.run_id in run_ids}
    return [time for time in times if time.instance_id in machines]


def _with_ledger_cost(run: Run, machines: Sequence[Entry], times: Sequence[RunTime], now: datetime) -> Run:
    """Pure."""
    own = [time for time in times if time.run_id == run.id]
    ids = {time.instance_id for time in own}
    entries = [entry for entry in machines if entry.run_id == run.id or entry.resource_id in ids]
    known = {entry.resource_id for entry in entries}
    if not ids <= known or not all(entry.is_priced for entry in entries):
        return run
    found = _run_cost(run.id, entries, [time for time in times if time.instance_id in known], now)
    return replace(run, cost=found.usd or run.cost)


def _run_cost(run_id: str, entries: Sequence[Entry], times: Sequence[RunTime], now: datetime) -> RunCost:
    """Pure."""
    known: dict[str, list[RunTime]] = {}
    for time in sorted(times, key=lambda time: time.start):
        known.setdefault(time.instance_id, []).append(time)
    attempts: dict[str, AttemptCost] = {}
    exact = bool(entries)
    stored = NOTHING
    for entry in entries:
        began = entry.began_at
        if entry.kind is EntryKind.STORAGE:
            stored += entry.cost(now)
            exact = exact and entry.is_priced and not entry.estimated
            continue
        machine = entry.machine or entry.resource_id
        if began is None or machine is None:
            continue
        exact = exact and entry.is_priced and not entry.estimated
        usd = listed = NOTHING
        for key, start, end in by_run(entry, began, entry.ended_at or now, known):
            if key == run_id:
                last = end == (entry.ended_at or now)
                until = end + entry.minimum if last and entry.ended_at is not None else end
                usd += entry.cost(until) - entry.cost(start)
                listed += entry.list_cost(until) - entry.list_cost(start)
        attempts[machine] = _with(attempts.get(machine), entry, machine, usd, listed - usd, known)
    found = sorted(attempts.values(), key=lambda attempt: (attempt.attempt, attempt.started_at))
    return RunCost(
        run_id,
        tuple(found),
        stored,
        sum((each.usd for each in found), stored),
        sum((each.saved_usd for each in found), NOTHING),
        exact,
        now,
    )


def _with(
    attempt: AttemptCost | None,
    entry: Entry,
    machine: str,
    usd: Decimal,
    saved: Decimal,
    known: dict[str, list[RunTime]],
) -> AttemptCost:
    """The attempt with what this entry adds to it. Pure."""
    if attempt is not None:
        usd, saved = usd + attempt.usd, saved + attempt.saved_usd
    if attempt is not None and entry.machine is not None:
        return AttemptCost(**{**vars(attempt), "usd": usd, "saved_usd": saved})
    times = known.get(machine, ())
    number = entry.attempt or (times[0].attempt if times else 1)
    return AttemptCost(
        number,
        machine,
        "" if entry.machine else entry.shape,
        entry.market,
        entry.zone,
        entry.began_at or entry.opened_at,
        entry.ended_at,
        usd,
        saved,
        entry.end_reason,
    )


def reconcile_costs(
    provider: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    session: Session | None = None,
    clock: Clock | None = None,
) -> Reconciliation:
    """The ledger held against what the provider has billed for runctl's things, over whole days in UTC.

    Without ``since`` and ``until``, this month up to today's first second; on its first day, the month before. Raises
    `Unsupported`, `UsageError` for less than a day, and what `Bill.amounts` raises.
    """
    session, clock = session or Session(), clock or SystemClock()
    now = clock.now()
    until = day_start(until or now)
    since = day_start(since) if since is not None else month_start(until - timedelta(days=1))
    if since >= until:
        raise UsageError(
            f"the bill is by the day (UTC), and there is not one whole day from {since:%Y-%m-%d} to {until:%Y-%m-%d}",
            hint="--since today --until tomorrow is today, as far as it is billed",
        )
    cloud = session.provider(provider)
    bill = require(cloud.bill)
    settle(session, clock=clock)
    list(note_all_stored(session, clock))
    amounts = bill.amounts(since, until, session.progress)
    account = cloud.scope().account or ""
    books = Ledger(session.database)
    sums = [amount.one_sum.id for amount in amounts if amount.one_sum is not None]
    known = {
        entry.id: entry
        for entry in (
            *books.touching(since, until, in_sandbox=session.in_sandbox),
            *books.of_resources(provider, account, sums),
        )
        if (entry.provider, entry.account, entry.in_sandbox) == (provider, account, session.in_sandbox)
    }
    both = comparable(amounts, list(known.values()), since, until, in_one_sum=bill.in_one_sum)
    counted = min(until, clock.now())
    ledger = {
        kind.value: report([entry for entry in both.entries if entry.kind is kind], By.KIND, since, counted)
        for kind in EntryKind
    }
    billed: dict[str, Decimal] = {}
    for amount in both.amounts:
        billed[amount.kind] = billed.get(amount.kind, NOTHING) + amount.usd
    return reconcile(
        ledger,
        billed,
        provider,
        since=since,
        until=until,
        preliminary=any(amount.preliminary for amount in amounts),
        hint=bill.hint,
        left_out=[*both.left_out, *([bill.lacks] if bill.lacks else [])],
    )
