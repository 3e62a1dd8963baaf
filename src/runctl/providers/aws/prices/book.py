"""Asks AWS what things cost, seldom: answers are kept for a while, and what is shipped with runctl stands in."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl.core.clock import Clock
from runctl.core.machine_models import InstanceState, Market
from runctl.core.progress import SILENT, Progress
from runctl.costs.kept_answers import Kept, PriceCache, digest_of
from runctl.costs.rates import Per, Rate, Tier, TieredRate
from runctl.providers.abilities.prices import PricePoint
from runctl.providers.aws.calls.errors import error_code
from runctl.providers.aws.prices import price_list, shipped, spot_history
from runctl.providers.aws.prices.items import Item
from runctl.providers.aws.prices.price_list import Group, Question
from runctl.providers.aws.prices.region_rates import PER, RegionRates
from runctl.providers.aws.prices.spot_history import SpotQuote

if TYPE_CHECKING:
    from runctl.providers.aws.calls.session import AwsSession

LIST_KEPT = timedelta(days=7)
"""So long the price list is not asked again; AWS changes it a few times a year."""
SPOT_KEPT = timedelta(minutes=10)
FAILED, FAILED_KEPT = "price-list-failed", timedelta(minutes=5)
"""Where the list cannot be reached, or may not be read, no command waits for it again within so long."""
MOST_SINGLE_REQUESTS = 12
"""The price list is asked type by type for so many, each for every region; for more the region's list is shorter."""
LINUX = "Linux/UNIX"


class _Shared:
    """What the books of all regions know: one question about a type is answered for each."""

    def __init__(self) -> None:
        self.on_demand: dict[str, Mapping[str, Rate]] = {}
        self._locks: dict[str, threading.Lock] = {}

    def lock_of(self, instance_type: str) -> threading.Lock:
        """For whoever asks AWS about the type."""
        return self._locks.setdefault(instance_type, threading.Lock())


