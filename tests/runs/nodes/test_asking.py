"""What is known of a machine that has gone without saying how the run ended there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import AttemptStatus, EndRecord, RunState
from runctl.core.errors import Unreachable
from runctl.core.ids import InstanceId
from runctl.core.run_models import RunPhase
from runctl.machines.session import Session
from runctl.runs.nodes import asking
from runctl.runs.nodes.asking import combined, confirmed, end_by_head, stop_nodes
from runctl.runs.records.node_records import KnownNode, KnownNodes
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from tests.runs.nodes.records import Nobody, on_machines

AT = datetime(2026, 6, 1, 13, tzinfo=UTC)
COMPLETED = EndRecord(EndReason.COMPLETED, 9.0, 0)


def nodes(head: EndRecord | None) -> KnownNodes:
    three = (KnownNode(rank, InstanceId(f"i-{rank}"), f"10.0.0.{rank}") for rank in range(3))
    found = KnownNodes("none", "", 3, tuple(three))
    return found if head is None else found.with_node(found.nodes[0].ended(head))


def test_where_rank_0_has_completed_it_had_completed() -> None:
    known = nodes(COMPLETED)
    for rank in (1, 2):
        end = end_by_head(known, rank)
        assert end is not None
        known = known.with_node(known.nodes[rank].ended(end))
    assert (known.end.reason, known.end.exit_code) == (EndReason.COMPLETED, 0)


def test_where_all_were_stopped_it_was_stopped_for_the_same_cause() -> None:
    failed = EndRecord(
        EndReason.STOPPED, 9.0, caused_by=2, cause=EndReason.FAILED, message="node 2: it failed"
    )
    end = end_by_head(nodes(failed), 1)
    assert end is not None
    assert (end.reason, end.caused_by, end.run_reason) == (EndReason.STOPPED, 2, EndReason.FAILED)
    # Its own word alone would say more of that.
    assert end_by_head(nodes(failed), 2) is None


@pytest.mark.parametrize(
    "head",
    [
        None,
        EndRecord(EndReason.INTERRUPTED, 9.0),
        EndRecord(EndReason.STOPPED, 9.0, caused_by=1, cause=EndReason.LOST),
    ],
)
def test_rank_0_says_nothing_of_it_where_the_run_goes_on(head: EndRecord | None) -> None:
    assert end_by_head(nodes(head), 2) is None
    assert end_by_head(nodes(COMPLETED), 0) is None


def test_of_a_machine_without_which_the_run_has_gone_on_rank_0_knows_no_end() -> None:
    assert end_by_head(nodes(replace(COMPLETED, gone=(2,))), 2) is None


def test_a_machine_without_which_the_run_has_gone_on_is_lost_where_it_cannot_be_asked() -> None:
    known = nodes(replace(COMPLETED, gone=(2,)))
    known = known.with_node(known.nodes[1].ended(COMPLETED))
    going = on_machines("run-a", "i-0", "i-1", "i-2")
    silent = known.with_node(replace(known.nodes[2], state=RunPhase.UNKNOWN))
    record = combined(going, silent, None, AT)
    assert (record.state, record.end_reason) == (RunPhase.ENDED, EndReason.COMPLETED)
    assert record.nodes is not None
    assert record.nodes.ends[2].reason is EndReason.LOST
    # One that still saves is waited for.
    assert not combined(going, known, None, AT).has_ended


class Head:
    """Rank 0's machine, which says this when it is asked."""

    def __init__(self, status: AttemptStatus | None) -> None:
        self._status = status
        self.agent = self

    def status(self, *_: object) -> AttemptStatus:
        if self._status is None:
            raise Unreachable("it does not answer")
        return self._status


def told_lost() -> RunRecord:
    """Of a run whose rank 0 did not answer when the other machine called it lost."""
    going = on_machines("run-a", "i-0", "i-1", region=None)
    assert going.nodes is not None
    lost = EndRecord(EndReason.LOST, 9.0, message="node 0 is silent")
    known = going.nodes.with_node(going.nodes.nodes[0].ended(lost))
    by_it = EndRecord(EndReason.STOPPED, 9.0, caused_by=0, cause=EndReason.LOST, log_sha256="f")
    return combined(going, known.with_node(known.nodes[1].ended(by_it)), None, AT)


