"""A run with a deadline: in every order of events it is moved in time, and back when that costs less."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.spec import EndReason
from runctl.core.machine_models import Market
from runctl.core.tags import ATTEMPT
from runctl.runs.recovering.recover import Outcome, Recovered, recover_run
from tests.runs.recovering.recovery_machine import Recovery
from tests.runs.recovering.world import FIRST, RUN


class RecoveryInTime(Recovery):
    """The same with a deadline: it is moved while it goes on, too."""

    deadline = timedelta(hours=6)

    @rule(minutes=st.integers(10, 120))
    def time_passes(self, minutes: int) -> None:
        self.world.clock.advance(timedelta(minutes=minutes))

    @invariant()
    def nothing_is_rented_beside_what_it_uses_and_what_comes_next(self) -> None:
        attempts = {self.world.machines[name].tags.get(ATTEMPT) for name in self.world.going()}
        assert len(self.world.going()) <= 2 + (None in attempts)


def test_a_run_is_moved_to_on_demand_when_no_more_time_may_be_lost() -> None:
    there = RecoveryInTime()
    there.world.clock.advance(timedelta(hours=1.8))
    asked = there.session, there.store.get(RUN)
    assert recover_run(*asked, clock=there.world.clock).outcome is Outcome.GOES_ON

    there.world.clock.advance(timedelta(minutes=10))
    there.world.capacity = False
    stays = recover_run(*asked, clock=there.world.clock)
    assert (stays.outcome, there.world.going()) == (Outcome.GOES_ON, [FIRST])
    assert stays.why == "stays where it is: no on-demand machine is available (there is no machine)"

    there.world.capacity = True
    moved = recover_run(*asked, clock=there.world.clock)
    assert moved.outcome is Outcome.STARTED
    assert moved.record.past[0].end_reason is EndReason.MOVED
    (machine,) = there.world.going()
    assert there.world.machines[machine].market is Market.ON_DEMAND
    # Nothing that it has done lies in a checkpoint: it does not go back.
    there.world.clock.advance(timedelta(minutes=10))
    assert recover_run(*asked, clock=there.world.clock).outcome is Outcome.GOES_ON
    there.teardown()


def saves(there: Recovery) -> None:
    """The script that runs went on from the newest checkpoint, and has one of now in the store."""
    (machine,) = there.world.training()
    runs = there.world.runs[machine]
    attempt, now = max(runs), there.world.clock.now().timestamp()
    before = there.store.get(RUN).past
    runs[attempt] = replace(
        runs[attempt],
        checkpoint=CheckpointStatus("/c/1.pt", now, published_at=now),
        resumed=before[-1].checkpoint if before else None,
    )


def test_without_spot_capacity_a_run_goes_on_demand_in_time_and_back_when_there_is_some() -> None:
    there = RecoveryInTime()
    clock = there.world.clock

    def recovered() -> Recovered:
        return recover_run(there.session, there.store.get(RUN), clock=clock)

    clock.advance(timedelta(minutes=30))
    saves(there)
    recovered()
    there.world.end(FIRST, interrupted=True)
    there.world.spot = False
    assert recovered().outcome is Outcome.NO_CAPACITY
    # Two hours may be lost; what restarts are expected to need is kept of them.
    clock.advance(timedelta(minutes=95))
    moved = recovered()
    assert (moved.outcome, moved.record.market) == (Outcome.STARTED, "on-demand")

    clock.advance(timedelta(minutes=11))
    saves(there)
    assert recovered().why == "stays where it is: no spot machine is available (there is no machine)"
    # It asks again some time later, and the machine works on.
    there.world.spot = True
    clock.advance(timedelta(minutes=5))
    saves(there)
    assert recovered().outcome is Outcome.GOES_ON
    clock.advance(timedelta(minutes=6))
    saves(there)
    back = recovered()
    assert (back.outcome, back.record.market) == (Outcome.STARTED, "spot")
    assert [each.end_reason for each in back.record.past] == [EndReason.INTERRUPTED, EndReason.MOVED]
    assert there.world.going() == [back.record.instance_id]
    there.teardown()


TestRecoveryInTime = RecoveryInTime.TestCase
TestRecoveryInTime.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
