"""Requests to an object store, and data that leave a region, in a plan."""

from __future__ import annotations

from decimal import Decimal

from runctl.core.money import usd
from runctl.costs.traffic import DataOut, Requests


def data_out_text(out: DataOut) -> str:
    """``at most $0.1800 for the data that leave the region ($0.09 a GiB after the month's first 100 GiB; …)``."""
    if not out.usd_per_gib:
        return "data that leave cost nothing"
    free = f" after the month's first {out.free_gib} GiB" if out.free_gib else ""
    each = f"{usd(out.usd_per_gib)} a GiB{free}"
    if out.usd is None:
        return f"{each} for the data that leave the region ({out.source})"
    return f"{_at_most(out.usd)} for the data that leave the region ({each}; {out.source})"


def requests_text(requests: Requests) -> str:
    """``at most $0.0045 for 11,200 requests to read it (…)``."""
    return f"{_at_most(requests.usd)} for {requests.reads:,} requests to read it ({requests.source})"


def _at_most(amount: Decimal) -> str:
    text = usd(amount)
    # It says itself that it is a bound.
    return text if text.startswith("<") else f"at most {text}"
