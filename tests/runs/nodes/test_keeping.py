"""The logs of a run's machines beside its results."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.errors import Unreachable
from runctl.machines.session import Session
from runctl.runs.nodes import keeping
from runctl.runs.nodes.keeping import other_logs
from runctl.runs.records.run_record import RunRecord
from runctl.runs.run_logs.archive import log_archive
from runctl.runs.run_logs.sources import is_complete
from tests.runs.nodes.records import on_machines

LOGS = (b"first\n", b"second\n", b"the third\n")


@pytest.fixture
def record() -> RunRecord:
    return on_machines("run-a", "i-0", "i-1", "i-2", logs=LOGS)


def keep(record: RunRecord, rank: int, *pieces: tuple[int, bytes]) -> None:
    writer = log_archive().writer(record.id, record.attempt, print, rank)
    assert writer is not None
    for offset, data in pieces:
        writer.write(offset, data)
    writer.close()


def test_every_other_machines_log_is_a_file_of_its_own(record: RunRecord, tmp_path: Path) -> None:
    for rank, log in enumerate(LOGS):
        keep(record, rank, (0, log))

    assert other_logs(Session(), record, tmp_path) == (2, len(LOGS[1]) + len(LOGS[2]))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "1-1.log": LOGS[1],
        "1-2.log": LOGS[2],
    }


def test_of_a_log_with_a_hole_comes_what_is_before_it(
    record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise Unreachable("nobody answers")

    monkeypatch.setattr(keeping, "lines_of", silent)
    keep(record, 1, (0, LOGS[1]))
    keep(record, 2, (0, LOGS[2][:3]), (5, LOGS[2][5:]))

    other_logs(Session(), record, tmp_path)

    assert (tmp_path / "1-2.log").read_bytes() == LOGS[2][:3]


def test_whether_a_log_is_all_here_is_asked_of_each_machine(record: RunRecord) -> None:
    keep(record, 1, (0, LOGS[1]))
    archive = log_archive()
    assert [is_complete(record, archive, rank) for rank in range(3)] == [False, True, False]
