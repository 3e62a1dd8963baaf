"""What runs and what stays, told from the ledger."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.spec import AttemptStatus, RunState
from runctl.core.database import Database
from runctl.core.ids import InstanceId
from runctl.costs.budget import BudgetUse, Limit, Period
from runctl.costs.entries import Entry, EntryKind, EntryState
from runctl.costs.rates import Per
from runctl.render.run_table import attempts_table, runs_table
from runctl.render.status import status_text
from runctl.runs.records.run_times import checkpoint_alarm, checkpoint_alarms
from runctl.runs.records.shown_run import as_run
from runctl.runs.records.store import RunStore
from runctl.runs.status import Status, status_of
from tests.costs.entries import an_entry, at, interval
from tests.runs.sample_runs import T0, a_run

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


def test_an_image_is_told_by_its_own_name_in_each_region() -> None:
    image = an_entry(
        "runctl/digits@sha256:1 in us-east-1",
        interval("2026-06-01", None, "1", Per.MONTH),
        kind=EntryKind.STORAGE,
    )
    assert [(each.id, each.region) for each in told(image).kept] == [("runctl/digits@sha256:1", "us-east-1")]


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


def test_a_late_checkpoint_is_told_below_the_machine_of_its_run(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db")
    late = CheckpointStatus("/c/step-3.pt", 0.0, 3, late_seconds=2700)
    RunStore(database).put(a_run("run-a", instance_id=InstanceId("i-1"), checkpoint=late))
    RunStore(database).put(a_run("run-b", checkpoint=replace(late, late_seconds=0.0)))
    alarms = checkpoint_alarms(database)
    assert alarms == {"run-a": "is 45m older than it should be"}

    status = status_of([RUNNING], {"i-1": "run-a"}, NOW, today=Decimal(7), month=Decimal(70), alarms=alarms)

    assert status.machines[0].alarm == alarms["run-a"]
    assert "\n\nrun-a: the newest checkpoint is 45m older than it should be\n\n" in status_text(status)
    assert "is not published: AccessDenied" in checkpoint_alarm(5, "AccessDenied")


@pytest.mark.parametrize(
    ("newest", "text"),
    [
        (None, "running"),
        (CheckpointStatus("/c/step-3.pt", 0.0, 3), "running"),
        (CheckpointStatus("/c/step-3.pt", 0.0, 3, late_seconds=9), "running, checkpoint late"),
        (CheckpointStatus("", 0.0, trouble="AccessDenied"), "running, checkpoint not published"),
    ],
)
def test_lists_of_runs_say_what_is_wrong_with_checkpoints(newest: CheckpointStatus | None, text: str) -> None:
    shown = runs_table([as_run(a_run(checkpoint=newest), T0)])
    assert text in re.split("  +", shown.splitlines()[1])
    on_machine = AttemptStatus("run-a", 1, RunState.RUNNING, checkpoint=newest)
    assert text in re.split("  +", attempts_table([on_machine]).splitlines()[1])


def test_an_empty_house_says_so() -> None:
    status = status_of((), {}, NOW, today=Decimal(0), month=Decimal(0))
    assert status_text(status) == "no machine runs\n\n$0.00 an hour now\n$0.00 today, $0.00 this month (UTC)"
