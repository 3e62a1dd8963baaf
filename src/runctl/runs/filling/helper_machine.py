"""The machine that is rented to fill a volume which no machine has: it is given back, however the filling ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from runctl._dataclasses import dataclass
from runctl.agent.object_store import partition_of, policy
from runctl.core.clock import Clock, parse_rfc3339
from runctl.core.errors import Conflict, Interrupted, RunctlError, Unreachable, add_fact
from runctl.core.machine_models import Instance, InstanceState, VolumeState
from runctl.core.progress import Progress
from runctl.core.tags import EXPIRES_AT, INTENT
from runctl.core.waiting import Backoff, attempts
from runctl.machines.creation import Creation
from runctl.machines.machine import Machine
from runctl.machines.renting import READY_TIMEOUT, Rentals
from runctl.providers.interface import Provider, require
from runctl.providers.registry import command
from runctl.runs.filling.plan import PROGRAM, PrewarmPlan
from runctl.storage.attaching import unmount_and_detach
from runctl.transport.agent import AgentClient

FREE_TIMEOUT = timedelta(minutes=10)
"""How long an earlier helper machine that is ending may take to let go of the volume."""
STOP_GRACE = timedelta(seconds=20)
LEAST_LEFT = timedelta(minutes=10)
"""A helper machine that ends itself sooner is not worth taking over."""
DEADLINE_COMMAND = "/usr/local/sbin/runctl-deadline"
"""On a machine with a time to live: sets its timer (see ``first_boot.sh``)."""


@dataclass
class HelperMachine:
    """Rents and gives back, for any number of plans."""

    rentals: Rentals
    machine: Callable[[Instance], Machine]
    """The way to a machine."""
    region: str | None = None

    @property
    def provider(self) -> Provider:
        """Who rents the machine out."""
        return self.rentals.provider

    @property
    def clock(self) -> Clock:
        """By which is waited."""
        return self.rentals.clock

    @property
    def progress(self) -> Progress:
        """Where it is told what is going on."""
        return self.rentals.progress

    @contextmanager
    def rented(self, plan: PrewarmPlan) -> Iterator[Instance]:
        """The machine, ready to be used; one that an earlier call has left is taken over.

        Afterwards it and its role are gone, also after an error and after Ctrl-C, and the error that comes out says so.
        Raises what renting and reaching raise, `Conflict` when an earlier one still holds the volume, `Interrupted`.
        """
        self._wait_until_free(plan)
        if plan.role is not None and plan.request.source is not None:
            partition = partition_of(self.region or "")
            require(self.provider.filling).ensure_role(
                plan.role, policy(plan.request.source, partition), self.progress
            )
        instance: Instance | None = None
        try:
            instance = self._ready(plan)
            yield instance
        except BaseException as error:
            told = self._given_back(plan, instance, error)
            if told is error:
                raise
            raise told from error
        self._give_back(plan)

    def _ready(self, plan: PrewarmPlan) -> Instance:
        """The helper machine, ready: the one that an earlier call has left, or a new one."""
        wanted = {"helper_for": plan.request.volume.id}
        with self.rentals.intending(wanted) as creation:
            return self._found_or_rented(plan, creation)

    def _found_or_rented(self, plan: PrewarmPlan, creation: Creation) -> Instance:
        found = plan.instance
        if found is not None:
            expires = found.tags.get(EXPIRES_AT)
            if expires and parse_rfc3339(expires) - self.clock.now() < LEAST_LEFT:
                self._give_back(plan, keep_role=True)
                raise Conflict(
                    f"the helper machine {found.id} of an earlier call would end itself too soon",
                    hint="it is given back: run the same command again",
                    code="helper-expired",
                )
            self.progress.note(f"{found.id} was rented by an earlier call, and is taken over")
        else:
            assert plan.machine is not None  # noqa: S101 - the plan says: a helper
            token = creation.token
            machine = replace(plan.machine, client_token=token, tags={**plan.machine.tags, INTENT: token})
            found = self.rentals.rent(machine, creation)
        ready = self.rentals.wait_ready(found.id, READY_TIMEOUT)
        if plan.instance is not None:
            # Its program may have ended and be about to end it: from here on its deadline counts again.
            self.machine(ready).transport.run([DEADLINE_COMMAND], as_root=True)
        return ready

    def _wait_until_free(self, plan: PrewarmPlan) -> None:
        """A helper machine that is ending has let go of the volume."""
        if plan.where != "helper" or plan.request.volume.attached_to is None:
            return
        volume = plan.request.volume
        self.progress.step(f"waiting for {volume.attached_to}, an earlier helper, to let go of {volume.id}")
        for _ in attempts(self.clock, FREE_TIMEOUT, first=2.0):
            if require(self.provider.volumes).find(volume.id).state is VolumeState.AVAILABLE:
                return
        raise Conflict(
            f"{volume.id} is still attached to {volume.attached_to}, which is ending",
            hint="run the same command again in some minutes",
            code="volume-in-use",
        )

    def _given_back(
        self, plan: PrewarmPlan, instance: Instance | None, error: BaseException
    ) -> BaseException:
        """The helper machine is given back, and the error says so."""
        asked = isinstance(error, (KeyboardInterrupt, Interrupted))
        if asked:
            self.progress.warn("interrupted: giving the helper machine back first")
        if instance is not None and not isinstance(error, Unreachable):
            self._let_go(plan, instance)
        left = self._give_back(plan)
        kept = "what was fetched is kept on the volume" if plan.request.source is not None else ""
        if instance is None and asked and not left:
            left = "no helper machine is left; one that is created nevertheless ends itself in time"
            kept = ""
        facts = "; ".join(part for part in (left or "the helper machine is given back", kept) if part)
        same_command = "run the same command again to continue"
        if asked:
            return Interrupted(f"interrupted; {facts}", hint=same_command)
        add_fact(error, facts)
        if isinstance(error, RunctlError):
            error.hint = error.hint or same_command
        return error

    def _let_go(self, plan: PrewarmPlan, instance: Instance) -> None:
        """As clean an end as can be had quickly; the machine's own end does the rest."""
        try:
            agent = self._agent_on(instance)
            for status in agent.attempts():
                if status.script == PROGRAM and status.end is None:
                    agent.stop(status.run_id, status.attempt, grace=STOP_GRACE)
            now = require(self.provider.volumes).find(plan.request.volume.id)
            if now.attached_to == instance.id:
                unmount_and_detach(self.provider, self._agent_on, now, progress=self.progress)
        except RunctlError as problem:
            self.progress.detail(f"{instance.id}: {problem.message}; it is ended all the same")

    def _give_back(self, plan: PrewarmPlan, *, keep_role: bool = False) -> str:
        """Every helper machine of the volume is ended and its role gone; else in words what is left.

        A second Ctrl-C does not get in between: the machine costs money, and this is a matter of seconds.
        """
        problem = ""
        backoff = Backoff(self.clock, first=1.0)
        for attempt in range(3):
            try:
                problem = ""
                for helper in require(self.provider.filling).helpers(plan.request.volume.id):
                    if helper.state is not InstanceState.SHUTTING_DOWN:
                        self.rentals.give_back(helper.id)
                if plan.role is not None and not keep_role:
                    require(self.provider.filling).drop_role(plan.role)
            except KeyboardInterrupt:
                continue
            except RunctlError as error:
                problem = error.message
                if attempt < 2:
                    backoff.sleep()
            else:
                return ""
        message = (
            f"THE HELPER MACHINE MAY STILL RUN ({problem or 'interrupted'}); it ends itself in time,"
            f" or at once: {command(self.provider.name, 'list')},"
            f" {command(self.provider.name, 'terminate', 'INSTANCE')}"
        )
        self.progress.warn(message)
        return message

    def _agent_on(self, instance: Instance) -> AgentClient:
        return self.machine(instance).agent
