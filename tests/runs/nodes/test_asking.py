"""What is known of a machine that has gone without saying how the run ended there."""

from __future__ import annotations

import pytest

from runctl.agent.spec import EndReason, EndRecord
from runctl.core.ids import InstanceId
from runctl.runs.nodes.asking import end_by_head
from runctl.runs.records.node_records import KnownNode, KnownNodes

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
