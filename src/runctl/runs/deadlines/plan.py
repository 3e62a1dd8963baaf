"""What a deadline means for a launch, decided before anything is rented: the first market, how long spot capacity is
waited for, when on-demand must begin, and what each way costs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.agent.deadline import (
    UNATTENDED_SECONDS,
    Job,
    Move,
    Policy,
    Standing,
    decide_and_say,
    last_moment,
    patience,
    restart_seconds,
    tick_of,
)
from runctl.agent.deadline_spec import DeadlineSpec
from runctl.core.clock import parse_duration
from runctl.core.errors import UsageError
from runctl.core.machine_models import Market
from runctl.core.text import time_span
from runctl.providers.capacity import FallbackMode, SpotFallback
from runctl.providers.instance_plans import CreatePlan, InstanceRequest

USUAL_SHARE = 0.3
"""Price of spot as a share of the price on demand, where one of the two is not known."""


@dataclass(frozen=True)
class DeadlineRequest:
    """What was asked for."""

    ends_at: datetime
    asked_at: datetime
    policy: Policy = Policy.DEADLINE
    estimate: timedelta | None = None
    """``None``: the run's progress tells how long it takes."""


@dataclass(frozen=True)
class DeadlinePlan:
    """What comes of it."""

    policy: Policy
    ends_at: datetime
    estimate_seconds: float | None
    margin_seconds: float
    """For one restart and for whoever decides about it."""
    market: Market
    """Of the first machine."""
    why: str
    """In words, after "because"."""
    on_demand_at: datetime | None
    """The latest moment at which on-demand still suffices if nothing is done until then; ``None``: not known."""
    waits_seconds: float | None
    """How long spot capacity is waited for at the beginning; ``None``: without end."""
    expected_usd: Decimal | None
    """Of the machines if spot capacity lasts as long as usual; ``None``: a price or the estimate is not known."""
    on_demand_usd: Decimal | None
    """On demand alone."""
    most_usd: Decimal | None
    """What the policy never goes above; ``None`` where it promises nothing."""
    is_unattended: bool = False
    """A second group begins on demand then, and the run's machine moves that moment on as it progresses."""


def parse_deadline(text: str, now: datetime) -> datetime:
    """``52h`` from ``now``, or ``2026-12-01T08:00`` in this computer's time zone. Raises `ValueError`."""
    try:
        return now + parse_duration(text)
    except ValueError:
        if "T" not in text.upper():
            raise ValueError(
                f"{text!r} is neither a time span nor a time; write 52h or 2026-12-01T08:00"
            ) from None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write 2026-12-01T08:00") from None


def first_spec(request: DeadlineRequest, restarts: Sequence[float]) -> DeadlineSpec:
    """The deadline as the run has it, before prices and pools are known; ``restarts`` of earlier runs like it."""
    return DeadlineSpec(
        policy=request.policy.value,
        asked_at=request.asked_at.timestamp(),
        ends_at=request.ends_at.timestamp(),
        estimate_seconds=request.estimate.total_seconds() if request.estimate is not None else None,
        restart_seconds=restart_seconds(restarts) if restarts else None,
    )


def check_deadline(spec: DeadlineSpec, now: datetime) -> None:
    """Raises `UsageError` for one that cannot be kept."""
    left = spec.ends_at - now.timestamp()
    if left <= 0:
        raise UsageError(
            "the deadline has passed", hint="--deadline 52h, or a time in the future", code="deadline-over"
        )
    if spec.policy == Policy.SPOT.value:
        return
    margin = _margin(spec)
    needed = (spec.estimate_seconds or 0.0) + margin
    if left < needed:
        estimate = spec.estimate_seconds
        takes = f"the run takes {_span(estimate)} (--estimate), and " if estimate else ""
        raise UsageError(
            f"the deadline in {_span(left)} cannot be kept: {takes}{_span(margin)} more are needed for a"
            " machine to start, for the project and its checkpoint, and for the decision",
            hint=f"--deadline {_rounded_up(needed)} or later, a faster machine with a lower --estimate, or --policy"
            " spot, which does not look at the deadline",
            code="deadline-too-short",
        )


def with_market(request: InstanceRequest, spec: DeadlineSpec, now: datetime) -> InstanceRequest:
    """The request for the first machine: its market, and for how long spot capacity is waited for."""
    market, _ = _first(spec, now)
    if market is Market.ON_DEMAND:
        return on_demand_request(request)
    waits = waits_seconds(spec, now)
    fallback = (
        SpotFallback()
        if waits is None
        else SpotFallback(FallbackMode.ON_DEMAND, timedelta(seconds=round(waits)))
    )
    return replace(request, market=market, fallback=fallback)


def on_demand_request(request: InstanceRequest) -> InstanceRequest:
    """The same on demand, whose quota is looked at before anything is rented."""
    return replace(request, market=Market.ON_DEMAND, fallback=SpotFallback(), token=None)


def unattended(spec: DeadlineSpec) -> DeadlineSpec:
    """The same with nobody watching. Raises `UsageError` where nobody can say when on-demand must begin."""
    if spec.estimate_seconds is None:
        raise UsageError(
            "--unattended --deadline needs --estimate: when on-demand must begin is planned before the run has begun",
            hint="--estimate 48h; the run's progress corrects it (--progress-pattern), and is the estimate of the"
            " next run that does the same",
        )
    return replace(spec, decided_within=UNATTENDED_SECONDS)


