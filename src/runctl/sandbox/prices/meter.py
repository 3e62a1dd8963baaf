"""What ran in the sandbox, metered as it began and ended, and what AWS would ask for it.

Its own arithmetic, as AWS has: the sandbox does not ask its client what things cost.
"""

from __future__ import annotations

import calendar
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from runctl.sandbox.prices.price_rates import other_products

LEAST_SECONDS = 60
HOUR = timedelta(hours=1)
Tags = Callable[[], Mapping[str, str]]


@dataclass
class Usage:
    """One usage type of one thing, while it is billed."""

    thing: str
    usage_type: str
    start: datetime
    usd: Callable[[datetime], Fraction]
    """For a second at that moment."""
    steps: timedelta | None
    """How long the price of a moment holds; ``None``: for all of it, but for a month's length."""
    tags: Tags
    end: datetime | None = None
    last_tags: Mapping[str, str] = field(default_factory=dict)
    free: bool = False
    least_seconds: int = LEAST_SECONDS
    """The shortest time that is billed."""

    def seconds(self, now: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The time that is billed, cut where its price may change and where a day ends."""
        end = self.end or now
        end = max(end, self.start + timedelta(seconds=self.least_seconds))
        moment = self.start
        while moment < end:
            midnight = moment.replace(hour=0, minute=0, second=0) + timedelta(days=1)
            until = min(end, midnight)
            if self.steps is not None:
                held = (moment - self.start) // self.steps
                until = min(until, self.start + (held + 1) * self.steps)
            yield moment, until
            moment = until

    def held(self, moment: datetime) -> datetime:
        """When the price that holds at a moment was set."""
        return moment if self.steps is None else self.start + (moment - self.start) // self.steps * self.steps


class Meter:
    """What is billed in a sandbox, from its start on."""

    def __init__(self) -> None:
        self._usages: list[Usage] = []
        self._lock = threading.Lock()

    def instance(self, instance: Any, region: str) -> None:
        """Start metering it, with its public address."""
        from runctl.sandbox.prices.price_list import price_rows

        kind, zone = instance.instance_type, instance.availability_zone
        row = price_rows().get((kind, region))
        if instance.lifecycle == "spot":
            # Not above: moto must be imported after the server has told it of its images.
            from runctl.sandbox.prices.spot_prices import spot_price

            def spot(moment: datetime) -> Fraction:
                return Fraction(spot_price(kind, region, zone, moment) or 0) / 3600

            self._begin(instance, f"SpotUsage:{kind}", spot, HOUR)
        elif row is not None and row.on_demand is not None:
            usd = Fraction(row.on_demand) / 3600
            self._begin(instance, f"BoxUsage:{kind}", lambda _: usd)
        usage_type, price = _price(region, "PublicIPv4:InUseAddress")
        self._begin(instance, usage_type, lambda _: price / 3600)

    def volume(self, volume: Any, region: str) -> None:
        """It exists, or has another size or speed, from now on: that is no other volume, and has no other minute."""
        least = LEAST_SECONDS
        with self._lock:
            for usage in self._usages:
                if usage.thing == volume.id:
                    least = usage.least_seconds = 0
        self.end(volume)
        shape = volume.shape
        kind = {"io1": ".piops", "standard": ""}.get(shape.volume_type, f".{shape.volume_type}")
        amounts = [(f"EBS:VolumeUsage{kind}", Fraction(shape.size))]
        if shape.volume_type == "gp3":
            amounts.append(("EBS:VolumeP-IOPS.gp3", Fraction(max((shape.iops or 0) - 3000, 0))))
            faster = Fraction(max((shape.throughput or 0) - 125, 0), 1024)
            amounts.append(("EBS:VolumeP-Throughput.gp3", faster))
        elif shape.iops and shape.volume_type in {"io1", "io2"}:
            amounts.append((f"EBS:VolumeP-IOPS{kind}", Fraction(shape.iops)))
        for name, amount in amounts:
            usage_type, price = _price(region, name)
            if amount:
                self._begin(volume, usage_type, _monthly(price * amount), least=least)

    def snapshot(self, snapshot: Any, region: str, gib: Fraction) -> None:
        """It holds that much from now on."""
        usage_type, price = _price(region, "EBS:SnapshotUsage")
        self._begin(snapshot, usage_type, _monthly(price * gib), least=0)

    def end(self, thing: Any, *, taken_back: bool = False) -> None:
        """Stop metering it; a spot instance that was taken back in its first hour was not billed at all."""
        end = now()
        with self._lock:
            for usage in self._usages:
                if usage.thing == thing.id and usage.end is None:
                    usage.end, usage.last_tags = end, dict(usage.tags())
                    usage.free = taken_back and "SpotUsage" in usage.usage_type and end - usage.start < HOUR

    def days(
        self, since: datetime, until: datetime, wanted: Callable[[Mapping[str, str]], bool]
    ) -> dict[str, dict[str, Fraction]]:
        """USD by day and usage type, of things with the tags that are wanted."""
        moment = now()
        found: dict[str, dict[str, Fraction]] = {}
        with self._lock:
            usages = [
                usage
                for usage in self._usages
                if not usage.free and wanted(usage.tags() if usage.end is None else usage.last_tags)
            ]
        for usage in usages:
            for start, end in usage.seconds(moment):
                if since <= start < until:
                    day = found.setdefault(f"{start:%Y-%m-%d}", {})
                    usd = usage.usd(usage.held(start)) * ((end - start) // timedelta(seconds=1))
                    day[usage.usage_type] = day.get(usage.usage_type, Fraction(0)) + usd
        return found

    def _begin(
        self,
        thing: Any,
        usage_type: str,
        usd: Callable[[datetime], Fraction],
        steps: timedelta | None = None,
        least: int = LEAST_SECONDS,
    ) -> None:
        def tags() -> Mapping[str, str]:
            return {tag["key"]: tag["value"] for tag in thing.get_tags()}

        with self._lock:
            self._usages.append(Usage(thing.id, usage_type, now(), usd, steps, tags, least_seconds=least))


def _price(region: str, usage: str) -> tuple[str, Fraction]:
    """The usage type as the region calls it, and USD for a unit."""
    for product in other_products(region):
        if product.attributes["usagetype"].endswith(usage):
            return product.attributes["usagetype"], Fraction(product.tiers[0][1])
    raise LookupError(usage)


def _monthly(usd: Fraction) -> Callable[[datetime], Fraction]:
    def second(moment: datetime) -> Fraction:
        return usd / (calendar.monthrange(moment.year, moment.month)[1] * 86_400)

    return second


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
