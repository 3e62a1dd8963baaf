"""Asks AWS what machines cost, seldom: answers are kept for a while, the shipped snapshot stands in."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runctl.core.clock import Clock, parse_rfc3339, rfc3339
from runctl.core.models import InstanceState, Market
from runctl.core.progress import SILENT, Progress
from runctl.costs.prices import Price
from runctl.providers.aws import price_data
from runctl.providers.aws.price_data import SpotQuote

if TYPE_CHECKING:
    from runctl.providers.aws.calls.session import AwsSession

ON_DEMAND_KEPT = timedelta(days=7)
SPOT_KEPT = timedelta(minutes=10)
LINUX = "Linux/UNIX"


class PriceBook:
    """Prices for one session's region. A price that cannot be had is ``None``; looking it up never fails."""

    def __init__(self, session: AwsSession, clock: Clock, cache_directory: Path | None = None) -> None:
        self._session = session
        self._clock = clock
        self._directory = cache_directory
        self._spot: dict[str, tuple[datetime, tuple[SpotQuote, ...]]] = {}
        self._on_demand: dict[str, Price] = {}

    def on_demand(self, instance_type: str, progress: Progress = SILENT) -> Price | None:
        """From the price list where the account may ask it, else the snapshot."""
        kept = self._kept_on_demand().get(instance_type)
        if kept is not None:
            return kept
        price = self._from_price_list(instance_type, progress)
        if price is not None:
            self._keep_on_demand(instance_type, price)
            return price
        return price_data.snapshot_on_demand(instance_type, self._session.region)

    def known_on_demand(self, instance_type: str) -> Price | None:
        """Without asking AWS: an answer that was kept, else the snapshot."""
        kept = self._kept_on_demand().get(instance_type)
        return kept or price_data.snapshot_on_demand(instance_type, self._session.region)

    def spot_quotes(
        self, instance_types: Iterable[str], progress: Progress = SILENT
    ) -> tuple[SpotQuote, ...]:
        """The newest spot prices of these types by zone, in one call for those that are not fresh."""
        now = self._clock.now()
        wanted = sorted(set(instance_types))
        stale = [t for t in wanted if t not in self._spot or now - self._spot[t][0] > SPOT_KEPT]
        if stale:
            quotes = self._spot_history(stale, now, progress)
            for instance_type in stale:
                own = tuple(quote for quote in quotes if quote.instance_type == instance_type)
                self._spot[instance_type] = (now, own)
        return tuple(quote for t in wanted for quote in self._spot[t][1])

    def spot(self, instance_type: str, zone: str | None, progress: Progress = SILENT) -> Price | None:
        """The zone's spot price, or the dearest zone's while it is open; else the snapshot's median."""
        price = price_data.spot_price(self.spot_quotes([instance_type], progress), zone, self._clock.now())
        return price or price_data.snapshot_spot(instance_type, self._session.region)

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
        on_demand: Mapping[str, Price | None],
    ) -> Decimal | None:
        instance_type = item["InstanceType"]
        if _market(item) is Market.ON_DEMAND:
            price = on_demand[instance_type]
        else:
            zone = item.get("Placement", {}).get("AvailabilityZone", "")
            if (instance_type, zone) in quotes:
                return quotes[instance_type, zone]
            price = price_data.snapshot_spot(instance_type, self._session.region)
        return price.usd if price else None

    def _spot_history(self, types: list[str], now: datetime, progress: Progress) -> tuple[SpotQuote, ...]:
        items: list[Mapping[str, Any]] = []
        # A price is information: without it the plan says "unknown", and the launch is not held up.
        try:
            paginator = self._session.ec2.get_paginator("describe_spot_price_history")
            # With start and end at the present AWS gives the prices in force, one for each type and zone.
            for page in paginator.paginate(
                InstanceTypes=types,  # type: ignore[arg-type]  # any string: new types appear weekly
                ProductDescriptions=[LINUX],
                StartTime=now,
                EndTime=now,
            ):
                items += page["SpotPriceHistory"]
        except Exception as error:  # noqa: BLE001
            progress.detail(f"no spot price history: {error}")
        return price_data.newest_spot_quotes(items)

    def _from_price_list(self, instance_type: str, progress: Progress) -> Price | None:
        wanted = {
            "instanceType": instance_type,
            "regionCode": self._session.region,
            "operatingSystem": "Linux",
            "preInstalledSw": "NA",
            "tenancy": "Shared",
            "capacitystatus": "Used",
        }
        try:
            answer = self._session.pricing.get_products(
                ServiceCode="AmazonEC2",
                Filters=[{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()],
                MaxResults=10,
            )
        except Exception as error:  # noqa: BLE001 (see _spot_history)
            progress.detail(f"no price list: {error}")
            return None
        return price_data.on_demand_from_price_list(answer["PriceList"], self._clock.now())

    @property
    def _file(self) -> Path | None:
        # The sandbox's prices must not be taken for AWS's.
        if self._directory is None or self._session.endpoint is not None:
            return None
        return self._directory / f"aws-on-demand-{self._session.region}.json"

    def _kept_on_demand(self) -> Mapping[str, Price]:
        if not self._on_demand and self._file is not None:
            self._on_demand.update(_read_kept(self._file, self._clock.now()))
        return self._on_demand

    def _keep_on_demand(self, instance_type: str, price: Price) -> None:
        self._on_demand[instance_type] = price
        if self._file is not None:
            _write_kept(self._file, instance_type, price, self._clock.now())


def _market(item: Mapping[str, Any]) -> Market:
    return Market.SPOT if item.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND


def _read_kept(file: Path, now: datetime) -> dict[str, Price]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            instance_type: Price(Decimal(entry["usd"]), entry["source"], current=True)
            for instance_type, entry in content.items()
            if timedelta(0) <= now - parse_rfc3339(entry["at"]) <= ON_DEMAND_KEPT
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return {}


def _write_kept(file: Path, instance_type: str, price: Price, now: datetime) -> None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = {}
    if not isinstance(content, dict):
        content = {}
    content[instance_type] = {"usd": str(price.usd), "source": price.source, "at": rfc3339(now)}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as sink:
            json.dump(content, sink)
        os.replace(sink.name, file)  # noqa: PTH105 (pathlib's would do the same)
    except OSError:
        return
