"""Whether what happens on one machine ends a run on all, and which one it was."""

from __future__ import annotations

import random

import pytest

from runctl.agent.attempt.node_group import NodeGroup, NodeState, Report, WhenLost
from runctl.agent.node_spec import NodeCause, NodeSpec

EPOCH = 1_000_000.0


def group(count: int = 3, least: int = 0, when_lost: WhenLost = WhenLost.GO_ON) -> NodeGroup:
    addresses = tuple(f"10.0.0.{4 + rank}" for rank in range(count))
    return NodeGroup(NodeSpec(0, addresses, "none", "s", 1, 2, least), began_at=0.0, when_lost=when_lost)


def beat(
    machines: NodeGroup,
    now: float,
    state: NodeState,
    *ranks: int,
    cause: NodeCause | None = None,
    in_round: int = 0,
) -> None:
    for rank in ranks or range(machines.node.count):
        machines.hear(Report(rank, state, "installing", cause, in_round), now, EPOCH + now)
    machines.judge(now, EPOCH + now)


def failure(rank: int, at: float, reason: str = "FAILED", message: str = "exit code 3") -> NodeCause:
    return NodeCause(rank, reason, message, EPOCH + at)


def test_nothing_starts_before_all_are_ready() -> None:
    machines = group()
    beat(machines, 1.0, NodeState.READY, 0, 2)
    assert machines.waiting_for() == (1,)
    before = machines.started
    beat(machines, 2.0, NodeState.READY, 1)
    assert (before, machines.started) == (False, True)


def test_a_failure_ends_all_when_it_is_sure_to_be_the_first() -> None:
    machines = group()
    beat(machines, 1.0, NodeState.RUNNING)
    beat(machines, 2.0, NodeState.ENDED, 1, cause=failure(1, 2.0))
    too_early = machines.cause
    beat(machines, 3.0, NodeState.RUNNING, 0, 2)
    beat(machines, 4.0, NodeState.RUNNING, 0, 2)
    assert (too_early, machines.cause) == (None, failure(1, 2.0))


def test_what_failed_first_counts_though_it_is_heard_last() -> None:
    machines = group()
    beat(machines, 1.0, NodeState.RUNNING)
    beat(machines, 3.0, NodeState.ENDED, 0, cause=failure(0, 2.9, message="connection reset"))
    beat(machines, 3.4, NodeState.ENDED, 2, cause=failure(2, 2.8, message="exit code 3"))
    beat(machines, 5.0, NodeState.RUNNING, 1)
    assert machines.cause is not None
    assert machines.cause.rank == 2


def test_a_failure_that_a_lost_machine_has_caused_is_not_the_cause() -> None:
    machines = group()
    beat(machines, 1.0, NodeState.RUNNING)
    # Rank 1 is gone from here on, and rank 0's script notices.
    beat(machines, 3.0, NodeState.ENDED, 0, cause=failure(0, 2.5, message="connection reset"))
    causes = []
    for now in range(4, 17):
        causes.append(machines.cause)
        beat(machines, float(now), NodeState.RUNNING, 2)
    assert set(causes) == {None}
    assert machines.cause is not None
    assert (machines.cause.rank, machines.cause.reason) == (1, "LOST")
    assert "node 1 (10.0.0.5) has been silent for 15 s" in machines.cause.message


def test_a_stop_is_passed_on_at_once() -> None:
    machines = group()
    beat(machines, 1.0, NodeState.RUNNING)
    beat(machines, 2.0, NodeState.RUNNING, 2, cause=failure(2, 2.0, "STOPPED"))
    assert machines.cause is not None
    assert machines.cause.reason == "STOPPED"


