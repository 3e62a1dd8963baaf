"""Writes into the ledger what is rented at one provider: before the call that rents, and with each word of it after.

Before a rent the entry must be durable: where the state file cannot be written, nothing is rented (`StateError`).
After it nothing here makes a command fail: what could not be written is found again by the tag of its intent, when the
ledger is next compared with the cloud (`runctl.machines.settling`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

from runctl.core.clock import Clock, SystemClock
from runctl.core.config import BudgetConfig
from runctl.core.database import Database, StateError
from runctl.core.errors import BudgetExceeded, RunctlError, Unsupported
from runctl.core.journal import Change, Effect, Standing
from runctl.core.machine_models import Instance, Market, Snapshot, Volume
from runctl.core.progress import SILENT, Progress
from runctl.core.tags import ATTEMPT, INTENT, RANK
from runctl.costs.billing import Interval, PriceStep, whole_seconds
from runctl.costs.budget import BudgetUse, BudgetVerdict, Limit, judge, limits_of, periods, use
from runctl.costs.entries import Entry, EntryKind, EntryState
from runctl.costs.ledger import Ledger
from runctl.costs.rates import Per
from runctl.costs.sightings import (
    ended,
    priced,
    with_address,
    with_instance,
    with_its_machine,
    with_snapshot,
    with_spot_prices,
    with_volume,
)
from runctl.costs.spending import spending
from runctl.machines.intents import LIVES_UNSEEN, Intent, IntentState, Kind

if TYPE_CHECKING:
    from runctl.machines.creation import Thing
    from runctl.machines.renting import Rental
    from runctl.providers.instance_plans import CreatePlan
    from runctl.providers.interface import Provider

_CREATED: dict[Kind, EntryKind] = {
    Kind.VOLUME: EntryKind.VOLUME,
    Kind.CLONE: EntryKind.VOLUME,
    Kind.MOVE: EntryKind.VOLUME,
    Kind.SNAPSHOT: EntryKind.SNAPSHOT,
}


class LedgerRecord:
    """The ledger's entries at one provider, account and region."""

    def __init__(
        self,
        database: Database,
        provider: Provider,
        clock: Clock | None = None,
        *,
        budget: BudgetConfig | None = None,
        over_budget: bool = False,
        progress: Progress = SILENT,
    ) -> None:
        """With ``over_budget`` what exceeds the ``budget`` is rented nevertheless, and the ledger says so."""
        self.ledger = Ledger(database)
        self.provider = provider
        self.clock = clock or SystemClock()
        self._budget = budget or BudgetConfig()
        self._over_budget = over_budget
        self._progress = progress
        self._list_prices: dict[str, Decimal] = {}

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Around what is read and then written: another command changes nothing meanwhile. Raises `StateError`."""
        outside = self.ledger
        with outside.changing() as inside:
            self.ledger = inside
            try:
                yield
            finally:
                self.ledger = outside

    @cached_property
    def scope(self) -> tuple[str, str, str]:
        """Provider, account and region."""
        scope = self.provider.scope()
        return self.provider.name, scope.account or "", scope.region or ""

    def blank(self, kind: EntryKind, token: str | None, at: datetime | None = None) -> Entry:
        """The entry of something of which nothing is known yet."""
        provider, account, region = self.scope
        rules = self.provider.billing
        return Entry(
            kind=kind,
            provider=provider,
            account=account,
            region=region,
            resource_id=None,
            token=token,
            opened_at=whole_seconds(at or self.clock.now()),
            state=EntryState.INTENDED,
            in_sandbox=not self.provider.costs_money(),
            minimum_seconds=0 if kind is EntryKind.SNAPSHOT else int(rules.minimum.total_seconds()),
        )

    def review(self, plan: CreatePlan, count: int = 1) -> None:
        """Whether the budget lets a plan be carried out so many times, before anybody is asked about it; much use of it
        is told.

        The cloud is asked first what there is, so that what other computers have rented counts. Raises
        `BudgetExceeded`.
        """
        limits = limits_of(self._budget)
        if plan.market is Market.OWNED or not limits or self.ledger.of_token(plan.client_token) is not None:
            return
        now = self.clock.now()
        try:
            shown = self.provider.instances(include_ended=True)
            with self.changing():
                for instance in shown:
                    self.seen_instance(instance, now)
        except RunctlError as error:
            self._progress.warn(
                f"the budget counts what this computer knows: the provider could not be asked: {error.message}"
            )
        verdict = self._judge(plan, count, self._uses(self.ledger, limits, now))
        for warning in verdict.warnings:
            self._progress.warn(warning)
        if self._over_budget:
            for sentence in verdict.exceeded:
                self._progress.warn(f"over budget: {sentence}")

    def about_to_rent(self, plan: CreatePlan, count: int = 1) -> None:
        """So many machines of the plan are in the ledger, and may be rented. Raises `BudgetExceeded`, `StateError`.

        Of two commands at once, the second one sees what the first one is about to rent.
        """
        if plan.market is Market.OWNED:
            return
        limits, now = limits_of(self._budget), self.clock.now()
        run_id, _, attempt = plan.tags.get(ATTEMPT, "").partition("/")
        entry = replace(
            self.blank(EntryKind.INSTANCE, plan.client_token),
            zone=plan.zone,
            shape=plan.instance_type,
            market=plan.market.value,
            project=plan.project,
            owner=plan.owner,
            name=plan.name,
            run_id=run_id or None,
            attempt=int(attempt) if attempt.isdigit() else None,
            expected=_expected(plan),
        )
        with self.ledger.changing() as ledger:
            if ledger.select("token = ?", (plan.client_token,)):
                return
            if limits:
                verdict = self._judge(plan, count, self._uses(ledger, limits, now))
                entry = replace(entry, over_budget=bool(verdict.exceeded))
            more = [replace(entry, token=token_of_rank(plan.client_token, rank)) for rank in range(1, count)]
            ledger.put(entry, *more)

    def _uses(self, ledger: Ledger, limits: Sequence[Limit], now: datetime) -> tuple[BudgetUse, ...]:
        in_sandbox = not self.provider.costs_money()
        # Where the cloud's clock is ahead of this one, what was just rented begins later than now.
        about_to_be = ledger.about_to_be(now - LIVES_UNSEEN, in_sandbox=in_sandbox)
        spendings = {}
        for period in periods(limits):
            found = spending(ledger, period.start(now), now, in_sandbox=in_sandbox, ahead=timedelta(days=1))
            spendings[period] = replace(found, entries=(*found.entries, *about_to_be))
        return use(limits, spendings, now)

    def _judge(self, plan: CreatePlan, count: int, uses: Sequence[BudgetUse]) -> BudgetVerdict:
        hourly = _expected(plan)
        expected = None if hourly is None else hourly * count
        verdict = judge(uses, expected, plan.project, plan.owner, self._budget.warn_at)
        if verdict.exceeded and not self._over_budget:
            many = f"{count} × " if count > 1 else ""
            raise BudgetExceeded(
                f"renting {many}{plan.instance_type} would go beyond the budget: {verdict.exceeded[0]}",
                hint="--over-budget rents it nevertheless; the limits are in [budget] of the configuration"
                " (runctl config show)",
            )
        return verdict

    def heard(self, rental: Rental) -> None:
        """For `Rentals`: a machine was rented, has changed, or was given back."""
        with suppress(RunctlError), self.changing():
            self.seen_instance(rental.instance, rental.time, rental.plan)

    def seen_instance(self, instance: Instance, now: datetime, plan: CreatePlan | None = None) -> None:
        """The ledger has what the provider says of a machine, and what came and goes with it. Raises `StateError`."""
        if instance.market is Market.OWNED:
            return
        token = _own_token(instance)
        known = self._known(instance.id, token)
        if known is None:
            known = self._new(EntryKind.INSTANCE, token, instance.created_at)
        on_spot = plan is not None and plan.market is Market.SPOT
        list_usd = plan.on_demand_price.usd if on_spot and plan and plan.on_demand_price else None
        if list_usd is None and instance.market is Market.SPOT:
            list_usd = self._list_prices.get(instance.instance_type)
        entry = with_instance(known, instance, now, self.provider.billing, list_usd)
        parts = {part.part: part for part in self._parts(instance.id)}
        if plan is not None:
            for part in ("root", "data"):
                if part not in parts and part in plan.volume_prices:
                    parts[part] = self._disk(entry, instance, plan, part)
        address = parts.get("address")
        billed = self.provider.billing.bills_addresses and instance.public_ip is not None
        if billed or (address is not None and address.current is not None):
            known_address = address or self._part(entry, instance, EntryKind.ADDRESS, "address")
            parts["address"] = with_address(known_address, instance, now)
        parts = {name: with_its_machine(part, known, entry) for name, part in parts.items()}
        self.ledger.put(entry, *parts.values())

    def seen(self, thing: Thing) -> None:
        """For `creating` and others who have just made or changed a thing; a ledger that cannot be written can wait."""
        with suppress(RunctlError), self.changing():
            if isinstance(thing, Instance):
                self.seen_instance(thing, self.clock.now())
            elif isinstance(thing, Volume):
                self.seen_volume(thing, self.clock.now())
            elif isinstance(thing, Snapshot):
                self.seen_snapshot(thing, self.clock.now())
            # A group costs nothing itself; its machines are seen as machines.

    def seen_volume(self, volume: Volume, now: datetime) -> None:
        """The ledger has what the provider says of a volume. Raises `StateError`."""
        token = volume.tags.get(INTENT)
        known = self._known(volume.id, None if volume.ends_with_instance else token)
        if known is None and volume.ends_with_instance and volume.attached_to is not None:
            known = self._disk_of(volume)
        if known is None:
            known = self._new(EntryKind.VOLUME, token, volume.created_at)
        self.ledger.put(with_volume(known, volume, now))

    def seen_snapshot(self, snapshot: Snapshot, now: datetime) -> None:
        """The ledger has what the provider says of a snapshot. Raises `StateError`."""
        token = snapshot.tags.get(INTENT)
        known = self._known(snapshot.id, token) or self._new(EntryKind.SNAPSHOT, token, snapshot.created_at)
        self.ledger.put(with_snapshot(known, snapshot, now))

    def intended(self, intent: Intent) -> None:
        """For `IntentStore`: what is about to be made besides machines is written down; what was refused, taken out.

        Raises `StateError` where it cannot be written down: nothing was made yet.
        """
        kind = _CREATED.get(intent.kind)
        if intent.state is IntentState.NOTHING and not intent.kind.is_deletion:
            with suppress(StateError):
                self.ledger.drop(intent.token)
                self.drop_ranks(intent.token)
            return
        is_new = intent.state is IntentState.OPEN and intent.resource_id is None
        if kind is not None and is_new and self.ledger.of_token(intent.token) is None:
            entry = self.blank(kind, intent.token, intent.created_at)
            self.ledger.put(replace(entry, name=intent.name, project=intent.project))

    def drop_ranks(self, token: str, least: int = 1) -> None:
        """Of the machines of that intent, those of this rank and above were not rented. Raises `StateError`."""
        for entry in self.ledger.select("token LIKE ? || '/%'", (token,)):
            rank = str(entry.token).rpartition("/")[2]
            if rank.isdigit() and int(rank) >= least:
                self.ledger.drop(str(entry.token))

    def changed(self, change: Change) -> None:
        """For a provider's journal: a volume or a snapshot is gone."""
        if (
            change.standing is Standing.DONE
            and change.effect is Effect.GONE
            and change.kind in {"volume", "snapshot"}
            and len(change.subject) == 1
        ):
            with suppress(RunctlError), self.changing():
                known = self._known(change.subject[0], None)
                if known is not None and not known.state.is_over:
                    self.ledger.put(ended(known, self.clock.now()))

    def price_spot(self) -> None:
        """Spot machines have the prices that the market had. Raises what `Prices.spot_history` raises, `StateError`.

        One that goes on is asked for only when its price may have moved.
        """
        rules, now = self.provider.billing, self.clock.now()
        found = [
            entry
            for entry in self.ledger.unfinished(*self.scope)
            if entry.kind is EntryKind.INSTANCE and entry.market == Market.SPOT.value and entry.intervals
            if entry.state is EntryState.ENDED
            or now - (entry.began_at or now) >= rules.spot_price_holds_for
            or not entry.is_priced
        ]
        pools: dict[tuple[str, str | None], list[Entry]] = {}
        for entry in found:
            pools.setdefault((entry.shape, entry.zone), []).append(entry)
        for (instance_type, zone), entries in pools.items():
            since = min(entry.began_at or now for entry in entries)
            steps = self._spot_steps(instance_type, zone, since)
            self.ledger.put(*(with_spot_prices(entry, steps, rules) for entry in entries))

    def _spot_steps(self, instance_type: str, zone: str | None, since: datetime) -> list[PriceStep]:
        prices = self.provider.prices
        if isinstance(prices, Unsupported):
            return []
        history = prices.spot_history([instance_type], self.provider.region, since, zone)
        return sorted((PriceStep(point.since, point.usd) for point in history), key=lambda step: step.at)

    def price_addresses(self) -> None:
        """Addresses have their price, also those that were gone before anybody asked for it. Raises `StateError`."""
        prices = self.provider.prices
        unpriced = self.ledger.unpriced(*self.scope, EntryKind.ADDRESS)
        if isinstance(prices, Unsupported) or not unpriced:
            return
        rate = prices.public_ip(self.provider.region)
        if rate is not None:
            self.ledger.put(*(priced(entry, rate.usd) for entry in unpriced))

    def learn_list_prices(self, instance_types: Iterable[str]) -> None:
        """What these cost on demand is known from now on, as far as the provider says it."""
        prices = self.provider.prices
        if isinstance(prices, Unsupported):
            return
        for instance_type in instance_types:
            rate = prices.instance(instance_type, self.provider.region, Market.ON_DEMAND)
            if rate is not None:
                self._list_prices[instance_type] = rate.usd

    def _known(self, resource_id: str, token: str | None) -> Entry | None:
        found = self.ledger.of_resource(*self.scope[:2], resource_id)
        return found or self._intended(token)

    def _intended(self, token: str | None) -> Entry | None:
        """What was to be rented by that intent, and has no id yet."""
        found = self.ledger.of_token(token) if token else None
        return found if found is not None and found.resource_id is None else None

    def _new(self, kind: EntryKind, token: str | None, at: datetime | None) -> Entry:
        """The entry of something that is seen for the first time; of several things of one intent, as of a group that
        rents one machine after the other, the first one has the token."""
        free = token is not None and self.ledger.of_token(token) is None
        return self.blank(kind, token if free else None, at)

    def _parts(self, instance_id: str) -> list[Entry]:
        return self.ledger.select(
            "provider = ? AND account = ? AND machine = ?", (*self.scope[:2], instance_id)
        )

    def _part(self, entry: Entry, instance: Instance, kind: EntryKind, part: str) -> Entry:
        blank = self.blank(kind, None, instance.created_at)
        return replace(
            blank,
            machine=instance.id,
            part=part,
            zone=entry.zone,
            project=entry.project,
            owner=entry.owner,
            name=entry.name,
            run_id=entry.run_id,
            attempt=entry.attempt,
            state=EntryState.OPEN,
        )

    def _disk(self, entry: Entry, instance: Instance, plan: CreatePlan, part: str) -> Entry:
        size = plan.root_volume_size_gib if part == "root" else plan.data_volume_size_gib
        begun = Interval(whole_seconds(instance.created_at), None, plan.volume_prices[part].usd, Per.MONTH)
        disk = self._part(entry, instance, EntryKind.VOLUME, part)
        return replace(disk, shape="" if size is None else f"{size} GiB", intervals=(begun,))

    def _disk_of(self, volume: Volume) -> Entry | None:
        """The disk that a plan had and that is this volume: of its size, and not named yet."""
        assert volume.attached_to is not None  # noqa: S101 - looked at by the caller
        for part in self._parts(volume.attached_to):
            unnamed = part.kind is EntryKind.VOLUME and part.resource_id is None
            if unnamed and part.shape.split(" ", maxsplit=1)[0] in {"", str(volume.size_gib)}:
                return part
        blank = self.blank(EntryKind.VOLUME, None, volume.created_at)
        machine = self.ledger.of_resource(*self.scope[:2], volume.attached_to)
        if machine is None:
            return None
        return replace(
            blank, machine=volume.attached_to, part=volume.id, run_id=machine.run_id, attempt=machine.attempt
        )


def token_of_rank(token: str, rank: int) -> str:
    """Of the ledger's row of one of several machines that one intent rents. Pure."""
    return f"{token}/{rank}" if rank else token


def _own_token(instance: Instance) -> str | None:
    token, rank = instance.tags.get(INTENT), instance.tags.get(RANK, "0")
    return token_of_rank(token, int(rank)) if token and rank.isdigit() else token


def _expected(plan: CreatePlan) -> Decimal | None:
    """What a machine counts for before it has cost anything: an hour of it. Pure."""
    return None if plan.price is None else plan.price.usd