def unattended_request(
    request: InstanceRequest, spec: DeadlineSpec, now: datetime
) -> tuple[InstanceRequest, datetime | None]:
    """What the first group rents, and from when on a second one rents on demand; ``None``: there is no second one."""
    market, _ = _first(spec, now)
    request = replace(request, market=market, fallback=SpotFallback())
    job = _job(spec, now)
    if market is Market.ON_DEMAND or spec.policy == Policy.SPOT.value or job is None:
        return request, None
    return request, datetime.fromtimestamp(now.timestamp() + last_moment(job, Standing(0.0, 0.0)), UTC)


def waits_seconds(spec: DeadlineSpec, now: datetime) -> float | None:
    """How long spot capacity is waited for; ``None``: without end."""
    job = _job(spec, now)
    if spec.policy == Policy.SPOT.value:
        return None
    return (
        0.0 if job is None else patience(Policy(spec.policy), job, Standing(0.0, 0.0, spot_available=False))
    )


def settled(spec: DeadlineSpec, machine: CreatePlan, lifetime: timedelta) -> DeadlineSpec:
    """The deadline as the run has it, with the machine's prices; ``lifetime`` is how long its spot machines live."""
    spot = machine.price if machine.market is Market.SPOT else None
    on_demand, share = machine.on_demand_price, USUAL_SHARE
    if spot is not None and on_demand is not None and on_demand.usd > 0:
        share = min(1.0, float(spot.usd / on_demand.usd))
    return replace(spec, spot_share=round(share, 4), between_interruptions=lifetime.total_seconds())


def plan_deadline(spec: DeadlineSpec, machine: CreatePlan, now: datetime, count: int = 1) -> DeadlinePlan:
    """For the launch plan; ``machine`` is the first one's, of which there are ``count``."""
    market, why = _first(spec, now)
    job = _job(spec, now)
    latest = None
    if job is not None and spec.policy not in (Policy.SPOT.value, Policy.ON_DEMAND.value):
        latest = datetime.fromtimestamp(now.timestamp() + last_moment(job, Standing(0.0, 0.0)), UTC)
    expected, alone, most = (None if usd is None else usd * count for usd in _costs(spec, job, machine))
    return DeadlinePlan(
        policy=Policy(spec.policy),
        ends_at=datetime.fromtimestamp(spec.ends_at, UTC),
        estimate_seconds=spec.estimate_seconds,
        margin_seconds=_margin(spec),
        market=market,
        why=why,
        on_demand_at=latest,
        waits_seconds=waits_seconds(spec, now) if market is Market.SPOT else 0.0,
        is_unattended=spec.decided_within is not None,
        expected_usd=expected,
        on_demand_usd=alone,
        most_usd=most,
    )


def _margin(spec: DeadlineSpec) -> float:
    return restart_seconds((), spec.restart_seconds) + tick_of(spec)


def _job(spec: DeadlineSpec, now: datetime) -> Job | None:
    if spec.estimate_seconds is None:
        return None
    return Job(
        work=spec.estimate_seconds,
        deadline=spec.ends_at - now.timestamp(),
        restart=restart_seconds((), spec.restart_seconds),
        tick=tick_of(spec),
        between_interruptions=spec.between_interruptions,
        spot_price=spec.spot_share,
    )


def _first(spec: DeadlineSpec, now: datetime) -> tuple[Market, str]:
    """The market of the first machine, and why."""
    job = _job(spec, now)
    if job is None:
        market = Market.ON_DEMAND if spec.policy == Policy.ON_DEMAND.value else Market.SPOT
        return market, "how long it takes is to be learned from its progress"
    move, why = decide_and_say(Policy(spec.policy), job, Standing(0.0, 0.0))
    return Market.ON_DEMAND if move is Move.ON_DEMAND else Market.SPOT, why.value


def _costs(
    spec: DeadlineSpec, job: Job | None, machine: CreatePlan
) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    """Expected, on demand alone, and at the most."""
    on_demand = machine.on_demand_price if machine.market is Market.SPOT else machine.price
    if job is None or on_demand is None:
        return None, None, None
    alone = _cost(on_demand.usd, job.work + job.restart)
    if spec.policy == Policy.ON_DEMAND.value or machine.market is not Market.SPOT:
        return alone, alone, alone
    expected = None
    if machine.price is not None:
        restarts = 1 + job.work / job.between_interruptions
        expected = _cost(machine.price.usd, job.work + restarts * job.restart)
    if spec.policy != Policy.DEADLINE.value or machine.price is None:
        return expected, alone, None
    return expected, alone, alone + _cost(on_demand.usd + machine.price.usd, job.restart)


def _cost(usd_per_hour: Decimal, seconds: float) -> Decimal:
    return (usd_per_hour * Decimal(str(seconds)) / 3600).quantize(Decimal("0.0001"))


def _rounded_up(seconds: float) -> str:
    minutes = int(seconds // 60) + 1
    return f"{minutes}m" if minutes < 120 else f"{minutes // 60}h{minutes % 60}m"


def _span(seconds: float) -> str:
    return time_span(timedelta(seconds=seconds))
