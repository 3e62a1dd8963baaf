"""A run with a deadline: in every order of events it is moved in time, and back when that costs less."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.deadline import BOOT_SECONDS, RESTORE_SECONDS
from runctl.agent.end_reason import EndReason
from runctl.core.errors import Interrupted, Unreachable
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, Market
from runctl.core.tags import ATTEMPT
from runctl.runs.recovering.outcome import Outcome, Recovered
from runctl.runs.recovering.recover import recover_run
from runctl.runs.recovering.watching import watch_runs
from tests.runs.recovering.recovery_machine import Recovery
from tests.runs.recovering.world import FIRST, RUN, Cloud


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


@pytest.mark.parametrize("minutes", range(0, 12, 2))
def test_on_demand_is_begun_in_time_though_every_spot_machine_fails_as_it_boots(minutes: int) -> None:
    class Soon(RecoveryInTime):
        deadline = timedelta(hours=5, minutes=20 + minutes)

    there = Soon()
    clock = there.world.clock
    there.world.end(FIRST)
    failed: list[InstanceId] = []
    real = Cloud.wait_ready

    def ready(cloud: Cloud, instance_id: InstanceId, **waits: Any) -> Instance:
        if there.world.machines[instance_id].market is Market.SPOT:
            failed.append(instance_id)
            clock.advance(timedelta(seconds=200))
            raise Unreachable("it is not ready")
        return real(cloud, instance_id, **waits)

    def started(recovered: Recovered) -> None:
        if recovered.outcome is Outcome.STARTED:
            raise KeyboardInterrupt

    with patch.object(Cloud, "wait_ready", ready), pytest.raises(Interrupted):
        watch_runs(there.session, [there.store.get(RUN)], on_change=started, clock=clock)

    record = there.store.get(RUN)
    assert record.market == "on-demand"
    assert record.deadline is not None
    # Nothing of it is done, and the machine takes a restart to begin.
    left = record.deadline.ends_at - record.created_at.timestamp()
    assert left >= 4 * 3600 + BOOT_SECONDS + RESTORE_SECONDS
    assert len(failed) > 2
    there.teardown()


TestRecoveryInTime = RecoveryInTime.TestCase
TestRecoveryInTime.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
