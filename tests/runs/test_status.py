"""What runs and what stays, told from the ledger."""

from __future__ import annotations

from decimal import Decimal

from runctl.costs.budget import BudgetUse, Limit, Period
from runctl.costs.ledger import Entry, EntryKind, EntryState
from runctl.costs.rates import Per
from runctl.render.status import status_text
from runctl.runs.status import Status, status_of
from tests.costs.entries import an_entry, at, interval

NOW = at("2026-06-11 12:00")


def machine(identifier: str, *intervals: tuple[str, str | None], **changes: object) -> Entry:
    lives = (interval(start, end, "0.50") for start, end in intervals)
    return an_entry(
        identifier, *lives, shape="g5.xlarge", market="spot", state=EntryState.OPEN, ended_at=None, **changes
    )


def disk(identifier: str, of: str | None, usd: str) -> Entry:
    return an_entry(
        identifier,
        interval("2026-06-01", None, usd, Per.MONTH),
        kind=EntryKind.VOLUME,
        shape="100 GiB gp3",
        machine=of,
        part="root" if of else "",
    )


def told(*entries: Entry) -> Status:
    return status_of(
        entries,
        {"i-1": "run-a"},
        NOW,
        today=Decimal(7),
        month=Decimal(70),
        budget=[BudgetUse(Limit(Period.DAY, Decimal(10)), Decimal(7), Decimal(0))],
    )


RUNNING = machine("i-1", ("2026-06-10 08:00", "2026-06-10 18:00"), ("2026-06-11 10:00", None), name="box")
STOPPED = machine("i-2", ("2026-06-10 08:00", "2026-06-10 18:00"))
ADDRESS = an_entry(
    None,
    interval("2026-06-11 10:00", None, "0.005"),
    kind=EntryKind.ADDRESS,
    machine="i-1",
    part="address",
    minimum_seconds=0,
)


def test_a_machine_that_runs_is_told_with_its_run_its_address_and_all_that_it_cost() -> None:
    status = told(RUNNING, ADDRESS, disk("vol-1", "i-1", "7.20"))
    (running,) = status.machines
    assert (running.id, running.run_id, running.since) == ("i-1", "run-a", at("2026-06-11 10:00"))
    assert running.usd_per_hour == Decimal("0.505")
    # 12 h at 0.50, 2 h at 0.005, ten and a half of 30 days at 7.20
    assert running.usd == Decimal("6") + Decimal("0.01") + Decimal("2.52")
    # 0.505, and 7.20 over the 720 hours of June
    assert status.usd_per_hour == Decimal("0.515")
    assert status.usd_per_month_stopped == 0


def test_a_stopped_machine_does_not_run_and_its_disk_stays_and_costs() -> None:
    status = told(STOPPED, disk("vol-2", "i-2", "8"), disk("vol-3", None, "4"))
    assert status.machines == ()
    assert [(each.id, each.machine_runs) for each in status.kept] == [("vol-2", False), ("vol-3", False)]
    assert status.usd_per_month_stopped == Decimal(12)


def test_what_ended_is_not_told() -> None:
    over = an_entry("i-3", interval("2026-06-10", "2026-06-11", "0.50"))
    assert told(over) == told()


def test_a_person_reads_what_runs_what_stays_and_the_sums() -> None:
    text = status_text(told(RUNNING, ADDRESS, disk("vol-1", "i-1", "7.20"), disk("vol-3", None, "4")))
    assert text == (
        "INSTANCE  RUN    TYPE       MARKET  ZONE       RUNS FOR  AN HOUR  SO FAR  PROJECT\n"
        "box       run-a  g5.xlarge  spot    us-east-1  2h00m     $0.5050   $8.53  -\n"
        "\n"
        "Stays, and costs whether or not a machine runs:\n"
        "ID     NAME  KIND    SIZE         OF  A MONTH  SO FAR\n"
        "vol-3  -     volume  100 GiB gp3  -     $4.00   $1.40\n"
        "\n"
        "$0.5206 an hour now, disks of these machines included ($7.20 a month)\n"
        "$7.00 today, $70.00 this month (UTC)\n"
        "$4.00 a month stay when nothing runs\n"
        "$7.00 of $10.00 (70%) of the budget today"
    )


def test_an_empty_house_says_so() -> None:
    status = status_of((), {}, NOW, today=Decimal(0), month=Decimal(0))
    assert status_text(status) == "no machine runs\n\n$0.00 an hour now\n$0.00 today, $0.00 this month (UTC)"
