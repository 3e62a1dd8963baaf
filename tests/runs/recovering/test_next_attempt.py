from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoint_spec import CheckpointSchedule
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import ContainerSpec, MountSpec, RunSpec
from runctl.core.machine_models import Market
from runctl.core.run_models import RunPhase
from runctl.machines.pool_record import Lifetime
from runctl.providers.capacity import FallbackMode, Pool, SpotFallback
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.runs.launch.launch_plan import UNUSED_FOR
from runctl.runs.records.run_record import RunRecord, as_known
from runctl.runs.recovering.next_attempt import history, next_request, next_spec, rules_of, spent
from runctl.runs.stored.recipe import Recipe
from tests.runs.nodes.records import on_machines
from tests.runs.sample_runs import T0, a_run

SPOT = InstanceRequest("g5.xlarge", market=Market.SPOT)
SAVES = MountSpec("/mnt/data", "/data", False, "vol-1", "--ebs-mount")
RECIPE = Recipe(RunSpec("run-aaaa", "train.py", mounts=(SAVES,)), "aws", "us-east-1", request=SPOT)


def ended(**changes: object) -> RunRecord:
    values: dict[str, object] = {
        "state": RunPhase.ENDED,
        "end_reason": EndReason.INTERRUPTED,
        "ended_at": T0 + timedelta(hours=1),
        "market": "spot",
        "instance_type": "g5.xlarge",
        "zone": "us-east-1a",
    }
    return a_run("run-aaaa", **{**values, **changes})


def test_the_pool_that_has_failed_is_asked_last_and_volumes_decide_the_zone() -> None:
    known = Pool("g5.xlarge", "us-east-1c")
    request = replace(
        replace(SPOT, fallback=SpotFallback(FallbackMode.ON_DEMAND)),
        zone="us-east-1a",
        subnet="subnet-a",
        avoid=(known,),
        volumes=(VolumeMount("vol-1"),),
        token="t",
    )

    asked = next_request(request, ended(), 2, Market.SPOT, "us-east-1b")

    assert asked == InstanceRequest(
        "g5.xlarge",
        market=Market.SPOT,
        zone="us-east-1b",
        avoid=(known, Pool("g5.xlarge", "us-east-1a")),
        unused_for=UNUSED_FOR,
        attempt="run-aaaa/2",
    )
    assert next_request(request, ended(), 2, Market.SPOT, None).subnet == "subnet-a"


def test_what_earlier_attempts_have_cost_is_taken_from_the_budget() -> None:
    first = ended(price_per_hour=Decimal("1.20"))
    second = replace(
        ended(attempt=2, price_per_hour=Decimal("2.40"), ended_at=T0 + timedelta(minutes=55)),
        past=(as_known(first),),
    )

    # An hour and five minutes at 1.20, and an hour at 2.40: an hour that the provider gives back is counted.
    assert spent(second) == Decimal("1.30") + Decimal("2.40")
    asked = next_request(replace(SPOT, budget=Decimal(25)), second, 3, Market.SPOT, None)
    assert asked.budget == Decimal("21.30")
    assert next_request(SPOT, second, 3, Market.SPOT, None).budget is None


@pytest.mark.parametrize(
    ("request_", "after"),
    [
        (SPOT, None),
        (replace(SPOT, fallback=SpotFallback(FallbackMode.ASK)), None),
        (replace(SPOT, fallback=SpotFallback(FallbackMode.ON_DEMAND, timedelta(minutes=20))), 1200.0),
        (replace(SPOT, market=Market.ON_DEMAND), 0.0),
    ],
)
def test_spot_turns_into_on_demand_only_where_that_was_asked_for(
    request_: InstanceRequest, after: float | None
) -> None:
    assert rules_of(replace(RECIPE, request=request_)).on_demand_after == after


@pytest.mark.parametrize(
    ("image", "pulled"),
    [
        ("python:3.11", "python@sha256:1"),
        ("localhost:5000/team/python", "localhost:5000/team/python@sha256:1"),
        ("localhost:5000/team/python:3.11@sha256:0", "localhost:5000/team/python@sha256:1"),
    ],
)
def test_the_next_attempt_has_the_image_of_the_first_by_its_digest(image: str, pulled: str) -> None:
    recipe = replace(RECIPE, spec=replace(RECIPE.spec, container=ContainerSpec(image=image)))

    spec = next_spec(recipe, ended(image_digest="sha256:1"), ends_itself=True)

    assert spec == replace(
        recipe.spec, attempt=2, container=ContainerSpec(image=pulled), machine_end=MachineEnd()
    )


@pytest.mark.parametrize(
    ("mounts", "given", "ends_itself", "end"),
    [
        ((SAVES,), None, True, MachineEnd()),
        ((SAVES,), None, False, None),
        # What it writes would end with it.
        ((replace(SAVES, read_only=True),), None, True, MachineEnd(fetch_within_seconds=12 * 3600.0)),
        ((), MachineEnd(keep_on_failure_seconds=60.0), True, MachineEnd(keep_on_failure_seconds=60.0)),
    ],
)
def test_a_machine_that_was_rented_for_an_attempt_ends_itself_when_nothing_is_lost_by_that(
    mounts: tuple[MountSpec, ...], given: MachineEnd | None, ends_itself: bool, end: MachineEnd | None
) -> None:
    recipe = replace(RECIPE, spec=replace(RECIPE.spec, mounts=mounts, machine_end=given))
    assert next_spec(recipe, ended(), ends_itself=ends_itself).machine_end == end


def test_all_attempts_count_with_what_was_paid_for_them() -> None:
    first = ended()
    second = ended(
        attempt=2,
        market="on-demand",
        zone="us-east-1b",
        end_reason=EndReason.LOST,
        created_at=T0 + timedelta(hours=2),
        ended_at=T0 + timedelta(hours=5),
        past=(as_known(first),),
    )

    found = history(second)

    assert [(each.reason, each.market, each.pool, each.ended_at, each.paid) for each in found] == [
        (EndReason.INTERRUPTED, "spot", "g5.xlarge in us-east-1a", 3600.0, 3600.0),
        (EndReason.LOST, "on-demand", "g5.xlarge in us-east-1b", 5 * 3600.0, 3 * 3600.0),
    ]


def test_a_schedule_that_is_computed_uses_what_was_seen_of_machines_by_now() -> None:
    seen = Lifetime(timedelta(hours=5), 2)

    def schedule(given: CheckpointSchedule) -> CheckpointSchedule | None:
        recipe = replace(RECIPE, spec=replace(RECIPE.spec, checkpoint_schedule=given))
        return next_spec(recipe, ended(), ends_itself=True, lifetime=seen).checkpoint_schedule

    assert schedule(CheckpointSchedule()) == CheckpointSchedule(between_interruptions=5 * 3600.0)
    assert schedule(CheckpointSchedule(every_seconds=60.0)) == CheckpointSchedule(every_seconds=60.0)


def test_every_machine_of_several_has_used_the_runs_budget() -> None:
    one = ended(price_per_hour=Decimal(1))
    several = on_machines("run-aaaa", "i-0", "i-1", "i-2", created_at=one.created_at, ended_at=one.ended_at)
    assert spent(replace(several, price_per_hour=Decimal(1))) == 3 * spent(one)