@pytest.mark.parametrize(
    ("heard", "now", "says"),
    [
        ((0, 2), 120.0, "node 1 (10.0.0.5) did not report within 120 s"),
        ((0, 1, 2), 920.0, "node 1 (10.0.0.5) is not ready 900 s after another node: installing"),
    ],
)
def test_a_machine_that_does_not_come_to_the_start_is_named(
    heard: tuple[int, ...], now: float, says: str
) -> None:
    machines = group()
    for second in range(20, int(now) + 1):
        for rank in heard:
            state = NodeState.PREPARING if rank == 1 else NodeState.READY
            machines.hear(Report(rank, state, "installing"), second, EPOCH + second)
        machines.judge(float(second), EPOCH + second)
    assert machines.cause is not None
    assert machines.cause.message == says
    assert not machines.started


def test_with_enough_left_the_run_goes_on_without_a_machine_that_is_taken_back() -> None:
    machines = group(3, least=2)
    beat(machines, 1.0, NodeState.READY)
    beat(machines, 2.0, NodeState.RUNNING)
    beat(machines, 3.0, NodeState.RUNNING, 2, cause=failure(2, 3.0, "INTERRUPTED"))
    assert list(machines.gone) == [2]
    beat(machines, 4.0, NodeState.RUNNING, 1, cause=failure(1, 4.0, "INTERRUPTED"))
    assert machines.cause == failure(1, 4.0, "INTERRUPTED")


def test_without_rank_0_it_does_not_go_on() -> None:
    machines = group(3, least=2)
    beat(machines, 1.0, NodeState.READY)
    beat(machines, 2.0, NodeState.RUNNING, 0, cause=failure(0, 2.0, "INTERRUPTED"))
    assert machines.cause is not None


def lost(machines: NodeGroup, rank: int, now: float, *, in_round: int = 0) -> float:
    """That one has run until now, and is not heard of any more; when that is known."""
    others = [each for each in range(machines.node.count) if each != rank and each not in machines.gone]
    for _ in range(15):
        now += 1.0
        beat(machines, now, NodeState.RUNNING, *others, in_round=in_round)
    return now


def restarting(count: int = 3, least: int = 1) -> NodeGroup:
    machines = group(count, least, WhenLost.RESTART)
    beat(machines, 1.0, NodeState.READY)
    beat(machines, 2.0, NodeState.RUNNING)
    return machines


def test_the_others_begin_again_together_when_all_have_ended_their_script() -> None:
    machines = restarting()
    now = lost(machines, 2, 2.0)
    assert (list(machines.gone), machines.round, machines.cause) == ([2], 1, None)
    assert (machines.started, machines.waiting_for()) == (False, (0, 1))
    beat(machines, now + 1, NodeState.READY, 0, in_round=1)
    # Rank 1's script has still to end.
    beat(machines, now + 1, NodeState.RUNNING, 1)
    assert (machines.started, machines.waiting_for()) == (False, (1,))
    beat(machines, now + 2, NodeState.READY, 1, in_round=1)
    assert machines.started


def test_a_script_that_fails_because_a_machine_is_gone_begins_again_and_one_that_fails_then_ends_all() -> (
    None
):
    machines = restarting()
    beat(machines, 2.5, NodeState.RUNNING, 1, cause=failure(1, 2.5, message="connection reset"))
    now = lost(machines, 2, 2.0)
    assert (machines.round, machines.cause) == (1, None)
    beat(machines, now + 1, NodeState.READY, 0, 1, in_round=1)
    beat(machines, now + 2, NodeState.RUNNING, 0, 1, in_round=1)
    assert machines.cause is None
    last = failure(1, now + 3)
    for moment in (3, 4, 5, 6):
        beat(machines, now + moment, NodeState.RUNNING, 0, in_round=1)
        beat(machines, now + moment, NodeState.RUNNING, 1, cause=last, in_round=1)
    assert machines.cause == last


def test_a_stop_counts_though_its_machine_has_not_begun_again() -> None:
    machines = restarting()
    now = lost(machines, 2, 2.0)
    beat(machines, now + 1, NodeState.RUNNING, 1, cause=failure(1, now + 1, "STOPPED"))
    assert machines.cause == failure(1, now + 1, "STOPPED")