class PriceBook:
    """Prices for one session's region. A price that cannot be had is ``None``; looking it up never fails."""

    def __init__(self, session: AwsSession, clock: Clock, cache_directory: Path | None = None) -> None:
        self._session = session
        self._clock = clock
        self._directory = cache_directory
        self._spot: dict[str, tuple[datetime, tuple[SpotQuote, ...]]] = {}
        self._rates: dict[Group, tuple[datetime, bool, Mapping[Item, TieredRate]]] = {}
        """When each group was read, whether AWS was asked then, and what is known."""
        self._shared = _Shared()
        self._elsewhere: dict[str, PriceBook] = {}

    @property
    def region(self) -> str:
        """Whose prices these are."""
        return self._session.region

    def in_region(self, region: str) -> PriceBook:
        """The same for another region."""
        session = self._session.in_region(region)
        if session is self._session:
            return self
        if region not in self._elsewhere:
            there = type(self)(session, self._clock, self._directory)
            there._shared = self._shared
            self._elsewhere[region] = there
        return self._elsewhere[region]

    @property
    def public(self) -> PriceCache:
        """Answers that are the same for every account."""
        endpoint = self._session.endpoint
        return self._cache("aws" if endpoint is None else f"aws-{digest_of(endpoint)}")

    @property
    def own(self) -> PriceCache:
        """Answers that are this account's, as it names zones in its own way."""
        session = self._session
        who = (session.profile or os.environ.get("AWS_PROFILE"), os.environ.get("AWS_ACCESS_KEY_ID"))
        return self._cache(f"aws-{digest_of(session.endpoint, 'account', *who)}")

    # Everything but machines

    @property
    def rates(self) -> RegionRates:
        """What volumes, snapshots, addresses, objects and images cost, without asking AWS."""
        return self.current_rates()

    def current_rates(self, *groups: Group, progress: Progress = SILENT) -> RegionRates:
        """The same; for these groups AWS is asked, unless it was within `LIST_KEPT`."""
        found = dict(shipped.shipped_rates(self.region).rates)
        for group in Group:
            known = self._rates_of(group, progress, ask=group in groups)
            newer = {
                item: rate for item, rate in known.items() if rate.current or rate.as_of > found[item].as_of
            }
            found |= newer
        return RegionRates(self.region, found)

    def _rates_of(self, group: Group, progress: Progress, *, ask: bool) -> Mapping[Item, TieredRate]:
        """Read and asked for once, as a listing wants the price of each volume."""
        now = self._clock.now()
        since, asked, known = self._rates.get(group, (now, False, None))
        if known is not None and (asked or not ask) and now - since <= LIST_KEPT:
            return known
        name = f"rates-{self.region}-{group.value}"
        kept = self.public.read(name, LIST_KEPT)
        if kept is None and ask:
            kept = self._ask_rates(group, name, progress)
        found = _rates_in(kept or self.public.read(name), current=kept is not None)
        self._rates[group] = (now, ask, found)
        return found

    def _ask_rates(self, group: Group, name: str, progress: Progress) -> Kept | None:
        wanted = price_list.questions(group, self.region)
        with ThreadPoolExecutor(len(wanted)) as pool:
            answered = list(pool.map(lambda question: self._documents(question, progress), wanted))
        documents = [document for each in answered if each is not None for document in each]
        content = {
            item.value: [[str(tier.start), str(tier.usd)] for tier in tiers]
            for item, tiers in price_list.rates_in(documents).items()
        }
        if not content:
            return None
        if None not in answered:
            self.public.write(name, content)
        return Kept(self._clock.now(), content)

    # Machines

    def on_demand(self, instance_type: str, progress: Progress = SILENT) -> Rate | None:
        """From the price list where the account may ask it, else an older answer, else the shipped list."""
        with self._shared.lock_of(instance_type):
            if self._fresh_on_demand(instance_type) is None:
                documents = self._documents(price_list.machine_question(instance_type), progress)
                if documents is not None:
                    prices = price_list.machine_prices(documents)
                    content = {region: str(usd) for region, usd in prices.items()}
                    self.public.write(self._on_demand_name(instance_type), content)
                    kept = Kept(self._clock.now(), content)
                    self._shared.on_demand[instance_type] = _hourly_in(kept, current=True)
        return self.known_on_demand(instance_type)

    def on_demand_of(self, instance_types: Sequence[str], progress: Progress = SILENT) -> Mapping[str, Rate]:
        """Of several types, side by side; of many, the region's whole list in one go.

        Those without a price are left out.
        """
        missing = [name for name in instance_types if self._fresh_on_demand(name) is None]
        whole: Mapping[str, Rate] = {}
        if len(missing) > MOST_SINGLE_REQUESTS:
            whole = self._whole_region(progress)
        elif missing:
            with ThreadPoolExecutor(len(missing)) as pool:
                list(pool.map(lambda name: self.on_demand(name, progress), missing))
        found = {name: whole.get(name) or self.known_on_demand(name) for name in instance_types}
        return {name: price for name, price in found.items() if price is not None}

    def _whole_region(self, progress: Progress) -> Mapping[str, Rate]:
        name = f"on-demand-in-{self.region}"
        kept = self.public.read(name, LIST_KEPT)
        if kept is None:
            documents = self._documents(price_list.region_question(self.region), progress)
            if documents is None:
                return {}
            content = {kind: str(usd) for kind, usd in price_list.prices_by_type(documents).items()}
            self.public.write(name, content)
            kept = Kept(self._clock.now(), content)
        return _hourly_in(kept, current=True)

    def known_on_demand(self, instance_type: str) -> Rate | None:
        """Without asking AWS."""
        fresh = self._fresh_on_demand(instance_type) or {}
        if self.region in fresh:
            return fresh[self.region]
        older = _hourly_in(self.public.read(self._on_demand_name(instance_type)), current=False)
        known = [older.get(self.region), shipped.snapshot_on_demand(instance_type, self.region)]
        return max(filter(None, known), key=lambda rate: rate.as_of, default=None)

    def _fresh_on_demand(self, instance_type: str) -> Mapping[str, Rate] | None:
        """By region; ``None`` where AWS has to be asked."""
        known = self._shared.on_demand
        if instance_type not in known:
            kept = self.public.read(self._on_demand_name(instance_type), LIST_KEPT)
            found = _hourly_in(kept, current=True)
            if not found:
                return None
            known[instance_type] = found
        return known[instance_type]

    def _on_demand_name(self, instance_type: str) -> str:
        # These have price lists of their own, in which other regions are missing.
        apart = next((f"{realm}-" for realm in ("cn", "eusc") if self.region.startswith(f"{realm}-")), "")
        return f"on-demand-{apart}{instance_type}"

    def spot_quotes(
        self, instance_types: Iterable[str], progress: Progress = SILENT
    ) -> tuple[SpotQuote, ...]:
        """The newest spot prices of these types by zone, in one call for those that are not fresh."""
        now = self._clock.now()
        wanted = sorted(set(instance_types))
        stale = [t for t in wanted if t not in self._spot or now - self._spot[t][0] > SPOT_KEPT]
        if stale:
            quotes = self._ask_spot(stale, now, progress)
            for instance_type in stale:
                own = tuple(quote for quote in quotes if quote.instance_type == instance_type)
                self._spot[instance_type] = (now, own)
        return tuple(quote for t in wanted for quote in self._spot[t][1])

    def spot(self, instance_type: str, zone: str | None, progress: Progress = SILENT) -> Rate | None:
        """The zone's spot price, or the dearest zone's while it is open; else the shipped list's median."""
        price = spot_history.spot_price(self.spot_quotes([instance_type], progress), zone, self._clock.now())
        return price or shipped.snapshot_spot(instance_type, self.region)

    def spot_history(
        self,
        instance_types: Sequence[str],
        since: datetime,
        until: datetime | None = None,
        zone: str | None = None,
    ) -> tuple[PricePoint, ...]:
        """Every spot price from ``since`` on, and the one that held then, by pool and time."""
        where: Any = {} if zone is None else {"AvailabilityZone": zone}
        # With start and end at the present AWS gives the prices in force, one for each type and zone.
        pages = self._session.ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=list(instance_types),  # type: ignore[arg-type]  # any string: new types appear weekly
            ProductDescriptions=[LINUX],
            StartTime=since,
            EndTime=until or self._clock.now(),
            **where,
        )
        return spot_history.price_points(item for page in pages for item in page["SpotPriceHistory"])

    def hourly(self, described: Iterable[Mapping[str, Any]]) -> dict[str, Decimal | None]:
        """USD per hour by instance id for ``DescribeInstances`` items, in at most one call.

        ``None`` for those that have ended: they cost nothing any more.
        """
        items = list(described)
        going = [item for item in items if not InstanceState(item["State"]["Name"]).is_over]
        spot_types = {item["InstanceType"] for item in going if _market(item) is Market.SPOT}
        quotes = (
            {(q.instance_type, q.zone): q.usd for q in self.spot_quotes(spot_types)} if spot_types else {}
        )
        on_demand = {t: self.known_on_demand(t) for t in {i["InstanceType"] for i in going}}
        costs = {item["InstanceId"]: self._hourly(item, quotes, on_demand) for item in going}
        return {item["InstanceId"]: costs.get(item["InstanceId"]) for item in items}

    def _hourly(
        self,
        item: Mapping[str, Any],
        quotes: Mapping[tuple[str, str], Decimal],
        on_demand: Mapping[str, Rate | None],
    ) -> Decimal | None:
        instance_type = item["InstanceType"]
        if _market(item) is Market.ON_DEMAND:
            price = on_demand[instance_type]
        else:
            zone = item.get("Placement", {}).get("AvailabilityZone", "")
            if (instance_type, zone) in quotes:
                return quotes[instance_type, zone]
            price = shipped.snapshot_spot(instance_type, self.region)
        return price.usd if price else None

    def _ask_spot(self, types: list[str], now: datetime, progress: Progress) -> tuple[SpotQuote, ...]:
        # A price is information: without it the plan says "unknown", and the launch is not held up.
        try:
            return spot_history.newest_spot_quotes(self.spot_history(types, now, now))
        except Exception as error:  # noqa: BLE001
            progress.detail(f"no spot price history: {error}")
            return ()

    def _documents(self, question: Question, progress: Progress) -> list[str] | None:
        """What ``GetProducts`` has; ``None`` where it cannot be asked, or could not be within `FAILED_KEPT`."""
        if self.public.read(FAILED, FAILED_KEPT) is not None:
            return None
        filters: Any = [
            {"Type": "TERM_MATCH", "Field": field, "Value": value}
            for field, value in question.attributes.items()
        ]
        try:
            pages = self._session.pricing.get_paginator("get_products").paginate(
                ServiceCode=question.service, Filters=filters
            )
            return [document for page in pages for document in page["PriceList"]]
        except Exception as error:  # noqa: BLE001 (see _ask_spot)
            progress.detail(f"no price list: {error}")
            if _lasts(error):
                self.public.write(FAILED, str(error))
            return None

    def _cache(self, folder: str) -> PriceCache:
        return PriceCache(None if self._directory is None else self._directory / folder, self._clock)