RUNS = AttemptStatus("run-a", 1, RunState.RUNNING, created_at=1.0)
FAILED = EndRecord(EndReason.FAILED, 99.0, 3, log_sha256="f")


@pytest.mark.parametrize(
    ("status", "phase", "reason"),
    [
        (RUNS, RunPhase.STOPPING, None),
        (replace(RUNS, state=RunState.ENDED, end=FAILED), RunPhase.ENDED, EndReason.FAILED),
        (replace(RUNS, orphaned=True), RunPhase.ENDED, EndReason.LOST),
        (None, RunPhase.ENDED, EndReason.LOST),
    ],
)
def test_what_rank_0_says_itself_counts_more_than_what_another_machine_has_said_of_it(
    monkeypatch: pytest.MonkeyPatch, status: AttemptStatus | None, phase: RunPhase, reason: EndReason | None
) -> None:
    record, session = told_lost(), Session()
    assert record.end_reason is EndReason.LOST
    session.__dict__["_providers"] = {"aws": Nobody()}
    run_store(session).put(record)
    monkeypatch.setattr(asking, "node_machine", lambda *_: Head(status))

    told = confirmed(session, record)

    assert (told.state, told.end_reason, told.ended_at is None) == (phase, reason, reason is None)
    known = run_store(session).get("run-a")
    assert (known.state, known.end_reason) == (phase, reason)
    if reason is EndReason.LOST:
        assert told is record


def test_rank_0s_own_end_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(asking, "node_machine")
    record = on_machines("run-a", "i-0", "i-1", logs=(b"1", b"2"))
    assert confirmed(Session(), record) is record


class Stopped:
    """The machines of a run, each told to stop; one that is told by another one has ended before."""

    def __init__(self, silent: str = "") -> None:
        self.told: list[tuple[str, timedelta | None, bool]] = []
        self._silent = silent

    def machine(self, _: Session, __: RunRecord, node: KnownNode) -> Any:
        if node.instance_id == self._silent:
            raise Unreachable("it does not answer")

        def stop(*_: object, grace: timedelta | None, force: bool) -> AttemptStatus:
            self.told.append((node.instance_id, grace, force))
            cause = None if node.rank == 0 else 0
            end = EndRecord(EndReason.STOPPED, 50.0, 143, caused_by=cause, log_sha256="f")
            return replace(RUNS, state=RunState.ENDED, end=end)

        return SimpleNamespace(agent=SimpleNamespace(stop=stop))


def test_a_stop_reaches_every_machine_with_its_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    machines, grace = Stopped(), timedelta(seconds=7)
    monkeypatch.setattr(asking, "node_machine", machines.machine)
    record = stop_nodes(Session(), on_machines("run-a", "i-0", "i-1", "i-2", region=None), grace=grace)
    assert sorted(machines.told) == [(each, grace, False) for each in ("i-0", "i-1", "i-2")]
    assert (record.state, record.end_reason, record.exit_code) == (RunPhase.ENDED, EndReason.STOPPED, 143)


def test_where_one_machine_cannot_be_reached_the_others_are_stopped_and_the_run_is_not_called_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machines, session = Stopped(silent="i-1"), Session()
    session.__dict__["_providers"] = {"aws": Nobody()}
    monkeypatch.setattr(asking, "node_machine", machines.machine)
    record = stop_nodes(session, on_machines("run-a", "i-0", "i-1", "i-2", region=None), force=True)
    assert sorted(machines.told) == [("i-0", None, True), ("i-2", None, True)]
    assert (record.state, record.end_reason) == (RunPhase.UNKNOWN, None)
    assert record.nodes is not None
    assert sorted(record.nodes.ends) == [0, 2]
