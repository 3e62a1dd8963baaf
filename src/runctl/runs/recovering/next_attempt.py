"""What the next attempt of a run is, by all that came before: its rules, its machine's request, its spec. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from runctl.agent.after_run import MachineEnd
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import RunSpec
from runctl.agent.stored_run import by_digest
from runctl.core.machine_models import Market
from runctl.machines.pool_record import Lifetime
from runctl.providers.capacity import FallbackMode, Pool, SpotFallback
from runctl.providers.instance_plans import InstanceRequest
from runctl.runs.deadlines.standing import paid_seconds
from runctl.runs.launch.launch_plan import FETCH_WITHIN, UNUSED_FOR
from runctl.runs.records.run_record import KnownAttempt, RunRecord, as_known
from runctl.runs.recovery import GiveUp, PastAttempt, Progress, RecoveryRules, decide_next
from runctl.runs.stored.recipe import Recipe

BOOT_AND_END = timedelta(minutes=5)
"""For which a machine is paid before its attempt is created and after that has ended."""


def _past(attempt: KnownAttempt, since: datetime) -> PastAttempt:
    ended = attempt.ended_at or attempt.created_at
    return PastAttempt(
        reason=attempt.end_reason or EndReason.LOST,
        market="spot" if attempt.market == Market.SPOT.value else "on-demand",
        pool=str(Pool(attempt.instance_type or "", attempt.zone or "")),
        ended_at=(ended - since).total_seconds(),
        paid=paid_seconds(attempt, ended),
    )


def history(record: RunRecord) -> list[PastAttempt]:
    """All attempts of a run that has ended, for `decide_next`. Pure."""
    attempts = (*record.past, as_known(record))
    return [_past(each, attempts[0].created_at) for each in attempts]


def rules_of(recipe: Recipe) -> RecoveryRules:
    """The rules, with what the request says of on-demand machines. Pure."""
    request, rules = recipe.request, recipe.rules
    if request is None or rules.on_demand_after is not None:
        return rules
    if request.market is not Market.SPOT:
        return replace(rules, on_demand_after=0.0)
    if request.fallback.mode is FallbackMode.ON_DEMAND:
        return replace(rules, on_demand_after=request.fallback.after.total_seconds())
    return rules


def next_request(
    request: InstanceRequest, record: RunRecord, attempt: int, market: Market, zone: str | None
) -> InstanceRequest:
    """What the machine of the next attempt is rented by. Pure.

    ``zone`` is where its volumes are. The pool that has just failed is asked last.
    """
    failed = (
        (Pool(record.instance_type, record.zone),)
        if record.instance_type is not None and record.zone is not None
        else ()
    )
    moves = zone is not None and zone != request.zone
    return replace(
        request,
        market=market,
        zone=zone or request.zone,
        subnet=None if moves else request.subnet,
        avoid=(*(pool for pool in request.avoid if pool not in failed), *failed),
        fallback=SpotFallback(),
        unused_for=UNUSED_FOR,
        budget=None if request.budget is None else request.budget - spent(record),
        attempt=f"{record.id}/{attempt}",
        volumes=(),
        token=None,
    )


def spent(record: RunRecord) -> Decimal:
    """USD at most that the machines of all attempts so far have cost. Pure.

    Each is counted from before it was there, and the provider's gifts, as an hour that it takes back, are not counted
    on: a budget holds in any case.
    """
    total = Decimal(0)
    for each in (*record.past, as_known(record)):
        if each.price_per_hour is not None and each.ended_at is not None:
            time = max(each.ended_at - each.created_at, timedelta(0)) + BOOT_AND_END
            machines = max(1, len(each.machines))
            total += each.price_per_hour * Decimal(time.total_seconds()) / 3600 * machines
    return total


def next_spec(
    recipe: Recipe, record: RunRecord, *, ends_itself: bool, lifetime: Lifetime | None = None
) -> RunSpec:
    """The spec of the next attempt. Pure.

    An image that was pulled is taken by its digest. A machine that was rented for the attempt ends itself after it,
    once what it wrote is safe or was fetched. ``lifetime`` is what was seen of such machines by now.
    """
    spec = recipe.spec
    container = spec.container
    if container is not None and container.image is not None and record.image_digest is not None:
        container = replace(container, image=by_digest(container.image, record.image_digest))
    end = spec.machine_end
    if end is not None and end.group is not None:
        # Its group is gone: the machine ends as one that was rented by itself.
        end = replace(end, group=None)
    if end is None and ends_itself:
        saved = (
            any(mount.volume_id and not mount.read_only for mount in spec.mounts) or spec.store is not None
        )
        end = MachineEnd() if saved else MachineEnd(fetch_within_seconds=FETCH_WITHIN.total_seconds())
    schedule = spec.checkpoint_schedule
    if schedule is not None and schedule.every_seconds is None and lifetime is not None:
        schedule = replace(schedule, between_interruptions=lifetime.mean.total_seconds())
    return replace(
        spec,
        attempt=record.attempt + 1,
        container=container,
        machine_end=end,
        checkpoint_schedule=schedule,
    )


def why_it_ended(record: RunRecord) -> str:
    """For a person, after the run's id: why there is no further attempt. Pure."""
    step = decide_next(
        [_past(as_known(record), record.created_at)], RecoveryRules(2, 0.0), Progress(0.0, 0.0, ())
    )
    return step.why if isinstance(step, GiveUp) else "has ended"
