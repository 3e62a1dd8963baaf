"""Spending by whatever it is asked by comes to the same total, also where the database has summed most of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runctl.core.database import Database
from runctl.costs.billing import Interval
from runctl.costs.entries import NONE, By, Entry, EntryKind, EntryState
from runctl.costs.ledger import Ledger
from runctl.costs.rates import Per
from runctl.costs.report import CostReport, RunTime, report
from runctl.costs.spending import spending
from runctl.runs.records.store import RunStore
from tests.costs.entries import an_entry, at, interval
from tests.costs.test_billing import lives, moments
from tests.runs.sample_runs import a_record

JUNE, JULY = at("2026-06-01"), at("2026-07-01")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Database(tmp_path / "state.db"))


def sums(found: CostReport) -> dict[str, Decimal]:
    return {line.key: line.usd for line in found.lines}


def test_a_run_with_three_attempts_over_a_months_end_costs_what_the_table_says() -> None:
    """A run from 30 June on: interrupted within its first hour, interrupted later, and done.

    | machine | from | to | price | billed |
    | i-1 | 30 June 22:00 | 22:40, taken back | 0.30 | 0 |
    | i-2 | 30 June 22:45 | 1 July 00:45, taken back | 0.40 | 0.80, of it 0.50 in June |
    | i-3 | 1 July 00:50 | 02:50 | 1.00 (on demand) | 2.00 |
    | disk of i-2 | as i-2 | | 7.44 a month | 1.25 h of June's 720 at 7.44, 0.75 h of July's 744 at 7.44 |
    """
    entries = [
        an_entry("i-1", interval("2026-06-30 22:00", "2026-06-30 22:40", "0", list_usd=Decimal(1))),
        an_entry("i-2", interval("2026-06-30 22:45", "2026-07-01 00:45", "0.4", list_usd=Decimal(1))),
        an_entry("i-3", interval("2026-07-01 00:50", "2026-07-01 02:50", "1")),
        an_entry(
            "vol-2",
            interval("2026-06-30 22:45", "2026-07-01 00:45", "7.44", per=Per.MONTH),
            kind=EntryKind.VOLUME,
            machine="i-2",
            part="root",
        ),
    ]
    runs = [
        RunTime("run-a", "i-1", at("2026-06-30 22:00"), at("2026-06-30 22:40"), 1),
        RunTime("run-a", "i-2", at("2026-06-30 22:45"), at("2026-07-01 00:45"), 2),
        RunTime("run-a", "i-3", at("2026-07-01 00:50"), at("2026-07-01 02:50"), 3),
    ]
    disk_june = Decimal("0.012917")  # 7.44 x 1.25 / 720
    disk_july = Decimal("0.0075")  # 7.44 x 0.75 / 744

    by_month = report(entries, By.MONTH, JUNE, at("2026-08-01"))
    by_run = report(entries, By.RUN, JUNE, at("2026-08-01"), runs)

    assert sums(by_month) == {
        "2026-06": Decimal("0.5") + disk_june,
        "2026-07": Decimal("2.3") + disk_july,
    }
    assert sums(by_run) == {"run-a": Decimal("2.8") + disk_june + disk_july}
    # On demand the first two would have cost 1 an hour: 40 minutes and two hours.
    assert by_run.saved_usd == Decimal("0.666667") + Decimal("2") - Decimal("0.8")


def test_a_machine_that_several_runs_share_is_cut_by_the_runs() -> None:
    entry = an_entry("i-1", interval("2026-06-10 10:00", "2026-06-10 16:00", "1"))
    runs = [
        RunTime("run-a", "i-1", at("2026-06-10 11:00"), at("2026-06-10 13:00")),
        RunTime("run-b", "i-1", at("2026-06-10 12:00"), at("2026-06-10 14:00")),
        RunTime("run-c", "i-1", at("2026-06-10 15:00"), None),
        RunTime("run-d", "i-2", at("2026-06-10 10:00"), None),
    ]
    assert sums(report([entry], By.RUN, JUNE, JULY, runs)) == {
        "run-a": Decimal(2),
        "run-b": Decimal(1),
        "run-c": Decimal(1),
        "-": Decimal(2),
    }


def test_what_is_not_known_is_said() -> None:
    unpriced = an_entry("i-1", interval("2026-06-10", "2026-06-11", None))
    estimated = an_entry("i-2", interval("2026-06-10", "2026-06-11", "1"), estimated=True)
    found = report([unpriced, estimated], By.KIND, JUNE, JULY)
    assert (found.unpriced, found.estimated) == (("i-1",), ("i-2",))
    assert found.usd == Decimal(24)


def test_what_several_regions_have_by_one_name_is_named_as_its_provider_does() -> None:
    """The ledger's own name has the region, too."""
    image = an_entry(
        "digits@sha256:1 in us-east-1",
        interval("2026-06-10", "2026-06-11", None, Per.MONTH),
        kind=EntryKind.STORAGE,
        estimated=True,
    )
    found = report([image], By.KIND, JUNE, JULY)
    assert found.unpriced == found.estimated == ("digits@sha256:1",)


