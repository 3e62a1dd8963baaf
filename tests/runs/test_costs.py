"""What a run cost, by the ledger of its machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from runctl.agent.after_run import MachineEnd
from runctl.core.config import Config
from runctl.core.progress import SILENT, Progress
from runctl.costs.entries import Entry, EntryKind
from runctl.costs.ledger import Ledger
from runctl.costs.rates import Per
from runctl.machines.session import Session
from runctl.providers import registry
from runctl.providers.abilities.bill import Bill, BilledAmount, OneSum
from runctl.runs.costs import cost_report, reconcile_costs, run_cost, with_ledger_costs
from runctl.runs.records.run_record import as_known
from runctl.runs.records.shown_run import as_run
from runctl.runs.records.store import RunStore
from runctl.testing.clock import ManualClock
from tests.cli.fake_provider import FakeProvider, Script
from tests.costs.entries import an_entry, at, interval
from tests.runs.sample_runs import a_record

NOW = at("2026-06-02")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with patch("runctl.core.files.state_file", return_value=tmp_path / "state.db"):
        session = Session(config=Config())
        assert session.database.path == tmp_path / "state.db"
        yield session
        session.database.close()


def machine(identifier: str, start: str, end: str | None, usd: str, **changes: Any) -> Entry:
    return an_entry(identifier, interval(start, end, usd, list_usd=Decimal(1)), **changes)


def test_a_machine_that_was_rented_for_a_run_is_the_runs_from_first_to_last(session: Session) -> None:
    ledger, store = Ledger(session.database), RunStore(session.database)
    disk = an_entry(
        "vol-1",
        interval("2026-06-01 10:00", "2026-06-01 14:00", "7.20", Per.MONTH),
        kind=EntryKind.VOLUME,
        machine="i-1",
        part="root",
    )
    ledger.put(machine("i-1", "2026-06-01 10:00", "2026-06-01 14:00", "0.25"), disk)
    ends = MachineEnd(False, 900.0, 1800.0, 0.0)
    record = a_record("run-a", "i-1", "2026-06-01 10:05", "2026-06-01 13:00", machine_end=ends)
    store.put(record)

    found = run_cost(session, "run-a", NOW)

    assert [(each.attempt, each.instance_id, each.usd) for each in found.attempts] == [
        (1, "i-1", Decimal("1.04"))
    ]
    assert (found.usd, found.saved_usd, found.exact) == (Decimal("1.04"), Decimal(3), True)
    (run,) = with_ledger_costs(session, [as_run(record, NOW)], NOW)
    assert run.cost == Decimal(1)


def test_attempts_are_told_each_with_its_machine(session: Session) -> None:
    ledger, store = Ledger(session.database), RunStore(session.database)
    ledger.put(
        machine("i-1", "2026-06-01 10:00", "2026-06-01 12:00", "0.25"),
        machine("i-2", "2026-06-01 12:05", None, "0.5", run_id="run-a", attempt=2),
    )
    first = a_record("run-a", "i-1", "2026-06-01 11:00", "2026-06-01 12:00")
    second = a_record("run-a", "i-2", "2026-06-01 12:10", None, attempt=2, past=(as_known(first),))
    store.put(second)

    found = run_cost(session, "run-a", at("2026-06-01 14:05"))

    # The first machine was the user's own: only the run's time on it counts.
    assert [(each.attempt, each.usd) for each in found.attempts] == [(1, Decimal("0.25")), (2, Decimal(1))]
    assert found.usd == Decimal("1.25")


def test_two_runs_on_one_machine_share_it(session: Session) -> None:
    Ledger(session.database).put(machine("i-1", "2026-06-01 10:00", "2026-06-01 20:00", "1"))
    store = RunStore(session.database)
    records = [
        a_record("run-a", "i-1", "2026-06-01 11:00", "2026-06-01 13:00"),
        a_record("run-b", "i-1", "2026-06-01 12:00", "2026-06-01 14:00"),
    ]
    for record in records:
        store.put(record)
    runs = with_ledger_costs(session, [as_run(record, NOW) for record in records], NOW)
    assert [run.cost for run in runs] == [Decimal(2), Decimal(1)]
    assert [run_cost(session, run.id, NOW).usd for run in runs] == [Decimal(2), Decimal(1)]


def test_a_run_whose_machine_the_ledger_does_not_have_keeps_what_its_record_says(session: Session) -> None:
    record = a_record("run-a", "i-9", "2026-06-01 10:00", "2026-06-01 12:00")
    RunStore(session.database).put(record)
    run = as_run(record, NOW)
    assert with_ledger_costs(session, [run], NOW) == (run,)
    assert run.cost == Decimal(1)
    assert run_cost(session, "run-a", NOW).exact is False
    assert run_cost(session, "run-a", NOW + timedelta(days=1)).attempts == ()


def test_a_run_within_the_minimum_that_its_machine_is_billed_for_costs_its_time(session: Session) -> None:
    Ledger(session.database).put(machine("i-1", "2026-06-01 10:00", None, "3.60"))
    record = a_record("run-a", "i-1", "2026-06-01 10:00", "2026-06-01 10:01")
    record = replace(
        record,
        created_at=record.created_at + timedelta(seconds=10),
        ended_at=record.created_at + timedelta(seconds=30),
        price_per_hour=Decimal("3.60"),
    )
    RunStore(session.database).put(record)
    run = as_run(record, NOW)
    (shown,) = with_ledger_costs(session, [run], NOW)
    assert shown.cost == run.cost == Decimal("0.02")


@pytest.mark.parametrize("ended", ["2026-06-01 10:00:30", None])
def test_a_machine_that_was_rented_for_a_run_of_seconds_costs_the_run_a_minute(
    session: Session, ended: str | None
) -> None:
    Ledger(session.database).put(machine("i-1", "2026-06-01 10:00", ended, "0.36", run_id="run-a", attempt=1))
    RunStore(session.database).put(a_record("run-a", "i-1", "2026-06-01 10:00", ended))
    now = at("2026-06-01 10:00:31")

    found = run_cost(session, "run-a", now)

    assert (found.usd, found.saved_usd) == (Decimal("0.006"), Decimal("0.010667"))
    assert [each.usd for each in found.attempts] == [Decimal("0.006")]
    (line,) = cost_report(cached=True, session=session, clock=ManualClock(now)).lines
    assert (line.key, line.usd) == ("run-a", found.usd)


def test_on_a_machine_of_ones_own_the_minimum_is_nobodys(session: Session) -> None:
    Ledger(session.database).put(machine("i-1", "2026-06-01 10:00", "2026-06-01 10:00:40", "0.36"))
    RunStore(session.database).put(a_record("run-a", "i-1", "2026-06-01 10:00:10", "2026-06-01 10:00:30"))
    now = at("2026-06-01 11:00")

    found = run_cost(session, "run-a", now)

    lines = cost_report(cached=True, session=session, clock=ManualClock(now)).lines
    assert {line.key: line.usd for line in lines} == {"run-a": found.usd, "-": Decimal("0.006") - found.usd}
    assert found.usd == 0


def test_a_minute_is_the_minimum_of_each_start_and_no_more(session: Session) -> None:
    life = [
        interval("2026-06-01 10:00", "2026-06-01 10:00:20", "0.36"),
        interval("2026-06-01 10:05", "2026-06-01 10:05:59", "0.36"),
        interval("2026-06-01 10:10", "2026-06-01 10:11:01", "0.36"),
    ]
    Ledger(session.database).put(an_entry("i-1", *life, run_id="run-a"))
    RunStore(session.database).put(a_record("run-a", "i-1", "2026-06-01 10:00", "2026-06-01 10:11"))

    assert run_cost(session, "run-a", at("2026-06-01 11:00")).usd == Decimal("0.0181")


MISSING = (
    "instance i-3 is not compared: what is billed for it in one sum is not told yet, and not all of its time lies in"
    " between"
)


class Billed(Bill):
    """By machine, when it has ended."""

    lacks = "Volumes are not compared."
    in_one_sum = frozenset({"instance"})

    def amounts(
        self, since: datetime, until: datetime, progress: Progress = SILENT
    ) -> tuple[BilledAmount, ...]:
        return (
            a_sum("i-1", "2026-06-02 04:00", "1.00"),
            a_sum("i-2", "2026-06-03 04:00", "9.00"),
            # Of the day before, written down a little later.
            a_sum("i-0", "2026-06-02 00:10", "5.00"),
        )


def a_sum(identifier: str, last: str, usd: str) -> BilledAmount:
    one_sum = OneSum(identifier, at(last), at(last))
    return BilledAmount(last[:10], "instance", f"VM {identifier}", Decimal(usd), one_sum=one_sum)


def test_what_is_billed_in_one_sum_for_more_than_the_time_in_question_is_on_neither_side(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider: Any = FakeProvider(Script())
    provider.bill = Billed()
    monkeypatch.setattr(registry, "load", lambda *_, **__: provider)
    monkeypatch.setattr("runctl.runs.costs.settle", lambda *_, **__: None)
    monkeypatch.setattr("runctl.runs.costs.note_all_stored", lambda *_: ())
    account = provider.scope().account or ""
    ledger = Ledger(session.database)
    for identifier, start, end in (
        ("i-0", "2026-06-01", "2026-06-01 20:00"),
        ("i-1", "2026-06-02", "2026-06-02 04:00"),
        ("i-2", "2026-06-01", "2026-06-03 04:00"),
        ("i-3", "2026-06-02", None),
    ):
        ledger.put(replace(machine(identifier, start, end, "0.25"), provider=provider.name, account=account))

    clock = ManualClock(at("2026-06-05"))
    found = reconcile_costs(
        "aws", since=at("2026-06-02"), until=at("2026-06-04"), session=session, clock=clock
    )

    assert (found.ledger_usd, found.billed_usd) == (Decimal(1), Decimal(1))
    assert found.left_out == (
        "VM i-2 is not compared: $9.00 is billed for it in one sum, and not all of its time lies in between",
        MISSING,
        "Volumes are not compared.",
    )
