"""The guard counts by the boot's own clock, and goes on where an earlier guard or an earlier boot has ended."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from runctl.agent.guard import activity, daemon
from runctl.agent.guard.activity import Sample
from runctl.agent.guard.daemon import Guard, read_count, read_limits, write_limits
from runctl.agent.guard.limits import TOUCHED_SECONDS, Limits


class Machine:
    """A machine whose clocks the test moves, with the guard's files in a folder."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.now, self.began, self.busy, self.boot = 1000.0, 990.0, False, "a"
        self.ended: list[str] = []
        self.told: list[str] = []
        self._cpu = 0.0
        self.folder = folder
        for name in ("FOLDER", "STATE"):
            patch.setattr(daemon, name, folder / name)
        for name in ("STATUS", "NOTICE"):
            patch.setattr(daemon, name, folder / name.lower())
        patch.setattr(daemon, "_boot_id", lambda: self.boot)
        patch.setattr(activity, "boot_began", lambda: self.began)
        patch.setattr(activity, "now", lambda: self.now)
        patch.setattr(activity, "sample", self._sample)
        patch.setattr(activity, "gpu_percent", lambda: 0)
        # A disk that is waited for each time is not what these tests are about.
        patch.setattr("runctl.agent.guard.boot.os.fsync", lambda _: None)

    def _sample(self) -> Sample:
        if self.busy:
            self._cpu += 1e6
        return Sample(self.now, {7: activity.Process(1, "python3", "9", self._cpu)})

    def guard(self) -> Guard:
        return Guard(self.ended.append, self.told.append)

    def pass_time(self, guard: Guard, seconds: float) -> None:
        """As the guard's own loop does."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + guard.poll())
        guard.poll()

    def reboot(self) -> None:
        (self.folder / "status").unlink()
        self.now, self.began, self.boot = 30.0, 5.0, self.boot + "a"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_machine_ends_when_it_has_run_for_its_time(machine: Machine) -> None:
    write_limits(daemon.FOLDER, Limits(ttl_seconds=3600))
    guard = machine.guard()

    machine.pass_time(guard, 3580)
    assert machine.ended == []
    machine.pass_time(guard, 10)

    assert machine.ended == ["this machine ends itself now: its time is over"]
    assert machine.told == [
        "this machine ends itself in 10 min: its time is over",
        "this machine ends itself in 1 min: its time is over",
    ]


def test_what_it_has_run_counts_after_a_reboot_and_the_time_that_it_was_off_does_not(
    machine: Machine,
) -> None:
    write_limits(daemon.FOLDER, Limits(budget_seconds=3600, budget="$5.00"))
    machine.pass_time(machine.guard(), 2990)  # of 3000
    machine.reboot()  # 25 seconds ago
    again = machine.guard()

    machine.pass_time(again, 560)
    assert machine.ended == []
    machine.pass_time(again, 15)

    assert machine.ended == ["this machine ends itself now: its budget of $5.00 is used up"]


def test_a_guard_that_was_killed_is_followed_by_one_that_knows_what_it_knew(machine: Machine) -> None:
    write_limits(daemon.FOLDER, Limits(ttl_seconds=36000, idle_seconds=3600))

    for _ in range(12):
        machine.pass_time(machine.guard(), 299)
    assert machine.ended == []
    machine.pass_time(machine.guard(), 20)

    assert machine.ended == ["this machine ends itself now: nothing has used it for 1 h"]


def test_no_clock_that_can_be_set_is_asked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> float:
        raise AssertionError("somebody has asked the clock")

    monkeypatch.setattr(time, "time", refuse)
    write_limits(daemon.FOLDER, Limits(ttl_seconds=60))

    machine.pass_time(machine.guard(), 60)

    assert machine.ended


def test_use_keeps_an_idle_machine(machine: Machine) -> None:
    write_limits(daemon.FOLDER, Limits(idle_seconds=3600))
    guard = machine.guard()
    machine.busy = True
    machine.pass_time(guard, 7200)
    machine.busy = False

    machine.pass_time(guard, 3500)
    assert machine.ended == []
    machine.pass_time(guard, 200)

    assert machine.ended


def test_a_machine_that_nobody_uses_ends_unless_something_is_being_sent_to_it(machine: Machine) -> None:
    write_limits(daemon.FOLDER, Limits(unused_seconds=3600))
    daemon.STATE.mkdir()
    guard = machine.guard()
    machine.pass_time(guard, 3580)
    (daemon.STATE / "project").mkdir()
    machine.pass_time(guard, TOUCHED_SECONDS - 20)
    assert machine.ended == []
    machine.pass_time(guard, 40)
    assert machine.ended == ["this machine ends itself now: no run was started on it"]


def test_a_shutdown_that_was_refused_is_asked_for_again(machine: Machine) -> None:
    write_limits(daemon.FOLDER, Limits(ttl_seconds=60))

    machine.pass_time(machine.guard(), 60 + 3 * daemon.RETRY_SECONDS)

    assert len(machine.ended) == 4


def test_more_time_counts_from_the_next_look_on(machine: Machine) -> None:
    write_limits(daemon.FOLDER, Limits(ttl_seconds=3600))
    guard = machine.guard()
    machine.pass_time(guard, 3500)

    write_limits(daemon.FOLDER, Limits(ttl_seconds=7200))
    machine.pass_time(guard, 3000)

    assert machine.ended == []


def test_files_that_were_damaged_take_no_time_away_and_give_no_limit(tmp_path: Path) -> None:
    (tmp_path / "limits.json").write_text('{"ttl_seconds": "x", "idle_seconds": true')
    (tmp_path / "count.json").write_text("[]")

    assert read_limits(tmp_path) == Limits()
    assert read_count(tmp_path, "a", 5.0).ran(20.0) == 15.0


def test_what_it_has_found_can_be_read(machine: Machine) -> None:
    write_limits(daemon.FOLDER, Limits(ttl_seconds=3600, idle_seconds=1800))
    machine.guard().poll()

    status = json.loads((machine.folder / "status").read_text())

    assert (status["cause"], status["ends_at"], status["ran_seconds"]) == ("IDLE", 2800.0, 10.0)
    assert "when nothing has used it for 30 min" in (machine.folder / "notice").read_text()
