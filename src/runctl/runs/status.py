"""What runs and costs money at this moment: machines with their runs, what stays and costs, and the sums of it."""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock, SystemClock
from runctl.costs.billing import NOTHING, day_start, month_start
from runctl.costs.budget import BudgetUse, limits_of, periods, use
from runctl.costs.entries import Entry, EntryKind, EntryState
from runctl.costs.ledger import Ledger
from runctl.costs.rates import Per
from runctl.costs.spending import spending
from runctl.machines.session import Session
from runctl.runs.records.run_times import checkpoint_alarms, working

if TYPE_CHECKING:
    from runctl.runs.records.run_record import RunRecord

MOST_RUNS = 50
"""That are asked about."""


@dataclass(frozen=True)
class RunningMachine:
    """A machine that is billed by the hour at this moment."""

    id: str
    name: str | None
    provider: str
    region: str
    zone: str | None
    instance_type: str
    market: str
    project: str | None
    owner: str | None
    run_id: str | None
    """What it works for."""
    since: datetime
    """When it was started last."""
    usd_per_hour: Decimal | None
    """With its public address, without its disks; ``None`` where no price is known."""
    usd: Decimal
    """What it, its address and its own disks have cost so far."""
    alarm: str = ""
    """What is wrong with the checkpoints of its run, in words; empty if nothing is."""


@dataclass(frozen=True)
class KeptThing:
    """A disk or a snapshot: it costs money whether or not a machine runs."""

    id: str
    name: str | None
    kind: str
    provider: str
    region: str
    shape: str
    project: str | None
    machine: str | None
    """The instance that it came with and goes with."""
    machine_runs: bool
    since: datetime
    usd_per_month: Decimal | None
    usd: Decimal


@dataclass(frozen=True)
class Status:
    """What runs, what stays, and what it comes to."""

    as_of: datetime
    seen_at: datetime | None
    """When the cloud has last said how all of it is; ``None``: nothing goes on."""
    machines: tuple[RunningMachine, ...]
    kept: tuple[KeptThing, ...]
    usd_per_hour: Decimal
    """Of everything, disks at an hour's share of this month."""
    usd_per_month_stopped: Decimal
    """What the disks and snapshots that outlive every machine cost a month if nothing runs."""
    usd_today: Decimal
    usd_this_month: Decimal
    budget: tuple[BudgetUse, ...]
    problems: tuple[str, ...]
    """Why it may not be all, a sentence each."""


def status(
    *,
    cached: bool = False,
    asks_machines: bool = True,
    session: Session | None = None,
    clock: Clock | None = None,
) -> Status:
    """What runs and costs now. The cloud is asked first, and the machines of runs that publish their checkpoints or are
    asked for them; ``cached`` tells what was known the last time."""
    session, clock = session or Session(), clock or SystemClock()
    problems: tuple[str, ...] = ()
    if not cached:
        from runctl.machines.settling import settle

        problems = settle(session, clock=clock).problems
        if asks_machines:
            _ask_about_checkpoints(session)
    now, ledger = clock.now(), Ledger(session.database)
    limits = limits_of(session.config.budget)
    in_sandbox = session.in_sandbox
    month, today = (
        spending(ledger, start, now, in_sandbox=in_sandbox) for start in (month_start(now), day_start(now))
    )
    open_now = ledger.select("state = 'open' AND in_sandbox = ?", (int(in_sandbox),))
    return status_of(
        open_now,
        working(session.database),
        now,
        today=today.usd(now),
        month=month.usd(now),
        budget=use(
            limits,
            {
                period: spending(ledger, period.start(now), now, in_sandbox=in_sandbox)
                for period in periods(limits)
            },
            now,
        ),
        problems=problems,
        alarms=checkpoint_alarms(session.database),
    )


def _ask_about_checkpoints(session: Session) -> None:
    from runctl.runs.asking import refresh
    from runctl.runs.records.store import run_store
    from runctl.runs.stored.recipe import Recipes

    recipes = Recipes(session.database)

    def is_expected(record: RunRecord) -> bool:
        recipe = recipes.find(record.id)
        return record.store is not None or (
            recipe is not None and recipe.spec.checkpoint_schedule is not None
        )

    going = [record for record in run_store(session).list(limit=MOST_RUNS) if not record.has_ended]
    refresh(session, [record for record in going if is_expected(record)])


