"""Deadlines and progress for people: what a plan makes of them, and where a run is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from runctl.agent.deadline import Policy
from runctl.core.machine_models import Market
from runctl.core.money import usd
from runctl.core.run_models import Run, RunDeadline, RunProgress
from runctl.core.text import time_span
from runctl.render.tables import Column
from runctl.runs.deadlines.plan import DeadlinePlan


def deadline_lines(plan: DeadlinePlan) -> list[str]:
    """The plan as ``label  value`` lines, below those of the run."""
    rows = [("deadline", f"{_moment(plan.ends_at)}; {_takes(plan)}"), ("policy", _policy(plan))]
    if plan.is_unattended and plan.on_demand_at is not None and plan.market is Market.SPOT:
        moves = "a second group has no machine until then; the run's machine moves that moment on as it progresses"
        rows.append(("second", moves))
        stays = "once it is on demand it stays there: nobody is there to rent a spot machine beside it"
        rows.append(("no spot", stays))
    elif plan.market is Market.SPOT and plan.waits_seconds is not None:
        waits = plan.waits_seconds >= 1
        first = f"it waits {_span(plan.waits_seconds)} at most, then it" if waits else "it"
        rows.append(("no spot", f"without spot capacity {first} begins on demand, and asks for spot later"))
    if plan.on_demand_usd is not None:
        rows.append(("expected", _costs(plan)))
    return [f"{label:<8} {value}" for label, value in rows]


def _takes(plan: DeadlinePlan) -> str:
    margin = f"and {_span(plan.margin_seconds)} are kept for a restart and the decision"
    if plan.estimate_seconds is None:
        return f"how long it takes is to be learned from its progress, {margin}"
    return f"it takes {_span(plan.estimate_seconds)} (--estimate), {margin}"


def _policy(plan: DeadlinePlan) -> str:
    text = f"{plan.policy.value}: begins on {plan.market.value}, because {plan.why}"
    if plan.policy is Policy.SPOT:
        return f"{plan.policy.value}: the deadline is not looked at"
    if plan.on_demand_at is None:
        return text
    return f"{text}; if nothing is done until then, on demand from {_moment(plan.on_demand_at)} on"


def _costs(plan: DeadlinePlan) -> str:
    assert plan.on_demand_usd is not None  # noqa: S101 - whoever calls has looked
    parts = []
    if plan.market is Market.SPOT and plan.expected_usd is not None:
        parts.append(f"{usd(plan.expected_usd)} for the machines if spot lasts as usual")
    parts.append(f"{usd(plan.on_demand_usd)} on demand alone")
    if plan.market is Market.SPOT and plan.most_usd is not None:
        parts.append(f"at most {usd(plan.most_usd)}")
    return ", ".join(parts)


def progress_columns(runs: Sequence[Run]) -> list[Column]:
    """How far each run is, and how long it still takes; none where no run says it."""
    if all(run.progress is None for run in runs):
        return []
    return [
        Column("DONE", [done_text(run.progress) for run in runs], 3, right=True),
        Column("LEFT", [left_text(run.progress) for run in runs], 4, right=True),
    ]


def done_text(progress: RunProgress | None) -> str | None:
    """``42%``, or the step where the whole is not known."""
    if progress is None:
        return None
    return f"{100 * progress.done:.0f}%" if progress.done is not None else f"step {progress.step:.15g}"


def left_text(progress: RunProgress | None) -> str | None:
    """How long it still takes at the pace of this attempt."""
    return None if progress is None or progress.seconds_left is None else _span(progress.seconds_left)


def progress_text(progress: RunProgress | None) -> str | None:
    """``42% (step 420 of 1000), 3h05m left``."""
    if progress is None:
        return None
    if progress.total is None or progress.done is None:
        return f"step {progress.step:.15g}"
    text = f"{100 * progress.done:.1f}% (step {progress.step:.15g} of {progress.total:.15g})"
    return text if progress.seconds_left is None else f"{text}, {_span(progress.seconds_left)} left"


def deadline_fields(deadline: RunDeadline | None) -> dict[str, str | None]:
    """By when, what is done of how much, what may still be lost, and what the policy makes of it."""
    if deadline is None:
        return {}
    work = None if deadline.work_seconds is None else f"of {_span(deadline.work_seconds)}"
    done = f"{_span(deadline.done_seconds)} {work or ''} are in checkpoints".replace("  ", " ")
    return {
        "deadline": f"{_moment(deadline.ends_at)}, policy {deadline.policy}",
        "done": done,
        "slack": _slack(deadline),
        "decision": None if deadline.decision == "ended" else f"{deadline.decision}, because {deadline.why}",
    }


def _slack(deadline: RunDeadline) -> str | None:
    if deadline.slack_seconds is None:
        return None
    if deadline.slack_seconds < 0:
        return f"{_span(-deadline.slack_seconds)} too late"
    at = deadline.on_demand_at
    latest = "" if at is None else f"; if nothing is done until then, on demand from {_moment(at)} on"
    return f"{_span(deadline.slack_seconds)} may still be lost{latest}"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _span(seconds: float) -> str:
    return time_span(timedelta(seconds=seconds))
