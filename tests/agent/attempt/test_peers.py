"""What a machine makes of what rank 0 says of all."""

from __future__ import annotations

from runctl.agent.attempt.node_group import WhenLost
from runctl.agent.attempt.peers import Answer, Peers
from runctl.agent.node_spec import NodeSpec
from runctl.agent.spec import EndReason

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


def peers(rank: int) -> Peers:
    node = NodeSpec(rank, ADDRESSES, "torchrun", "s" * 32, 1, 2, least=2)
    return Peers(node, WhenLost.BEGIN_AGAIN, lambda: "", lambda: None)


def test_a_machine_that_is_left_behind_ends_and_does_not_begin_again() -> None:
    answer = Answer(start=True, gone=(2,), round=1)
    left, behind = peers(1), peers(2)
    for each in (left, behind):
        each._take(answer)
    assert (left.begin_again, left.cause) == (True, None)
    assert left.next_round() == (2,)
    assert not behind.begin_again
    assert behind.cause is not None
    assert behind.cause.reason == EndReason.LOST
