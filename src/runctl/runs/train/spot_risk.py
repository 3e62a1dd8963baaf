"""What it costs a run on a spot machine that nothing it saves outlives the machine. Pure."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints.schedule import expected_extra_seconds
from runctl.agent.spec import ContainerSpec
from runctl.core.errors import UsageError
from runctl.core.machine_models import Market
from runctl.core.money import usd
from runctl.core.text import counted
from runctl.machines.pool_record import Lifetime
from runctl.runs.mounts.plan import PlannedMount

RESTART = timedelta(minutes=3)
"""From an interruption until the script runs on another machine: capacity, boot, project."""
EXAMPLES = (timedelta(hours=1), timedelta(hours=8))
"""How long a training may be, where nobody has said it."""
TOLERATED = 0.1
"""The share of its own time that a run may lose to interruptions before it is refused."""
_YEAR = 365 * 24 * 3600.0


@dataclass(frozen=True)
class GoingWithout:
    """What interruptions are expected to cost a training of some length that begins anew after each."""

    work_seconds: float
    """What it takes on a machine that is not taken back."""
    extra_seconds: float | None
    """What it takes besides; ``None``: more than a year."""
    extra_usd: Decimal | None
    """The same at the machine's price; ``None``: not known."""


@dataclass(frozen=True)
class SpotRisk:
    """What a run without checkpoints that outlive its machine is expected to lose."""

    lifetime: Lifetime
    costs: tuple[GoingWithout, ...]
    """For the length that the run has at most, or for `EXAMPLES`."""
    length_known: bool

    @property
    def is_small(self) -> bool:
        """The run is short enough to begin anew: it loses little on average."""
        (first, *_) = self.costs
        lost = math.inf if first.extra_seconds is None else first.extra_seconds
        return self.length_known and lost <= TOLERATED * first.work_seconds


def is_unsaved(
    market: Market, store: StoreSpec | None, container: ContainerSpec | None, saves: PlannedMount | None
) -> bool:
    """Whether the machine may be taken back, and all that the run saves goes with it."""
    volume = saves.volume if saves is not None else None
    outlives = volume is not None and not volume.ends_with_instance
    builds_only = container is not None and container.build is not None and container.build.only
    return market is Market.SPOT and store is None and not (outlives or builds_only)


def spot_risk(lifetime: Lifetime, price: Decimal | None, longest: timedelta | None) -> SpotRisk:
    """What is lost on average; ``price`` is the machine's an hour, ``longest`` what the run takes, or may take."""
    lengths = EXAMPLES if longest is None else (longest,)
    costs = tuple(_going_without(lifetime, price, length.total_seconds()) for length in lengths)
    return SpotRisk(lifetime, costs, longest is not None)


def _going_without(lifetime: Lifetime, price: Decimal | None, work: float) -> GoingWithout:
    between = lifetime.mean.total_seconds()
    extra = expected_extra_seconds(work, between, RESTART.total_seconds(), checkpoints=False)
    if extra > _YEAR:
        return GoingWithout(work, None, None)
    cost = price * Decimal(extra) / 3600 if price is not None else None
    return GoingWithout(work, extra, cost)


def risk_text(risk: SpotRisk) -> str:
    """The expected loss, as the end of a sentence."""
    seen = risk.lifetime.interruptions
    source = f"measured over {counted(seen, 'interruption')}" if seen else "assumed: none was seen here yet"
    costs = ", ".join(_cost_text(cost) for cost in risk.costs)
    return f"with an interruption every {_hours(risk.lifetime.mean.total_seconds())} ({source}), {costs}"


def _cost_text(cost: GoingWithout) -> str:
    work = f"{_hours(cost.work_seconds)} of training take"
    if cost.extra_seconds is None:
        return f"{work} more than a year longer"
    price = f" and cost {usd(cost.extra_usd)} more" if cost.extra_usd is not None else ""
    return f"{work} {_hours(cost.extra_seconds)} longer on average{price}"


def _hours(seconds: float) -> str:
    if seconds < 5400:
        return counted(max(1, round(seconds / 60)), "minute")
    hours = seconds / 3600
    return f"{hours:.0f} hours" if hours >= 10 or hours == round(hours) else f"{hours:.1f} hours"


def check_risk(risk: SpotRisk, *, has_volumes: bool) -> None:
    """Raises `UsageError` (code ``no-checkpoints``) unless the run loses little."""
    if risk.is_small:
        return
    volume = "--ebs-volume VOLUME or " if has_volumes else ""
    raise UsageError(
        f"a spot machine can be taken back at any time, and nothing that this run saves outlives it: {risk_text(risk)}",
        hint=f"{volume}--checkpoint-s3 s3://BUCKET/PREFIX keeps checkpoints, --on-demand rents a machine that stays,"
        " --estimate TIME says that the run is short, --no-checkpoint accepts the loss",
        code="no-checkpoints",
    )