def test_a_short_lifes_minimum_is_billed_on_its_day_and_once() -> None:
    entry = an_entry("i-1", interval("2026-06-10 23:59:50", "2026-06-10 23:59:55", "3.6"))
    assert sums(report([entry], By.DAY, JUNE, JULY)) == {"2026-06-10": Decimal("0.06")}
    assert report([entry], By.DAY, at("2026-06-11"), JULY).usd == 0


@st.composite
def ledgers(draw: st.DrawFn) -> list[Entry]:
    entries = []
    for number, life in enumerate(draw(st.lists(lives(), min_size=1, max_size=5))):
        kind = draw(st.sampled_from(EntryKind))
        entry = an_entry(
            f"r-{number}",
            *life,
            kind=kind,
            project=draw(st.sampled_from(["a", "b", None])),
            owner=draw(st.sampled_from(["ada", None])),
            run_id=draw(st.sampled_from(["run-1", None])),
            machine=draw(st.sampled_from(["r-0", None])) if kind is EntryKind.VOLUME else None,
            part=f"{number}",
            estimated=draw(st.booleans()),
        )
        entries.append(entry)
    return entries


run_times = st.lists(
    st.builds(
        RunTime,
        st.sampled_from(["run-2", "run-3"]),
        st.sampled_from(["r-0", "r-1"]),
        moments,
        st.none() | moments,
    ),
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(ledgers(), run_times, moments, moments)
def test_every_grouping_comes_to_the_same_total_and_the_database_sums_as_we_do(
    tmp_path: Path, entries: list[Entry], runs: list[RunTime], since: datetime, until: datetime
) -> None:
    since, until = min(since, until), max(since, until) + timedelta(seconds=1)
    database = Database(tmp_path / "state.db")
    ledger, store = Ledger(database), RunStore(database)
    for record in store.list():
        store.forget(record.id)
    for number, run in enumerate(runs):
        # The database tells by its runs which machines have worked for any.
        store.put(a_record(f"run-{number}", run.instance_id, "2026-01-01", None))
    for known in ledger.select("TRUE", ()):
        ledger.put(Entry(**{**vars(known), "state": EntryState.OPEN, "intervals": (), "in_sandbox": True}))
    written = [_again(ledger, entry) for entry in entries]

    reports = [report(entries, by, since, until, runs) for by in By]

    assert len({each.usd for each in reports}) == 1
    assert all(line.usd >= 0 for each in reports for line in each.lines)
    assert {entry.resource_id for entry in written} == {entry.resource_id for entry in entries}
    for whole in reports:
        summed = report(
            ledger.touching(since, until, in_sandbox=False, beyond=whole.by),
            whole.by,
            since,
            until,
            runs,
            closed=ledger.closed_sums(whole.by, since, until, in_sandbox=False),
        )
        assert (summed.lines, summed.usd, summed.saved_usd) == (whole.lines, whole.usd, whole.saved_usd)

    read = spending(ledger, since, until, in_sandbox=False)
    assert read.usd(until) == reports[0].usd
    for project, usd in sums(report(entries, By.PROJECT, since, until)).items():
        assert usd == read.usd(until, lambda each, _, wanted=project: (each or NONE) == wanted)  # type: ignore[misc]
    for user, usd in sums(report(entries, By.USER, since, until)).items():
        assert usd == read.usd(until, lambda _, each, wanted=user: (each or NONE) == wanted)  # type: ignore[misc]


def _again(ledger: Ledger, entry: Entry) -> Entry:
    known = ledger.of_resource(entry.provider, entry.account, entry.resource_id or "")
    (written,) = ledger.put(Entry(**{**vars(entry), "id": known.id if known else None}))
    return written


def test_entries_are_read_as_they_were_written(ledger: Ledger) -> None:
    life: Sequence[Interval] = (
        interval("2026-06-01", "2026-06-02", "0.30", list_usd=Decimal(1)),
        interval("2026-06-02", "2026-06-02", "0.40", continues=True),
        interval("2026-06-02", None, None),
    )
    (written,) = ledger.put(
        an_entry("i-1", *life, taken_back=True, expected=Decimal("1.5"), attempt=2, run_id="run-a")
    )
    assert ledger.of_token("token-of-i-1") == written
    assert ledger.of_resource("aws", "123456789012", "i-1") == written
    assert ledger.unfinished("aws", "123456789012", "us-east-1") == [written]
    assert ledger.unfinished("aws", "210987654321", "us-east-1") == []


def test_an_intent_that_came_to_nothing_is_dropped_and_what_exists_is_not(ledger: Ledger) -> None:
    ledger.put(an_entry(None, token="a", state=EntryState.INTENDED), an_entry("i-1", token="b"))
    ledger.drop("a")
    ledger.drop("b")
    assert [entry.token for entry in ledger.select("TRUE", ())] == ["b"]
