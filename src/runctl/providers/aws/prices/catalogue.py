"""What EC2 rents in every region: instance types with their prices, zones and placement scores; kept for a while."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from runctl.core.errors import ConfigError, RunctlError
from runctl.core.machine_models import Market
from runctl.core.progress import SILENT, Progress
from runctl.costs.kept_answers import PriceCache
from runctl.costs.rates import Per, Rate
from runctl.providers.abilities.catalogue import Catalogue, MachineOffer, OfferQuery, Offers, UnreadRegion
from runctl.providers.aws.calls.errors import our_errors, raising_our_errors
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2 import network
from runctl.providers.aws.ec2.images import InstanceType, instance_type_of
from runctl.providers.aws.ec2.type_choice import fits
from runctl.providers.aws.prices.book import PriceBook
from runctl.providers.aws.prices.spot_history import newest_spot_quotes

OFFERS_KEPT = timedelta(minutes=10)
FACTS_KEPT = timedelta(days=1)
"""Which regions there are, and which types and zones each has."""
SCORES_KEPT = timedelta(hours=6)
"""EC2 limits how many different questions it answers in a day."""
MOST_SCORED = 10
"""Regions in one question (``GetSpotPlacementScores``)."""
HOME = "us-east-1"
"""Who has no region configured asks there which ones there are."""
SIDE_BY_SIDE = 16
MOST_IN_FILTER = 200
"""Values that one filter takes."""


@raising_our_errors
class AwsCatalogue(Catalogue):
    """See `Catalogue`."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def offers(self, query: OfferQuery, progress: Progress = SILENT) -> Offers:
        """From answers that are kept on this computer, where they are not older than `OFFERS_KEPT`."""
        own = self._context.prices.own
        regions = query.regions or self._regions(own)
        known = {region: _kept_offers(own, query, region) for region in regions}
        missing = [region for region, found in known.items() if found is None]
        unread: list[UnreadRegion] = []
        if missing:
            where = missing[0] if len(missing) == 1 else f"{len(missing)} regions"
            progress.step(f"asking EC2 what it rents in {where}")
            with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
                answers = list(pool.map(lambda region: self._asked(query, region, progress), missing))
            for region, answer in zip(missing, answers, strict=True):
                if isinstance(answer, UnreadRegion):
                    unread.append(answer)
                else:
                    known[region] = answer
        found = tuple(offer for answer in known.values() for offer in answer or ())
        notes: tuple[str, ...] = ()
        if query.market is Market.SPOT and found:
            scores, notes = self._scores(own, found)
            found = tuple(
                replace(offer, score=scores.get(f"{offer.instance_type}/{offer.zones[0]}")) for offer in found
            )
        return Offers(found, tuple(unread), notes)

    def _regions(self, own: PriceCache) -> tuple[str, ...]:
        kept = own.read("regions", FACTS_KEPT)
        if kept is not None:
            return tuple(map(str, kept.content))
        session = self._home()
        with our_errors(session.endpoint):
            # Those that the account has enabled.
            answer = session.ec2.describe_regions(AllRegions=False)
        names = sorted(region["RegionName"] for region in answer["Regions"])
        own.write("regions", names)
        return tuple(names)

    def _home(self) -> AwsSession:
        try:
            return self._context.session.in_region(self._context.session.region)
        except ConfigError:
            return self._context.session.in_region(HOME)

    def _asked(
        self, query: OfferQuery, region: str, progress: Progress
    ) -> tuple[MachineOffer, ...] | UnreadRegion:
        session = self._context.session.in_region(region)
        try:
            with our_errors(session.endpoint):
                found = self._offers_in(query, region, session, progress)
        except RunctlError as error:
            return UnreadRegion("aws", region, error.message, error.hint, error.code, error.exit_code)
        self._context.prices.own.write(_name_of(query, region), msgspec.to_builtins(found))
        return found

    def _offers_in(
        self, query: OfferQuery, region: str, session: AwsSession, progress: Progress
    ) -> tuple[MachineOffer, ...]:
        book = self._context.prices.in_region(region)
        spot = query.market is Market.SPOT
        types = [
            kind
            for kind in _types(session, self._context.prices.own)
            if fits(kind, query.needs) and (kind.spot or not spot)
        ]
        names = [kind.name for kind in types]
        if not names:
            return ()
        on_demand = book.on_demand_of(names, progress)
        if spot:
            return tuple(_spot_offers(book, types, on_demand, self._context.clock.now()))
        zones: dict[str, tuple[str, ...]] = {}
        for start in range(0, len(names), MOST_IN_FILTER):
            zones |= network.offered_zones(session, names[start : start + MOST_IN_FILTER])
        return tuple(
            _offer(kind, region, zones[kind.name], Market.ON_DEMAND, price, price)
            for kind in types
            if (price := on_demand.get(kind.name)) is not None and zones[kind.name]
        )

    def _scores(
        self, own: PriceCache, offers: Sequence[MachineOffer]
    ) -> tuple[Mapping[str, int], tuple[str, ...]]:
        """By type and zone, for the cheapest regions; and why some are missing."""
        cheapest = list(dict.fromkeys(str(o.region) for o in sorted(offers, key=lambda o: o.price.usd)))
        regions = sorted(cheapest[:MOST_SCORED])
        types = sorted({offer.instance_type for offer in offers if offer.region in regions})
        name = f"scores-{_digest(*types, '/', *regions)}"
        kept = own.read(name, SCORES_KEPT)
        if kept is None:
            session = self._home()
            try:
                with our_errors(session.endpoint):
                    by_zone = self._ask_scores(session, types, regions)
            except RunctlError as error:
                return {}, (f"EC2 gives no placement scores: {error.message}",)
            own.write(name, by_zone)
        else:
            by_zone = kept.content
        return {f"{kind}/{zone}": int(score) for zone, score in by_zone.items() for kind in types}, ()

    def _ask_scores(
        self, session: AwsSession, types: Sequence[str], regions: Sequence[str]
    ) -> Mapping[str, int]:
        answer: Any = session.ec2.get_spot_placement_scores(
            InstanceTypes=list(types),
            TargetCapacity=1,
            SingleAvailabilityZone=True,
            RegionNames=list(regions),
        )
        rows = [row for row in answer["SpotPlacementScores"] if row.get("AvailabilityZoneId")]
        names: dict[str, str] = {}
        for region in sorted({row["Region"] for row in rows}):
            zones = session.in_region(region).ec2.describe_availability_zones()["AvailabilityZones"]
            names |= {zone["ZoneId"]: zone["ZoneName"] for zone in zones}
        return {
            names[row["AvailabilityZoneId"]]: int(row["Score"])
            for row in rows
            if row["AvailabilityZoneId"] in names
        }


