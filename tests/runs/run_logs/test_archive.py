"""Followed logs stay here: every byte at its place, whatever was followed in which order, within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import EndRecord
from runctl.runs.run_logs import archive as log_archive
from runctl.runs.run_logs.archive import LogArchive, Span, merged, missing

LOG = bytes(range(256)) * 4
END = EndRecord(EndReason.COMPLETED, 1.0, log_bytes=len(LOG))


def refuse(message: str) -> None:
    raise AssertionError(message)


def follow(archive: LogArchive, start: int, stop: int, step: int = 100, attempt: int = 1) -> None:
    writer = archive.writer("run-1", attempt, refuse)
    assert writer is not None
    for at in range(start, stop, step):
        writer.write(at, LOG[at : min(at + step, stop)])
    writer.close()


def read(archive: LogArchive, start: int = 0) -> dict[int, int]:
    found: dict[int, int] = {}
    for offset, data in archive.read("run-1", 1, start):
        for index, byte in enumerate(data):
            assert offset + index not in found
            found[offset + index] = byte
    return found


@given(
    spans=st.lists(st.tuples(st.integers(0, 1024), st.integers(0, 1024)), max_size=6),
    piece=st.sampled_from([7, 100, 4096]),
)
def test_what_was_followed_is_what_is_read(
    spans: list[tuple[int, int]], piece: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_archive, "PIECE_BYTES", piece)
        archive = LogArchive(tmp_path_factory.mktemp("logs"), 1 << 30)
        for start, stop in spans:
            follow(archive, start, stop)
        expected = {at for start, stop in spans for at in range(start, stop)}
        assert read(archive) == {at: LOG[at] for at in expected}
        assert {at for span in archive.spans("run-1", 1) for at in range(span.start, span.stop)} == expected
        assert {
            at for hole in missing(archive.spans("run-1", 1), 1024) for at in range(hole.start, hole.stop)
        } == (set(range(1024)) - expected)


def test_spans_that_touch_are_one() -> None:
    assert merged([Span(5, 9), Span(0, 5), Span(20, 20), Span(30, 31)]) == (Span(0, 9), Span(30, 31))


def test_the_end_is_kept_beside_the_log(tmp_path: Path) -> None:
    archive = LogArchive(tmp_path, 1 << 30)
    assert archive.end("run-1", 1) is None
    writer = archive.writer("run-1", 1, refuse)
    assert writer is not None
    writer.end(END)
    assert archive.end("run-1", 1) == END
    assert archive.end("run-1", 2) is None


@pytest.mark.parametrize("run_id", ["../../outside", "/etc", "", ".", "a/b", "x" * 65])
def test_a_run_that_is_named_like_a_path_is_not_kept(run_id: str, tmp_path: Path) -> None:
    archive = LogArchive(tmp_path / "logs", 1 << 30)
    assert archive.writer(run_id, 1, refuse) is None
    assert (archive.spans(run_id, 1), archive.end(run_id, 1), list(tmp_path.iterdir())) == ((), None, [])


def test_the_longest_untouched_go_when_there_is_no_more_room(tmp_path: Path) -> None:
    archive = LogArchive(tmp_path, 2500)
    for number in (1, 2, 3):
        writer = archive.writer(f"run-{number}", 1, refuse)
        assert writer is not None
        writer.write(0, LOG)
        writer.close()
        os.utime(tmp_path / f"run-{number}/1/0.log", (number, number))
    assert archive.writer("run-4", 1, refuse) is not None
    assert [run.run_id for run in archive.runs()] == ["run-2", "run-3"]


def test_of_one_long_log_the_end_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_archive, "PIECE_BYTES", 100)
    archive = LogArchive(tmp_path, 1600)
    follow(archive, 0, 1000)
    (span,) = archive.spans("run-1", 1)
    assert span.stop == 1000
    assert 200 <= span.stop - span.start <= 500
    assert missing((span,), 1000) == (Span(0, span.start),)


def test_a_disk_that_refuses_is_said_once_and_ends_no_following(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file is in the way")
    said: list[str] = []
    writer = LogArchive(tmp_path / "logs/below", 1 << 30).writer("run-1", 1, said.append)
    assert writer is not None
    writer.write(0, b"x")
    writer.write(1, b"y")
    assert len(said) == 1
