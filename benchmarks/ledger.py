"""A year's ledger of 100,000 rows: reports of all of it, and what runs now, as whole commands."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from benchmarks.measure import Result, command, cpu_time
from runctl.core.database import Database
from runctl.costs.billing import Interval
from runctl.costs.entries import Entry, EntryKind, EntryState
from runctl.costs.ledger import Ledger
from runctl.costs.rates import Per

BIN = Path(sys.executable).parent
ROWS = 100_000
MACHINES = ROWS // 3


def measure() -> Iterator[Result]:
    """CPU time of ``cost report`` by several groupings, and of ``status``, without asking the cloud."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folders = {f"XDG_{kind}_HOME": f"{name}/{kind}" for kind in ("DATA", "CONFIG", "STATE", "CACHE")}
        populate(Path(name) / "DATA" / "runctl" / "state.db")
        for by in ("run", "day", "project"):
            yield cpu_time(
                f"`runctl cost report --by {by}` of a year, {ROWS:,} rows, CPU time",
                command(
                    [str(BIN / "runctl"), "cost", "report", "--cached", "--since", "365d", "--by", by],
                    **folders,
                ),
                rounds=5,
                target=1.0,
            )
        yield cpu_time(
            f"`runctl status --cached`, {ROWS:,} rows, CPU time",
            command([str(BIN / "runctl"), "status", "--cached"], **folders),
            rounds=9,
            target=0.15,
        )


def populate(file: Path, now: datetime | None = None, rows: int = ROWS) -> None:
    """A year of machines, each with a disk and an address; every third is on spot, with prices that move."""
    chance = random.Random(10)
    now = (now or datetime.now(UTC)).replace(microsecond=0)
    database = Database(file)
    ledger = Ledger(database)
    with ledger.changing() as writing:
        for number in range(rows // 3):
            start = now - timedelta(seconds=chance.randrange(365 * 86_400))
            end = start + timedelta(seconds=chance.randrange(60, 12 * 3600))
            goes_on = number < 20 or end > now
            spot = number % 3 == 0
            machine = f"i-{number:017x}"
            cuts = [start + timedelta(hours=hour) for hour in range(1, 4)] if spot else []
            cuts = [cut for cut in cuts if cut < end]
            life = [
                Interval(
                    since,
                    until,
                    Decimal(chance.randrange(1000, 4000)) / 10_000,
                    list_usd=Decimal("0.526") if spot else None,
                    continues=since != start,
                )
                for since, until in zip([start, *cuts], [*cuts, None if goes_on else end], strict=True)
            ]
            for kind, part, per, intervals in (
                (EntryKind.INSTANCE, "", Per.HOUR, tuple(life)),
                (EntryKind.VOLUME, "root", Per.MONTH, None),
                (EntryKind.ADDRESS, "address", Per.HOUR, None),
            ):
                price = Decimal(8) if per is Per.MONTH else Decimal("0.005")
                writing.put(
                    Entry(
                        kind=kind,
                        provider="aws",
                        account="123456789012",
                        region="us-east-1",
                        resource_id=machine if not part else f"vol-{number:017x}" if part == "root" else None,
                        token=f"token-{number}" if not part else None,
                        opened_at=start,
                        state=EntryState.OPEN if goes_on else EntryState.CLOSED,
                        intervals=intervals or (Interval(start, None if goes_on else end, price, per),),
                        machine=machine if part else None,
                        part=part,
                        shape="g4dn.xlarge",
                        market=("spot" if spot else "on-demand") if not part else "",
                        project=f"project-{number % 12}",
                        owner=f"user-{number % 5}",
                        run_id=f"run-{number % 9000:010d}" if number % 4 else None,
                        attempt=1,
                        minimum_seconds=60,
                        seen_at=now,
                        ended_at=None if goes_on else end,
                    )
                )
    database.close()
