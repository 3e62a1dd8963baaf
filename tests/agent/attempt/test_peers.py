"""What a machine makes of what rank 0 says of all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.attempt.node_group import WhenLost
from runctl.agent.attempt.peers import Answer, Peers
from runctl.agent.attempt.watchers.other_nodes import OtherNodes, request_of
from runctl.agent.end_reason import EndReason
from runctl.agent.node_spec import NodeCause, NodeSpec
from runctl.agent.records import StopRequest

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


def peers(rank: int) -> Peers:
    node = NodeSpec(rank, ADDRESSES, "torchrun", "s" * 32, 1, 2, least=2)
    return Peers(node, WhenLost.RESTART, lambda: "", lambda: None)


def test_a_machine_that_is_left_behind_ends_and_does_not_begin_again() -> None:
    answer = Answer(start=True, gone=(2,), round=1)
    left, behind = peers(1), peers(2)
    for each in (left, behind):
        each._take(answer)
    assert (left.must_restart, left.cause) == (True, None)
    assert left.next_round() == (2,)
    assert not behind.must_restart
    assert (is_lost(behind), behind.cause) == (True, None)
    assert not is_lost(left)


def is_lost(each: Peers) -> bool:
    """Whether it says of itself, to rank 0 and to whoever reads its end, that the run has lost it."""
    told = each._own
    assert (told is None) == (each.lost is None)
    return told is not None and (told.rank, told.reason) == (each.node.rank, EndReason.LOST.value)


def asked(each: Peers) -> StopRequest | None:
    watched: Any = SimpleNamespace(
        peers=each, spec=SimpleNamespace(grace_seconds=30.0), publish_seconds=lambda: 0.0, log=print
    )
    return OtherNodes(watched).stop_request()


@pytest.mark.parametrize(("publish", "expected"), [(0.0, 30.0), (20.0, 28.0), (200.0, 24.0)])
def test_for_another_machines_notice_a_script_has_half_of_the_time_at_least(
    publish: float, expected: float
) -> None:
    notice = NodeCause(1, EndReason.INTERRUPTED.value, "the provider takes it back", 5.0, 1060.0)
    request = request_of(notice, 30.0, publish, 1000.0)
    assert (request.reason, request.grace_seconds) == (EndReason.INTERRUPTED, expected)


def blamed(each: Peers) -> int | None:
    """For which other machine it ends."""
    return each.cause.rank if each.cause is not None else None


def silent(each: Peers) -> None:
    """Rank 0 is not heard for as long as a machine may be silent."""
    each._heard_at -= each.node.silence_seconds
    each._judge_silence()


GIVEN_UP = NodeCause(1, EndReason.LOST.value, "node 1 (127.0.0.2) has been silent for 15 s", 5.0)


@pytest.mark.parametrize("answer", [Answer(start=True, cause=GIVEN_UP), Answer(start=True, gone=(1,))])
def test_a_machine_that_hears_that_it_was_given_up_ends_as_lost_and_blames_nobody(answer: Answer) -> None:
    each = peers(1)
    each._take(Answer(start=True))
    assert asked(each) is None
    each._take(answer)
    request = asked(each)
    assert request is not None
    assert (request.reason, request.caused_by) == (EndReason.LOST, None)
    assert is_lost(each)


def test_rank_0_that_is_given_up_ends_too() -> None:
    each = peers(0)
    late = NodeCause(0, EndReason.LOST.value, "node 0 is not ready 900 s after another node", 5.0)
    each._take(Answer(cause=late))
    request = asked(each)
    assert request is not None
    assert (request.reason, request.message) == (EndReason.LOST, late.message)


@pytest.mark.parametrize(
    "answer", [Answer(start=True), Answer(start=True, gone=(1,)), Answer(cause=GIVEN_UP)]
)
def test_who_could_not_reach_rank_0_is_lost_itself_once_rank_0_is_heard_again(answer: Answer) -> None:
    each = peers(1)
    each._take(Answer(start=True))
    silent(each)
    assert (blamed(each), each.lost) == (0, None)
    request = asked(each)
    assert request is not None
    assert request.caused_by == 0

    each._take(answer)

    assert blamed(each) is None
    assert is_lost(each)


def test_what_rank_0_says_of_another_machine_counts_more_than_its_silence() -> None:
    each = peers(1)
    each._take(Answer(start=True))
    silent(each)
    failed = NodeCause(2, EndReason.FAILED.value, "exit code 3", 5.0)
    each._take(Answer(cause=failed))
    assert (each.cause, each.lost) == (failed, None)


def test_a_machine_that_ends_by_itself_or_has_completed_is_not_lost() -> None:
    taken_back, done = peers(1), peers(1)
    notice = NodeCause(1, EndReason.INTERRUPTED.value, "the provider takes it back", 5.0)
    taken_back.ends(notice)
    done.has_ended()
    for each in (taken_back, done):
        each._take(Answer(start=True, gone=(1,)))
        assert each.lost is None
    assert (taken_back._own, done._own) == (notice, None)
