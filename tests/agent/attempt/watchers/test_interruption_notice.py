"""What an announced end of the machine asks of a run."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from runctl.agent.attempt.attempt import sharpened
from runctl.agent.attempt.watchers.interruption_notice import (
    InterruptionNotice,
    announced,
    interruption_request,
    supersedes,
)
from runctl.agent.cloud.metadata import Metadata
from runctl.agent.cloud.spot_notices import NoticeReader
from runctl.agent.end_reason import EndReason
from runctl.agent.interruption import RESERVE_SECONDS, Notice
from runctl.agent.machine.shutdown import Shutdown
from runctl.agent.records import AttemptFolder, StopRequest

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
    assert request == StopRequest(EndReason.INTERRUPTED, 100 - RESERVE_SECONDS, NOON - 100, said, notice)


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


@pytest.mark.parametrize(
    "played", [Notice(NOON, is_rehearsal=True), Notice(NOON, moves=True, why="on-demand")]
)
def test_what_the_provider_says_counts_more_than_what_is_played_even_where_it_ends_later(
    played: Notice,
) -> None:
    assert supersedes(played, None)
    assert supersedes(Notice(NOON + 60), played)
    assert not supersedes(Notice(NOON + 60, is_rehearsal=True), Notice(NOON))


def test_a_machine_is_taken_back_by_the_one_answer_whoever_asks(tmp_path: Path) -> None:
    reader, folder = NoticeReader(Metadata({}, 1.0)), AttemptFolder(tmp_path)
    assert announced(reader, folder) is None
    rehearsed = Notice(NOON, is_rehearsal=True)
    folder.write_notice(rehearsed)
    assert (announced(reader), announced(reader, folder)) == (None, rehearsed)
    reader.interruption = Notice(NOON + 60)
    assert announced(reader) == announced(reader, folder) == Notice(NOON + 60)


def test_a_machine_that_is_taken_back_during_a_rehearsal_is_handed_over_in_earnest(tmp_path: Path) -> None:
    reader, folder = NoticeReader(Metadata({}, 1.0)), AttemptFolder(tmp_path)
    watcher = InterruptionNotice(
        SimpleNamespace(folder=folder, notices=reader, publish_seconds=lambda: 0.0)  # type: ignore[arg-type]
    )
    folder.write_notice(Notice(time.time() + 30, is_rehearsal=True))
    first = watcher.stop_request()
    assert first is not None
    assert first.notice is not None
    assert first.notice.is_rehearsal
    reader.interruption = Notice(time.time() + 110)
    second = watcher.stop_request()
    assert second is not None
    assert second.notice == reader.interruption
    assert watcher.stop_request() is second
