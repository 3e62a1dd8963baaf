"""Where the lines of a run on several machines come from once it has ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import EndRecord
from runctl.core.errors import NotFound
from runctl.core.ids import InstanceId
from runctl.core.run_models import RunPhase
from runctl.machines.session import Session
from runctl.runs.nodes import following
from runctl.runs.nodes.following import FollowedNodes, lines_of
from runctl.runs.records.node_records import KnownNode, KnownNodes
from runctl.runs.records.run_record import RunRecord
from runctl.runs.run_logs.archive import log_archive
from tests.runs.sample_runs import a_record

LOGS = (b"first\n", b"second\n")


@pytest.fixture
def record() -> RunRecord:
    """A run whose two machines have ended."""
    nodes = tuple(
        KnownNode(
            rank,
            InstanceId(f"i-0000000000000000{rank}"),
            f"10.0.0.{rank + 4}",
            state=RunPhase.ENDED,
            end=EndRecord(EndReason.COMPLETED, 0.0, exit_code=0, log_bytes=len(log)),
        )
        for rank, log in enumerate(LOGS)
    )
    ended = a_record("run-a", "i-1", "2026-06-01 12:00", "2026-06-01 13:00", end_reason=EndReason.COMPLETED)
    return replace(ended, nodes=KnownNodes("none", "t" * 32, 2, nodes))


def keep(record: RunRecord, rank: int, data: bytes) -> None:
    writer = log_archive().writer(record.id, record.attempt, print, rank)
    assert writer is not None
    writer.write(0, data)
    writer.close()


def lines(record: RunRecord) -> tuple[list[tuple[int, bytes]], FollowedNodes]:
    found: list[tuple[int, bytes]] = []
    followed = lines_of(Session(), record, lambda rank, _, line: found.append((rank, line)))
    return found, followed


def test_machines_whose_logs_are_all_here_are_not_asked(
    record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(following, "follow_nodes")
    for rank, log in enumerate(LOGS):
        keep(record, rank, log)

    assert lines(record)[0] == list(enumerate(LOGS))


def test_machines_are_asked_where_a_part_is_missing_and_what_they_cannot_say_is_told(
    record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_answers(_: Session, record: RunRecord, on_line: Any, **__: object) -> FollowedNodes:
        on_line(0, 0, LOGS[0])
        return FollowedNodes(record, None)

    def none_answers(*_: object, **__: object) -> FollowedNodes:
        raise NotFound("the machines are gone")

    keep(record, 1, LOGS[1][:3])
    monkeypatch.setattr(following, "follow_nodes", one_answers)
    found, followed = lines(record)
    assert found == [(0, LOGS[0]), (1, LOGS[1][:3])]
    assert followed.cut_short == (1,)

    monkeypatch.setattr(following, "follow_nodes", none_answers)
    found, followed = lines(record)
    assert found == [(1, LOGS[1][:3])]
    assert followed.cut_short == (0, 1)


def test_a_log_of_which_nothing_is_left_is_an_error(
    record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> FollowedNodes:
        raise NotFound("the machines are gone")

    monkeypatch.setattr(following, "follow_nodes", gone)
    with pytest.raises(NotFound, match="are gone"):
        lines(record)
