"""What a record says of all machines of its run."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from runctl.core.ids import InstanceId
from runctl.core.run_models import RunPhase
from runctl.runs.records.run_record import as_known
from runctl.runs.records.updates import may_be_starting
from tests.costs.entries import at
from tests.runs.nodes.records import checksum, on_machines
from tests.runs.sample_runs import a_record

NOW = at("2026-06-01 14:00")


def test_a_run_knows_its_machines_by_rank_and_those_of_earlier_attempts() -> None:
    first = on_machines("run-a", "i-0", "i-1", ended_at=at("2026-06-01 13:00"))
    second = on_machines("run-a", "i-2", "i-3", "i-4", attempt=2, past=(as_known(first),))

    assert second.machines == ("i-2", "i-3", "i-4")
    assert [second.rank_on(each) for each in ("i-2", "i-4", "i-1", "i-9")] == [0, 2, 1, None]
    one = a_record("run-b", "i-5", "2026-06-01 12:00", None)
    assert (one.machines, one.rank_on("i-5")) == (("i-5",), 0)
    assert replace(one, instance_id=InstanceId("")).machines == ()


def test_every_machine_of_every_attempt_costs() -> None:
    first = on_machines("run-a", "i-0", "i-1", ended_at=at("2026-06-01 13:00"))
    second = on_machines(
        "run-a",
        *("i-2", "i-3", "i-4"),
        attempt=2,
        created_at=at("2026-06-01 13:00"),
        past=(as_known(first),),
    )
    assert second.cost(NOW) == Decimal("0.5") * (2 + 3)


def test_each_machine_has_a_log_of_its_own() -> None:
    ended = on_machines("run-a", "i-0", "i-1", logs=(b"one\n", b"three\n"))
    assert ended.whole_log(1) == (6, checksum(b"three\n"))
    assert on_machines("run-a", "i-0", "i-1").whole_log(1) == (None, None)
    one = a_record("run-b", "i-5", "2026-06-01 12:00", None, log_bytes=3, log_sha256="x")
    assert one.whole_log() == (3, "x")


@pytest.mark.parametrize(
    ("state", "seconds", "expected"),
    [
        (RunPhase.PENDING, 0, True),
        (RunPhase.PENDING, 119, True),
        # Whoever wrote it down was killed before the machine was told.
        (RunPhase.PENDING, 121, False),
        # By a clock that was set back since.
        (RunPhase.PENDING, -3600, False),
        (RunPhase.RUNNING, 1, False),
        (RunPhase.UNKNOWN, 1, False),
    ],
)
def test_a_machine_that_knows_nothing_of_an_attempt_may_not_have_been_told_yet(
    state: RunPhase, seconds: float, expected: bool
) -> None:
    assert may_be_starting(state, NOW, NOW + timedelta(seconds=seconds)) is expected
