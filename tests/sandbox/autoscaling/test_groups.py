"""What a group does next, decided from what EC2 says of its members."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.sandbox.autoscaling.groups import ScheduledAction, Seen, Step, due, market_of_next, next_step

UP = Seen("i-up", "running")
NEW = Seen("i-new", "pending")
RISKY = Seen("i-risky", "running", at_risk=True)


@pytest.mark.parametrize(
    ("desired", "members", "rebalances", "suspended", "step"),
    [
        pytest.param(1, (), False, (), Step(launch=1), id="empty"),
        pytest.param(1, (UP,), False, (), Step(), id="as it should be"),
        pytest.param(0, (UP,), False, (), Step(terminate=("i-up",)), id="one too many"),
        pytest.param(1, (), False, ("Launch",), Step(), id="launching suspended"),
        pytest.param(0, (UP,), False, ("Terminate",), Step(), id="terminating suspended"),
        *[
            pytest.param(1, (Seen("i", state),), False, (), Step(launch=1, replace=("i",)), id=state)
            for state in ("stopping", "stopped", "shutting-down", "terminated")
        ],
        pytest.param(1, (Seen("i", "stopped"),), False, ("ReplaceUnhealthy",), Step(), id="not replaced"),
        pytest.param(1, (RISKY,), False, (), Step(), id="a recommendation alone does nothing"),
        pytest.param(1, (RISKY,), True, (), Step(launch=1), id="rebalancing starts a second one"),
        pytest.param(1, (RISKY, NEW), True, (), Step(), id="which is waited for"),
        pytest.param(
            1, (RISKY, UP), True, (), Step(terminate=("i-risky",)), id="and then the first one goes"
        ),
    ],
)
def test_the_next_step(
    desired: int, members: tuple[Seen, ...], rebalances: bool, suspended: tuple[str, ...], step: Step
) -> None:
    assert next_step(desired, members, rebalances=rebalances, suspended=suspended) == step


STATES = ("pending", "running", "stopping", "stopped", "shutting-down", "terminated")


@given(
    st.integers(0, 3),
    st.lists(st.tuples(st.sampled_from(STATES), st.booleans()), max_size=6),
    st.booleans(),
)
def test_the_steps_lead_to_the_desired_capacity_and_stay_there(
    desired: int, states: list[tuple[str, bool]], rebalances: bool
) -> None:
    members = [Seen(f"i-{number}", state, risk) for number, (state, risk) in enumerate(states)]
    for turn in range(4):
        step = next_step(desired, members, rebalances=rebalances)
        gone = {*step.terminate, *step.replace}
        members = [
            Seen(each.instance_id, "running", each.at_risk)
            for each in members
            if each.instance_id not in gone
        ]
        members += [Seen(f"i-new-{turn}-{number}", "running") for number in range(step.launch)]
    assert next_step(desired, members, rebalances=rebalances) == Step()
    assert len(members) == desired


def test_a_mixed_group_is_on_demand_unless_told_otherwise() -> None:
    spot = {"OnDemandPercentageAboveBaseCapacity": 0}
    assert market_of_next(None, 0, 1) == "on-demand"
    assert market_of_next({}, 0, 1) == "on-demand"
    assert market_of_next(spot, 0, 1) == "spot"
    assert market_of_next({**spot, "OnDemandBaseCapacity": 1}, 0, 2) == "on-demand"
    assert market_of_next({**spot, "OnDemandBaseCapacity": 1}, 1, 2) == "spot"


def test_scheduled_actions_are_due_in_the_order_of_their_times() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    late, early, future = (
        ScheduledAction(name, now + timedelta(seconds=seconds), 1, None, None)
        for name, seconds in (("late", 0), ("early", -60), ("future", 1))
    )
    assert due([late, early, future], now) == [early, late]