def status_of(
    entries: Sequence[Entry],
    runs: Mapping[str, str],
    now: datetime,
    *,
    today: Decimal,
    month: Decimal,
    budget: Sequence[BudgetUse] = (),
    problems: Sequence[str] = (),
    alarms: Mapping[str, str] = MappingProxyType({}),
) -> Status:
    """The same of what is known; ``runs`` are run ids by the instance that they work on, ``alarms``
    is what is wrong with their checkpoints, by run. Pure."""
    going = [entry for entry in entries if entry.state is EntryState.OPEN and entry.current is not None]
    parts: dict[str | None, list[Entry]] = {}
    for entry in going:
        parts.setdefault(entry.machine, []).append(entry)
    running = [entry for entry in going if entry.kind is EntryKind.INSTANCE]
    ids = {entry.resource_id for entry in running}
    stays = {EntryKind.VOLUME, EntryKind.SNAPSHOT, EntryKind.STORAGE}
    kept = [_kept(entry, ids, now) for entry in going if entry.kind in stays]
    seen = [entry.seen_at for entry in going if entry.seen_at is not None]
    return Status(
        as_of=now,
        seen_at=min(seen, default=None),
        machines=tuple(
            _running(entry, parts.get(entry.resource_id, ()), runs, alarms, now) for entry in running
        ),
        kept=tuple(sorted(kept, key=lambda each: (each.machine_runs, -(each.usd_per_month or NOTHING)))),
        usd_per_hour=sum((_per_hour(entry, now) for entry in going), NOTHING),
        usd_per_month_stopped=sum(
            (each.usd_per_month or NOTHING for each in kept if not each.machine_runs), NOTHING
        ),
        usd_today=today,
        usd_this_month=month,
        budget=tuple(budget),
        problems=tuple(problems),
    )


def _running(
    entry: Entry, parts: Sequence[Entry], runs: Mapping[str, str], alarms: Mapping[str, str], now: datetime
) -> RunningMachine:
    assert entry.current is not None  # noqa: S101 - it is going on
    assert entry.resource_id is not None  # noqa: S101 - it was rented
    address = [part for part in parts if part.kind is EntryKind.ADDRESS]
    usd = entry.current.usd
    run_id = runs.get(entry.resource_id) or entry.run_id
    start = next(each.start for each in reversed(entry.intervals) if not each.continues)
    return RunningMachine(
        id=entry.resource_id,
        name=entry.name,
        provider=entry.provider,
        region=entry.region,
        zone=entry.zone,
        instance_type=entry.shape,
        market=entry.market,
        project=entry.project,
        owner=entry.owner,
        run_id=run_id,
        since=start,
        usd_per_hour=None if usd is None else usd + sum((_per_hour(each, now) for each in address), NOTHING),
        usd=sum((each.cost(now) for each in parts), entry.cost(now)),
        alarm=alarms.get(run_id, "") if run_id is not None else "",
    )


def _kept(entry: Entry, running: set[str | None], now: datetime) -> KeptThing:
    assert entry.current is not None  # noqa: S101 - it is going on
    return KeptThing(
        id=entry.told_id or f"{entry.machine} {entry.part}",
        name=entry.name,
        kind=entry.kind.value,
        provider=entry.provider,
        region=entry.region,
        shape=entry.shape,
        project=entry.project,
        machine=entry.machine,
        machine_runs=entry.machine in running,
        since=entry.began_at or entry.opened_at,
        usd_per_month=entry.current.usd,
        usd=entry.cost(now),
    )


def _per_hour(entry: Entry, now: datetime) -> Decimal:
    current = entry.current
    if current is None or current.usd is None:
        return NOTHING
    if current.per is Per.HOUR:
        return current.usd
    return current.usd / (calendar.monthrange(now.year, now.month)[1] * 24)
