"""Which EBS volume suits what it is for: a type, its performance, and why."""

from __future__ import annotations

from decimal import Decimal

from runctl.core.money import usd
from runctl.costs.purposes import Suggestion
from runctl.providers.aws.ebs.types import TYPES


def suggest(purpose: str, size_gib: int) -> Suggestion:
    """What a volume of that size should be, for one of `runctl.costs.purposes.PURPOSES`."""
    gp3 = TYPES["gp3"]
    included = 0 if gp3.throughput is None else gp3.throughput[0]
    if purpose == "datasets":
        throughput = 500
        more = usd(gp3.usd_per_mibps * (throughput - included))
        return Suggestion(
            "gp3",
            None,
            throughput,
            f"read over and over by parallel loaders: {throughput} MiB/s on SSD, for {more} a month more than"
            f" {included} MiB/s; the 3,000 IOPS are included",
        )
    if purpose == "checkpoints":
        throughput = 250
        more = usd(gp3.usd_per_mibps * (throughput - included))
        seconds = 10 * 1024 // throughput
        return Suggestion(
            "gp3",
            None,
            throughput,
            f"few large files written in one go: {throughput} MiB/s save 10 GiB in {seconds} s, before a spot machine's"
            f" two minutes are over, for {more} a month more",
        )
    if purpose == "scratch":
        return Suggestion(
            "gp3",
            None,
            None,
            "data that can be downloaded or built again needs only the cheapest SSD at its included performance",
        )
    if purpose == "archive":
        return _archive(size_gib)
    raise AssertionError(purpose)


def _archive(size_gib: int) -> Suggestion:
    sc1, gp3 = TYPES["sc1"], TYPES["gp3"]
    least = sc1.size_gib[0]
    if least <= size_gib <= sc1.size_gib[1]:
        saved = 100 - round(100 * sc1.usd_per_gib / gp3.usd_per_gib)
        return Suggestion(
            "sc1",
            None,
            None,
            f"seldom read, and then from end to end: sc1 costs {saved} % less than gp3; small reads are slow on it",
        )
    reason = f"sc1, the cheapest, is {least} to {sc1.size_gib[1]:,} GiB: gp3 without extras"
    if size_gib < least and sc1.usd_per_gib * least < gp3.usd_per_gib * size_gib:
        reason += (
            f"; --size {least} would make it sc1 and cheaper, {usd(sc1.usd_per_gib * Decimal(least))} a month"
        )
    return Suggestion("gp3", None, None, reason)
