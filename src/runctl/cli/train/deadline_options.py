"""``--deadline`` and what belongs to it: by when a run must have ended, and how it chooses between the markets."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from runctl.agent.deadline import Policy
from runctl.agent.deadline_spec import PROGRESS_GROUPS
from runctl.cli.framework.options import with_options
from runctl.cli.framework.values import DURATION
from runctl.core.clock import SystemClock
from runctl.core.errors import UsageError

if TYPE_CHECKING:
    from runctl.runs.deadlines.plan import DeadlineRequest

FLAGS = ("--deadline", "--estimate", "--policy")


class ProgressPattern(click.ParamType[str]):
    """A regular expression with a group ``step`` (and ``total``), or ``percent``."""

    name = "regex"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it was written."""
        try:
            groups = set(re.compile(value).groupindex)
        except re.error as error:
            self.fail(f"{value!r} is not a regular expression: {error}", param, ctx)
        if not groups & {"step", "percent"}:
            names = ", ".join(f"(?P<{name}>…)" for name in PROGRESS_GROUPS)
            self.fail(f"{value!r} has no group for the progress; it knows {names}", param, ctx)
        return value


def deadline_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them; the command gets ``deadline``, ``estimate`` and ``policy`` for `deadline_request`."""
    return with_options(
        function,
        [
            click.option(
                "--deadline",
                metavar="TIME|DATE",
                help="End the run by then: 52h from now, or 2026-12-01T08:00 (this computer's time zone). While"
                " --wait or runs watch is running, the run moves to on-demand in time.",
            ),
            click.option(
                "--estimate",
                type=DURATION,
                metavar="TIME",
                help="How long the run takes on a machine that is not interrupted (default: by its progress). The"
                " plan says what that costs.",
            ),
            click.option(
                "--policy",
                type=click.Choice([policy.value for policy in Policy]),
                metavar="POLICY",
                help="How to choose between spot and on-demand: deadline (default), spot-then-on-demand,"
                " uniform-progress, spot or on-demand; runctl simulate compares them.",
            ),
        ],
    )


def deadline_request(
    deadline: str | None, estimate: timedelta | None, policy: str | None, *, spot: bool | None
) -> DeadlineRequest | None:
    """What was asked for; ``None``: no deadline. ``spot`` is the market that was named. Raises `UsageError`."""
    from runctl.runs.deadlines.plan import DeadlineRequest, parse_deadline

    if deadline is None:
        return None
    now, chosen = SystemClock().now(), Policy(policy or Policy.DEADLINE.value)
    on_demand = chosen is Policy.ON_DEMAND
    if spot is on_demand:
        raise UsageError(
            f"{'--spot' if spot else '--on-demand'} and the policy {chosen.value} contradict each other",
            hint="leave out the market: the policy chooses it",
        )
    try:
        return DeadlineRequest(parse_deadline(deadline, now), now, chosen, estimate)
    except ValueError as error:
        raise UsageError(f"--deadline: {error}") from error
