"""Which EBS volume suits what it is for: a type, its performance, and why."""

from __future__ import annotations

from decimal import Decimal

from runctl.core.money import monthly
from runctl.providers.abilities.volume_plans import Suggestion
from runctl.providers.aws.ebs.type_table import TYPES
from runctl.providers.aws.prices.items import Item
from runctl.providers.aws.prices.region_rates import RegionRates


def suggest(purpose: str, size_gib: int, rates: RegionRates) -> Suggestion:
    """What a volume of that size should be, for one of `runctl.providers.abilities.volume_plans.PURPOSES`."""
    gp3 = TYPES["gp3"]
    included = 0 if gp3.throughput is None else gp3.throughput[0]
    if purpose == "datasets":
        throughput = 500
        return Suggestion(
            "gp3",
            None,
            throughput,
            f"read over and over by parallel loaders: {throughput} MiB/s on SSD{_extra(rates, throughput, included)};"
            " the 3,000 IOPS are included",
        )
    if purpose == "checkpoints":
        throughput = 250
        seconds = 10 * 1024 // throughput
        return Suggestion(
            "gp3",
            None,
            throughput,
            f"few large files written in one go: {throughput} MiB/s save 10 GiB in {seconds} s, before a spot machine's"
            f" two minutes are over{_extra(rates, throughput, included)}",
        )
    if purpose == "scratch":
        return Suggestion(
            "gp3",
            None,
            None,
            "data that can be downloaded or built again needs only the cheapest SSD at its included performance",
        )
    if purpose == "archive":
        return _archive(size_gib, rates)
    raise AssertionError(purpose)


def _extra(rates: RegionRates, throughput: int, included: int) -> str:
    price = rates.rates.get(Item.GP3_THROUGHPUT)
    more = "" if price is None else f", for {monthly(price.cost(Decimal(throughput)))}"
    return f"{more} more than {included} MiB/s" if more else ""


def _archive(size_gib: int, rates: RegionRates) -> Suggestion:
    least, most = TYPES["sc1"].size_gib
    sc1, gp3 = rates.first(Item.SC1), rates.first(Item.GP3)
    if least <= size_gib <= most:
        saved = "" if sc1 is None or gp3 is None else f" {100 - round(100 * sc1.usd / gp3.usd)} %"
        return Suggestion(
            "sc1",
            None,
            None,
            f"seldom read, and then from end to end: sc1 costs{saved} less than gp3; small reads are slow on it",
        )
    reason = f"sc1, the cheapest, is {least} to {most:,} GiB: gp3 without extras"
    if size_gib < least and sc1 is not None and gp3 is not None and sc1.usd * least < gp3.usd * size_gib:
        reason += f"; --size {least} would make it sc1 and cheaper, {monthly(sc1.usd * least)}"
    return Suggestion("gp3", None, None, reason)
