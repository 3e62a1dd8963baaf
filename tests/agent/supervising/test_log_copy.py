"""A log's copy follows it, whatever becomes of the volume meanwhile."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import EndRecord
from runctl.agent.supervising import log_copy
from runctl.agent.supervising.log_copy import FolderStore, LogCopier, complete_copy
from tests.agent.driver import until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INTERVAL_SECONDS", "FLUSH_SECONDS", "TROUBLE_SECONDS"):
        monkeypatch.setattr(log_copy, name, 0.01)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").write_bytes(b"one\n")
    return tmp_path / "log"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "volume/runs/r").mkdir(parents=True)
    return tmp_path / "volume/runs/r"


def end_of(log: Path) -> EndRecord:
    return EndRecord(EndReason.COMPLETED, 1.0, log_bytes=log.stat().st_size)


def add(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def test_a_copy_is_taken_up_where_an_earlier_one_ended(log: Path, run: Path) -> None:
    first = LogCopier(log, run, 1)
    first.start()
    until(lambda: (run / "logs/1.log").exists() and (run / "logs/1.log").stat().st_size == 4, "the copy")
    add(log, bytes(range(256)) * 10_000)
    second = LogCopier(log, run, 1)
    second.start()
    assert second.finish(end_of(log))
    assert (run / "logs/1.log").read_bytes() == log.read_bytes()


def test_a_copy_that_somebody_removes_begins_anew(log: Path, run: Path) -> None:
    copier = LogCopier(log, run, 1)
    copier.start()
    until((run / "logs/1.log").exists, "the copy")
    (run / "logs/1.log").unlink()
    (run / "logs").rmdir()
    add(log, b"two\n")
    assert copier.finish(end_of(log))
    assert (run / "logs/1.log").read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("planted", ["logs", "logs/1.log", "logs/1.end.json"])
def test_no_link_is_followed(planted: str, log: Path, run: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir() if planted == "logs" else victim.write_text("mine")
    (run / planted).parent.mkdir(exist_ok=True)
    (run / planted).symlink_to(victim)
    copier = LogCopier(log, run, 1)
    copier.start()
    complete = copier.finish(end_of(log))
    assert list(victim.iterdir()) == [] if planted == "logs" else victim.read_text() == "mine"
    # The end record's name is taken over, not what it leads to.
    assert complete is (planted == "logs/1.end.json")
    assert bool(copier.trouble) is not complete


def test_without_the_runs_folder_there_is_no_copy_and_the_end_is_not_held_up(
    log: Path, tmp_path: Path
) -> None:
    copier = LogCopier(log, tmp_path / "nothing", 1)
    copier.start()
    assert copier.finish(end_of(log)) is False


def test_a_full_volume_is_said_and_tried_again(log: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, full = os.pwrite, [True]

    def write(fd: int, data: bytes, offset: int) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", write)
    copier = LogCopier(log, run, 1)
    copier.start()
    until(lambda: copier.trouble == "No space left on device", "the trouble")
    full[0] = False
    assert copier.finish(end_of(log))
    assert (run / "logs/1.log").read_bytes() == b"one\n"


def test_what_a_dead_supervisor_left_is_completed_but_none_is_begun(log: Path, run: Path) -> None:
    assert complete_copy(log, run, 1, end_of(log)) is False
    assert list(run.iterdir()) == []
    FolderStore(run, 1).close()
    assert complete_copy(log, run, 1, end_of(log)) is True
    assert (run / "logs/1.log").read_bytes() == b"one\n"
