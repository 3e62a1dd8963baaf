"""When a script is asked for a checkpoint, and when a late one is told of."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import threading
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.attempt.watchers import checkpoint_clock
from runctl.agent.attempt.watchers.checkpoint_clock import CheckpointClock, Clock
from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.checkpoint_spec import CheckpointSchedule, CheckpointStatus
from runctl.agent.disks.run_folders import run_folders
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import RunSpec

TEN = CheckpointSchedule(every_seconds=10.0)
AUTO = CheckpointSchedule(between_interruptions=86400.0)


def test_it_is_due_so_long_after_the_start_the_last_request_and_the_last_checkpoint() -> None:
    clock = Clock(began_at=100.0)
    assert not clock.is_due(TEN, 109.9)
    assert clock.is_due(TEN, 110.0)
    asked = dataclasses.replace(clock, asked_at=110.0)
    assert not asked.is_due(TEN, 119.9)
    assert asked.is_due(TEN, 120.0)
    assert not asked.saw(115.0).is_due(TEN, 124.9)


def test_it_is_late_after_three_intervals_and_a_checkpoint_ends_that() -> None:
    clock = Clock(began_at=100.0)
    assert clock.late(TEN, 130.0) == 0
    assert clock.late(TEN, 131.0) == 1
    assert clock.saw(131.0).late(TEN, 132.0) == 0
    # One from before the script's start, restored or of an earlier attempt, is not the script's.
    assert clock.saw(99.0) == clock


def test_auto_measures_what_one_costs_from_the_request_on() -> None:
    clock = Clock(began_at=0.0)
    first = clock.every(AUTO)
    measured = dataclasses.replace(clock, asked_at=1000.0).saw(1002.0)
    assert measured.cost == 2.0
    assert measured.every(AUTO) < first
    # The next one was saved by the script's own decision.
    assert measured.saw(1500.0).cost == 2.0
    again = dataclasses.replace(measured, asked_at=2000.0).saw(2006.0)
    assert again.cost == 4.0


@given(
    st.lists(st.tuples(st.floats(0.1, 100), st.sampled_from(["asked", "saved", "pass"])), max_size=30),
    st.floats(1, 1000),
)
def test_no_two_requests_come_closer_than_the_interval(events: list[tuple[float, str]], every: float) -> None:
    schedule, clock, now, asked = CheckpointSchedule(every), Clock(0.0), 0.0, [0.0]
    for passed, what in events:
        now += passed
        if what == "saved":
            clock = clock.saw(now)
        elif what == "asked" and clock.is_due(schedule, now):
            clock = dataclasses.replace(clock, asked_at=now)
            asked.append(now)
    assert all(later - earlier >= every * (1 - 1e-9) for earlier, later in itertools.pairwise(asked))


def test_a_look_that_takes_long_holds_up_nobody_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()
    looks: list[CheckpointStatus | None] = []

    def look(_: Path, known: CheckpointStatus | None, __: object) -> CheckpointStatus:
        looks.append(known)
        begun.set()
        assert may_end.wait(60)
        return CheckpointStatus("step-1", 1.0)

    monkeypatch.setattr(checkpoint_clock, "status_of", look)
    monkeypatch.setattr(checkpoint_clock, "POLL_SECONDS", 0.0)
    nothing, asked = cast("Any", None), threading.Event()
    spec = RunSpec("run-1", "train.py", checkpoint_schedule=CheckpointSchedule(every_seconds=0.0))
    folder = AttemptFolder(tmp_path / "run-1" / "1")
    folder.path.mkdir(parents=True)

    def ask() -> bool:
        asked.set()
        return True

    clock = CheckpointClock(
        Watched(
            *(folder, spec, nothing, nothing, lambda: 0.0, lambda _: None, nothing, lambda: 0.0),
            *(ask, lambda **_: None, lambda: False),
        )
    )

    clock.stop_request()
    assert begun.wait(60)
    clock.stop_request()
    assert not asked.is_set()
    may_end.set()
    while not asked.is_set():
        clock.stop_request()
    while len(looks) < 2:
        clock.stop_request()

    assert [None if each is None else each.path for each in looks] == [None, "step-1"]


def test_a_look_ends_with_the_script_whose_volume_is_to_be_unmounted(tmp_path: Path) -> None:
    reading, over = threading.Event(), threading.Event()

    def script_ended() -> bool:
        if threading.current_thread() is not threading.main_thread():
            reading.set()
            assert over.wait(60)
        return over.is_set()

    nothing = cast("Any", None)
    spec = RunSpec("run-1", "train.py", checkpoint_schedule=CheckpointSchedule(every_seconds=0.0))
    folder = AttemptFolder(tmp_path / "run-1" / "1")
    saved = run_folders(spec, folder).checkpoints / "step-1"
    saved.mkdir(parents=True)
    (saved / "weights.bin").write_bytes(b"weights")
    checksum = hashlib.sha256(b"weights").hexdigest()
    (saved / "SHA256SUMS").write_text(f"{checksum}  weights.bin\n")
    clock = CheckpointClock(
        Watched(
            *(folder, spec, nothing, nothing, lambda: 0.0, lambda _: None, nothing, lambda: 0.0),
            *(lambda: True, lambda **_: None, script_ended),
        )
    )

    clock.stop_request()
    assert reading.wait(60)
    look = clock._look
    assert look is not None
    over.set()
    look.join(60)

    assert not look.is_alive()
    assert look.found is None
    clock.stop_request()
    assert clock._look is look