def _lasts(error: Exception) -> bool:
    """Whether the next question will not be answered either: no right, or no way there."""
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.exceptions import HTTPClientError

    denied = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
    return error_code(error) in denied or isinstance(error, NoConnection | HTTPClientError)


def _market(item: Mapping[str, Any]) -> Market:
    return Market.SPOT if item.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND


def _list_source(at: datetime, *, current: bool) -> str:
    return f"AWS price list, {at:%Y-%m-%d}" + ("" if current else ", which could not be asked again")


def _hourly_in(kept: Kept | None, *, current: bool) -> Mapping[str, Rate]:
    """By region; nothing for what was damaged."""
    if kept is None:
        return {}
    source = _list_source(kept.at, current=current)
    try:
        return {
            str(region): Rate(Decimal(usd), Per.HOUR, kept.at, source, current)
            for region, usd in kept.content.items()
        }
    except (AttributeError, TypeError, ValueError, ArithmeticError):
        return {}


def _rates_in(kept: Kept | None, *, current: bool) -> Mapping[Item, TieredRate]:
    """By item; nothing for what was damaged."""
    if kept is None:
        return {}
    source = _list_source(kept.at, current=current)
    try:
        return {
            Item(name): TieredRate(
                tuple(Tier(Decimal(start), Decimal(usd)) for start, usd in tiers),
                PER[Item(name)],
                kept.at,
                source,
                current,
            )
            for name, tiers in kept.content.items()
        }
    except (AttributeError, TypeError, ValueError, ArithmeticError):
        return {}