def test_another_machine_may_be_gone_before_all_have_begun_again() -> None:
    machines = restarting(4, least=2)
    now = lost(machines, 3, 2.0)
    beat(machines, now + 1, NodeState.READY, 0, 1, in_round=1)
    machines.resumes = "step-5.pt"
    beat(machines, now + 2, NodeState.RUNNING, 2, cause=failure(2, now + 2, "INTERRUPTED"))
    assert (sorted(machines.gone), machines.round, machines.cause) == ([2, 3], 2, None)
    # Rank 0 may save more until it has ended its script.
    assert machines.resumes != "step-5.pt"
    # With fewer it does not go on.
    beat(machines, now + 3, NodeState.READY, 0, 1, in_round=2)
    lost(machines, 1, now + 3, in_round=2)
    assert machines.cause is not None
    assert (machines.cause.rank, machines.cause.reason) == (1, "LOST")


@pytest.mark.parametrize("why", ["one has finished", "nothing is kept for all"])
def test_where_they_cannot_begin_again_the_loss_ends_all(why: str) -> None:
    if why == "one has finished":
        machines = restarting()
        beat(machines, 3.0, NodeState.ENDED, 1)
    else:
        machines = group(3, 1, WhenLost.ALL_END)
        beat(machines, 1.0, NodeState.READY)
    for now in range(4, 20):
        beat(machines, float(now), NodeState.RUNNING, 0)
        if why != "one has finished":
            beat(machines, float(now), NodeState.RUNNING, 1)
    assert machines.cause is not None
    assert (machines.cause.rank, machines.cause.reason) == (2, "LOST")


def test_rank_0_that_has_stood_still_does_not_call_itself_lost() -> None:
    machines = group(2, least=2)
    beat(machines, 1.0, NodeState.READY)
    beat(machines, 2.0, NodeState.RUNNING)
    # The other's report is read before rank 0 has made its own.
    machines.hear(Report(1, NodeState.RUNNING), 30.0, EPOCH + 30.0)
    machines.judge(30.0, EPOCH + 30.0)
    assert machines.cause is None


def test_after_it_has_stood_still_rank_0_begins_again_without_those_that_have_ended_for_that() -> None:
    machines = restarting(3, least=1)
    for rank in (1, 2):
        machines.hear(Report(rank, NodeState.ENDED, cause=failure(rank, 3.0, "LOST")), 30.0, EPOCH + 30.0)
    beat(machines, 30.0, NodeState.RUNNING, 0)
    assert (sorted(machines.gone), machines.cause) == ([1, 2], None)


@pytest.mark.parametrize("seed", range(50))
def test_whatever_the_order_of_the_reports_the_first_failure_is_the_cause(seed: int) -> None:
    """Every machine fails in the second after the first failure; each is heard up to a second after its own."""
    rng = random.Random(seed)
    machines = group(5)
    beat(machines, 1.0, NodeState.READY)
    beat(machines, 2.0, NodeState.RUNNING)
    failed = {rank: 3.0 + rng.random() for rank in range(5)}
    heard = sorted((at + rng.random() * 0.4, rank) for rank, at in failed.items())
    last = dict.fromkeys(range(5), 2.0)
    now = 2.0
    while machines.cause is None:
        now += 0.25
        assert now < 10.0
        for rank in range(5):
            ended = next(at for at, each in heard if each == rank) <= now
            if now - last[rank] >= 0.5 or ended:
                last[rank] = now
                cause = failure(rank, failed[rank]) if ended else None
                state = NodeState.ENDED if ended else NodeState.RUNNING
                machines.hear(Report(rank, state, "", cause), now, EPOCH + now)
        machines.judge(now, EPOCH + now)
    assert machines.cause.rank == min(failed, key=lambda rank: failed[rank])
