"""What an announced end of the machine asks of a run."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from runctl.agent.attempt.attempt import sharpened
from runctl.agent.attempt.watchers.interruption_notice import InterruptionNotice, interruption_request
from runctl.agent.cloud.metadata import Metadata
from runctl.agent.cloud.spot_notices import NoticeReader
from runctl.agent.interruption import RESERVE_SECONDS, Notice
from runctl.agent.machine.shutdown import Shutdown
from runctl.agent.records import AttemptFolder, StopRequest
from runctl.agent.spec import EndReason

NOON = 1795867200.0


@pytest.mark.parametrize(
    ("notice", "said"),
    [
        (Notice(NOON), "EC2 takes the spot machine back at 12:00:00 UTC"),
        (Notice(NOON, "stop"), "EC2 stops the spot machine at 12:00:00 UTC"),
        (
            Notice(NOON, is_rehearsal=True),
            "an interruption is rehearsed, as if the machine ended at 12:00:00 UTC",
        ),
    ],
)
def test_a_notice_ends_the_run_with_the_grace_that_is_left(notice: Notice, said: str) -> None:
    request = interruption_request(notice, 0.0, NOON - 100)
    assert request == StopRequest(
        EndReason.INTERRUPTED, 100 - RESERVE_SECONDS, NOON - 100, said, machine_ends_at=NOON
    )


def test_a_notice_that_comes_while_a_run_ends_bounds_its_grace_from_now_on() -> None:
    shutdown = Shutdown(time.monotonic() - 100, 600.0)
    request = interruption_request(Notice(NOON), 0.0, NOON - 50)
    bounded = sharpened(shutdown, request)
    assert bounded.grace == pytest.approx(100 + 50 - RESERVE_SECONDS, abs=5)
    # Asked again, it stays: time has passed meanwhile.
    assert sharpened(bounded, request).grace == bounded.grace
    assert sharpened(Shutdown(shutdown.began, 30.0), request).grace == 30.0


def test_a_second_stop_counts_from_the_first() -> None:
    shutdown = Shutdown(time.monotonic() - 100, 600.0)
    assert sharpened(shutdown, StopRequest(grace_seconds=5.0)).grace == 5.0


def test_two_notices_make_one_end_and_an_earlier_one_brings_it_forward(tmp_path: Path) -> None:
    reader = NoticeReader(Metadata({}, 1.0))
    watcher = InterruptionNotice(
        SimpleNamespace(folder=AttemptFolder(tmp_path), notices=reader, publish_seconds=lambda: 0.0)  # type: ignore[arg-type]
    )
    now = time.time()
    assert watcher.stop_request() is None
    reader.interruption = Notice(now + 100)
    first = watcher.stop_request()
    assert first is not None
    for same_or_later in (100, 200):
        reader.interruption = Notice(now + same_or_later)
        assert watcher.stop_request() is first
    reader.interruption = Notice(now + 50)
    earlier = watcher.stop_request()
    assert earlier is not None
    assert (earlier.reason, earlier.machine_ends_at) == (first.reason, now + 50)
    assert earlier.grace_seconds < first.grace_seconds
