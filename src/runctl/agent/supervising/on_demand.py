"""A run's deadline with nobody watching: a second group, on demand, has no machine until a scheduled action gives it
one.

The machine that has the run moves that moment on as the run progresses, and the machine that comes then takes over.
"""

from __future__ import annotations

import contextlib
import time
from typing import Callable

from runctl.agent.after_run import ON_DEMAND_ACTION, GroupEnd
from runctl.agent.checkpoints.stores import Store
from runctl.agent.cloud.autoscaling import AutoScaling
from runctl.agent.cloud.ec2 import of_this_machine
from runctl.agent.deadline import BOOT_SECONDS, Worked, job_of, on_demand_at, seconds_done
from runctl.agent.encoding import from_json, loads
from runctl.agent.errors import AgentError
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import AttemptStatus, RunSpec
from runctl.agent.stored_run import status_key
from runctl.agent.supervising.status import observe

POLL_SECONDS = 15.0
CHANGE_SECONDS = 60.0
"""A smaller difference is not worth a call."""
SOON_SECONDS = 20.0
"""A scheduled action must be in the future."""


def group_of(spec: RunSpec | None) -> GroupEnd | None:
    """The groups of a run that has a second one for its deadline. Pure."""
    group = spec.machine_end.group if spec is not None and spec.machine_end is not None else None
    return group if group is not None and group.on_demand else None


def moment(spec: RunSpec, attempts: list[Worked], now: float, *, on_volume: bool) -> float | None:
    """When the second group must begin, in seconds since the epoch; ``None``: it cannot be told. Pure."""
    deadline = spec.deadline
    if deadline is None:
        return None
    job = job_of(deadline, attempts, now, now - deadline.asked_at)
    if job is None:
        return None
    return on_demand_at(deadline, job, seconds_done(attempts, job.work, published_only=not on_volume))


def next_action(wanted: float, planned: float | None, now: float) -> float | None:
    """For when the action is to be planned anew; ``None``: it stays as it was ``planned``. Pure.

    One whose moment has come is never put off.
    """
    at = max(wanted, now + SOON_SECONDS)
    if planned is None or wanted > planned + CHANGE_SECONDS or at < planned - CHANGE_SECONDS:
        return at
    return None


class OnDemand:
    """This machine's part in that. A call that fails is made again; the run goes on."""

    def __init__(self, own_group: str, store: Store, say: Callable[[str], None]) -> None:
        """``own_group`` has rented this machine."""
        self._own, self._store, self._say = own_group, store, say
        self._past: dict[int, Worked] = {}
        self._planned: float | None = None
        self._next_poll = 0.0

    def is_this(self, spec: RunSpec | None) -> bool:
        """Whether this machine is the one that comes for the deadline."""
        group = group_of(spec)
        return group is not None and self._own == group.on_demand

    def took_over(self, spec: RunSpec) -> None:
        """This machine has the run: where it came for the deadline, the first group rents nothing more."""
        group = group_of(spec)
        if group is not None and self.is_this(spec):
            of_this_machine(AutoScaling).set_to_zero(group.group)
            self._say(
                f"on demand to the end, so that the deadline is kept: {group.group} has no machine any more"
            )

    def poll(self, folder: AttemptFolder) -> None:
        """Now and then: the action is planned for the last moment that still suffices."""
        if time.monotonic() < self._next_poll:
            return
        self._next_poll = time.monotonic() + POLL_SECONDS
        spec = folder.spec()
        group = group_of(spec)
        if spec is None or group is None or self.is_this(spec):
            return
        now, status = time.time(), observe(folder)
        attempts = [*(self._worked(number) for number in range(1, folder.attempt)), worked(status)]
        wanted = moment(spec, attempts, now, on_volume=status.saved is not None)
        at = None if wanted is None else next_action(wanted, self._planned, now)
        if at is None:
            return
        try:
            of_this_machine(AutoScaling).begin_at(group.on_demand, ON_DEMAND_ACTION, at)
        except AgentError as error:
            self._say(f"the moment for on-demand is not moved: {error.message}")
            return
        self._planned = at
        self._say(f"on demand from {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(at))} on, as things are")

    def _worked(self, attempt: int) -> Worked:
        """An attempt before, as it was when its machine wrote last."""
        if attempt not in self._past:
            found = Worked(None)
            with contextlib.suppress(AgentError, ValueError, TypeError):
                found = worked(from_json(AttemptStatus, loads(self._store.read(status_key(attempt)))))
            self._past[attempt] = found
        return self._past[attempt]


def worked(status: AttemptStatus) -> Worked:
    """What an attempt says of the work; its machine's boot is not measured. Pure."""
    restart = None
    if status.started_at is not None and status.created_at is not None:
        restart = BOOT_SECONDS + max(0.0, status.started_at - status.created_at)
    return Worked(status.started_at, status.checkpoint, status.resumed, status.progress, restart)