def _types(session: AwsSession, own: PriceCache) -> tuple[InstanceType, ...]:
    """Every type that the region sells and that runctl's images boot."""
    name = f"types-{session.region}"
    kept = own.read(name, FACTS_KEPT)
    try:
        if kept is not None:
            return msgspec.convert(kept.content, tuple[InstanceType, ...])
    except msgspec.ValidationError:
        pass  # asked again
    filters: Any = [
        {"Name": "hypervisor", "Values": ["nitro"]},
        {"Name": "bare-metal", "Values": ["false"]},
        {"Name": "processor-info.supported-architecture", "Values": ["x86_64"]},
    ]
    pages = session.ec2.get_paginator("describe_instance_types").paginate(Filters=filters)
    found = tuple(instance_type_of(item) for page in pages for item in page["InstanceTypes"])
    own.write(name, msgspec.to_builtins(found))
    return found


def _spot_offers(
    book: PriceBook, types: Sequence[InstanceType], on_demand: Mapping[str, Rate], now: datetime
) -> Iterator[MachineOffer]:
    kinds = {kind.name: kind for kind in types}
    for point in newest_spot_quotes(book.spot_history(list(kinds), now, now)):
        kind = kinds.get(point.instance_type)
        if kind is not None:
            price = Rate(point.usd, Per.HOUR, now, f"EC2 spot price history, {now:%Y-%m-%d}")
            yield _offer(kind, book.region, (point.zone,), Market.SPOT, price, on_demand.get(kind.name))


def _offer(
    kind: InstanceType,
    region: str,
    zones: tuple[str, ...],
    market: Market,
    price: Rate,
    on_demand: Rate | None,
) -> MachineOffer:
    return MachineOffer(
        provider="aws",
        region=region,
        zones=zones,
        instance_type=kind.name,
        market=market,
        vcpus=kind.vcpus,
        memory_gib=Decimal(kind.memory_mib) / 1024,
        gpu=kind.gpu_name,
        gpu_count=kind.gpu_count,
        gpu_memory_gib=Decimal(kind.gpu_memory_mib) / 1024 if kind.gpu_count else None,
        price=price,
        on_demand=on_demand,
    )


def _kept_offers(own: PriceCache, query: OfferQuery, region: str) -> tuple[MachineOffer, ...] | None:
    kept = own.read(_name_of(query, region), OFFERS_KEPT)
    try:
        return None if kept is None else msgspec.convert(kept.content, tuple[MachineOffer, ...])
    except msgspec.ValidationError:
        return None


def _name_of(query: OfferQuery, region: str) -> str:
    needs = msgspec.json.encode(query.needs).decode().lower()
    return f"offers-{region}-{_digest(query.market, needs)}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
