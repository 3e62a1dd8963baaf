"""A run that may go on only while its machine has the lease: when it must end, and with how much grace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest

from runctl.agent.attempt.watchers import held_lease
from runctl.agent.attempt.watchers.held_lease import LeaseWatch, grace_left
from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.encoding import dumps
from runctl.agent.end_reason import EndReason
from runctl.agent.lease import RENEWALS, SECONDS
from runctl.agent.records import AttemptFolder, HeldLease, StopRequest, lease_file
from runctl.agent.spec import RunSpec


def test_a_store_that_is_away_for_a_minute_stops_nobody() -> None:
    longest_since_renewal = SECONDS / RENEWALS + 60
    assert grace_left(SECONDS - longest_since_renewal, SECONDS, 30.0) is None


@pytest.mark.parametrize(
    ("left", "grace", "expected"),
    [
        (41.0, 30.0, None),
        (40.0, 30.0, 30.0),
        (25.0, 30.0, 15.0),
        (10.0, 30.0, 0.0),
        (-500.0, 30.0, 0.0),
        # However long a script may take: a third of the lease is what it gets.
        (71.0, 600.0, None),
        (70.0, 600.0, 60.0),
        (10.0, 0.0, 0.0),
    ],
)
def test_a_script_has_ended_ten_seconds_before_its_machine_loses_the_lease(
    left: float, grace: float, expected: float | None
) -> None:
    assert grace_left(left, SECONDS, grace) == expected


class Run:
    """A run whose lease is what the test says, on a clock that the test moves."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, *, leased: bool = True) -> None:
        self.now, self._writes = 1000.0, 0
        patch.setenv("RUNCTL_AGENT_STATE", str(folder))
        patch.setattr(held_lease, "clock", lambda: self.now)
        patch.setattr("runctl.agent.attempt.watchers.held_lease.time.time", lambda: 1e9 + self.now)
        spec, nothing = RunSpec("run-1", "train.py", grace_seconds=30.0, leased=leased), cast("Any", None)
        watched = Watched(AttemptFolder(folder / "1"), spec, *(nothing,) * 9)
        self.watch = LeaseWatch(watched)

    def request(self, left: float | None = None, **more: str) -> StopRequest | None:
        """What is asked for now; with ``left``, after the lease was written down as held for so many seconds more."""
        if left is not None:
            path = lease_file("run-1")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dumps(HeldLease(self.now + left, SECONDS, **more)))
            self._writes += 1
            os.utime(path, ns=(self._writes, self._writes))
        return self.watch.stop_request()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, monkeypatch)


def test_a_lease_that_is_not_renewed_ends_the_run_and_the_reason_is_said(run: Run) -> None:
    assert run.request(SECONDS) is None
    run.now += SECONDS - 41
    assert run.request(41, trouble="the store is away") is None
    run.now += 1
    request = run.request()
    assert request is not None
    assert (request.reason, request.grace_seconds) == (EndReason.LOST, 30.0)
    assert request.message == "the run's lease is lost: the store is away"
    # It does not come back.
    assert run.request(SECONDS) == request


def test_a_run_that_nobody_keeps_ends_at_once(run: Run) -> None:
    request = run.request()
    assert request is not None
    assert (request.reason, request.grace_seconds) == (EndReason.LOST, 0.0)


def test_a_run_without_a_lease_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Run(tmp_path, monkeypatch, leased=False).request() is None


def test_a_run_that_is_handed_over_has_its_grace_once_and_no_longer_than_the_lease(run: Run) -> None:
    asked = run.request(SECONDS, wanted_by="i-2")
    assert asked is not None
    assert (asked.reason, asked.grace_seconds, asked.message) == (
        EndReason.MOVED,
        30.0,
        "i-2 takes over the run",
    )
    run.now += 20
    assert run.request(SECONDS, wanted_by="i-2") == asked
    # The lease is lost meanwhile: the grace, which is counted from the first request on, ends ten seconds before it.
    lost = run.request(15, wanted_by="i-2")
    assert lost is not None
    assert (lost.reason, lost.grace_seconds) == (EndReason.LOST, 25.0)
