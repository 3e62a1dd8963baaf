"""Carries out a prewarm: the machine, the volume on it, the program, and everything given back at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from decimal import Decimal
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent.encoding import loads
from runctl.agent.end_reason import TOLD_TO_END, EndReason
from runctl.agent.spec import RunSpec
from runctl.core.clock import Clock
from runctl.core.errors import (
    Conflict,
    Interrupted,
    MachineError,
    NotFound,
    PermissionDenied,
    RunctlError,
    Unsupported,
)
from runctl.core.ids import RunId, new_run_id
from runctl.core.machine_models import Instance, Volume
from runctl.core.progress import SILENT, Progress
from runctl.core.tags import FILLED_FROM, FILLED_WITH, is_ours
from runctl.core.waiting import attempts
from runctl.machines.intents import IntentStore
from runctl.machines.machine import Machine, open_machine
from runctl.machines.renting import RentalListener, Rentals
from runctl.providers.interface import Provider, require
from runctl.runs.end_report import sentence
from runctl.runs.filling.helper_machine import HelperMachine
from runctl.runs.filling.plan import PROGRAM, PrewarmPlan, PrewarmRequest, plan_prewarm
from runctl.runs.records.adopting import adopt
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import RunStore
from runctl.runs.records.updates import planned
from runctl.runs.run_logs.follow import Followed, follow
from runctl.runs.train.start import start
from runctl.storage.attaching import (
    MountOptions,
    attach_and_mount,
    may_be_written,
    unmount,
    unmount_and_detach,
)
from runctl.storage.pace import Pace
from runctl.transport.agent import AgentClient

_DENIED = {"denied", "no-role"}
_NOT_FOUND = {"no-bucket", "nothing-there"}


@dataclass(frozen=True)
class PrewarmResult:
    """What was done."""

    plan: PrewarmPlan
    volume: Volume
    """As it is afterwards."""
    instance: Instance | None
    run_id: RunId | None
    done: Mapping[str, Any]
    """The program's own result."""
    seconds: float
    cost: Decimal | None
    """USD of the helper machine; zero without one."""


@dataclass
class Prewarm:
    """One prewarm. `carry_out` may be called again after any interruption, from any computer."""

    provider: Provider
    store: RunStore
    intents: IntentStore
    clock: Clock
    transport: str = "auto"
    region: str | None = None
    progress: Progress = SILENT
    on_pace: Callable[[Pace], None] = lambda _: None
    rental_listeners: Sequence[RentalListener] = ()
    _machines: dict[str, Machine] = field(default_factory=dict)

    def machine(self, instance: Instance) -> Machine:
        """The way to it, made once."""
        if instance.id not in self._machines:
            self._machines[instance.id] = open_machine(self.provider, instance, self.transport, self.progress)
        return self._machines[instance.id]

    def agent_on(self, instance: Instance) -> AgentClient:
        """The agent there."""
        return self.machine(instance).agent

    def plan(self, request: PrewarmRequest) -> PrewarmPlan:
        """See `plan_prewarm`."""
        return plan_prewarm(self.provider, request, self.agent_on, self.progress)

    def carry_out(self, plan: PrewarmPlan) -> PrewarmResult:
        """The data is on the volume, proven; a helper machine has been given back, also if this raises.

        Raises what renting, reaching, attaching and mounting raise, `PermissionDenied` (the machine may not read the
        source), `NotFound` (no bucket, nothing there), `MachineError` with the program's code, `Interrupted`.
        """
        begun = self.clock.monotonic()
        if plan.way == "done":
            return PrewarmResult(plan, plan.request.volume, None, None, {}, 0.0, Decimal(0))
        if plan.way == "wait":
            self._wait(plan)
            return self._result(plan, None, None, {}, begun)
        if plan.on_helper:
            with self._helper().rented(plan) as instance:
                record, done = self._work(plan, instance)
            return self._result(plan, instance, record, done, begun)
        assert plan.instance is not None  # noqa: S101 - the plan says: attached
        record, done = self._work(plan, plan.instance)
        return self._result(plan, plan.instance, record, done, begun)

    def _helper(self) -> HelperMachine:
        rentals = Rentals(
            self.provider,
            self.intents,
            clock=self.clock,
            progress=self.progress,
            listeners=self.rental_listeners,
        )
        return HelperMachine(rentals, self.machine, self.region)

    def _work(self, plan: PrewarmPlan, instance: Instance) -> tuple[RunRecord | None, Mapping[str, Any]]:
        """Attach, mount, run, and leave the volume as the plan says; no run where it is only shown."""
        request, point = plan.request, plan.mount_point or ""
        volume = request.volume
        if request.source is None:
            require(self.provider.volumes).attach(volume.id, instance.id, self.progress)
        elif not plan.was_mounted:
            options = MountOptions(plan.mount_point, may_format=request.may_format)
            point = attach_and_mount(
                self.provider, self.agent_on, volume, instance, options, self.progress
            ).mount_point
        else:
            may_be_written(require(self.provider.volumes), volume)
        try:
            record, done = self._run(plan, instance, plan.arguments(point))
        except RunctlError:
            if not plan.on_helper and not plan.was_mounted and request.source is not None:
                with suppress(RunctlError):
                    unmount(self.agent_on, volume, instance, progress=self.progress)
            raise
        now = require(self.provider.volumes).find(volume.id)
        if done.get("only_from_source") and not plan.was_mounted and is_ours(now.tags):
            # Once nobody can write to it: whoever mounts it for writing later takes the tags off.
            unmount(self.agent_on, now, instance, progress=self.progress)
            self._note(now, {FILLED_FROM: str(request.source), FILLED_WITH: str(done["listing"])})
        if plan.on_helper or request.detach:
            unmount_and_detach(self.provider, self.agent_on, now, progress=self.progress)
        elif request.source is not None and not plan.was_mounted:
            unmount(self.agent_on, now, instance, progress=self.progress)
        return record, done

    def _note(self, volume: Volume, tags: Mapping[str, str]) -> None:
        """In the volume's tags; it has been filled, also where that cannot be."""
        try:
            require(self.provider.volumes).tag(volume.id, tags)
        except RunctlError as error:
            self.progress.warn(
                f"{volume.id} is filled, but that could not be noted: {error.message}: in another zone a run has it by"
                " snapshot"
            )

    def _run(
        self, plan: PrewarmPlan, instance: Instance, arguments: tuple[str, ...]
    ) -> tuple[RunRecord | None, Mapping[str, Any]]:
        shown = self.provider.preview
        if not isinstance(shown, Unsupported) and shown.is_on:
            shown.comment(
                f"On {instance.id}, runctl's agent carries out: {PROGRAM} {' '.join(arguments)}. What follows waits"
                " until that has ended."
            )
            return None, {}
        machine = self.machine(instance)
        record = self._running(machine, arguments) or self._start(machine, arguments)
        heard = Heard(self.on_pace, self.progress)
        self.progress.step(_step(plan))
        try:
            followed = follow(record, machine, self.store, clock=self.clock, on_log=heard.feed)
        except KeyboardInterrupt:
            if plan.on_helper:
                raise
            raise Interrupted(
                f"stopped watching; {record.id} continues on {instance.id}",
                hint=f"the same command follows it again, runctl runs stop {record.id} ends it",
            ) from None
        return followed.record, _checked(followed, heard)

    def _running(self, machine: Machine, arguments: tuple[str, ...]) -> RunRecord | None:
        """The run that an earlier call has started, and that goes on."""
        for status in machine.agent.attempts():
            if status.script != PROGRAM or status.end is not None:
                continue
            if status.args != arguments:
                if set(status.args) & {arguments[1], arguments[2] if len(arguments) > 2 else ""}:
                    raise Conflict(
                        f"another prewarm runs on {machine.instance.id}: {status.run_id} ({' '.join(status.args)})",
                        hint=f"wait for it, or end it: runctl runs stop {status.run_id}",
                        code="busy",
                    )
                continue
            record = adopt(machine, status, self.store, self.clock.now())
            if record is None:
                continue
            self.progress.note(f"{record.id} was started by an earlier call, and goes on")
            return record
        return None

    def _start(self, machine: Machine, arguments: tuple[str, ...]) -> RunRecord:
        spec = RunSpec(
            run_id=new_run_id(),
            script=PROGRAM,
            args=arguments,
            builtin=True,
            project="prewarm",
            env=require(self.provider.filling).machine_variables(),
        )
        record = planned(
            spec, machine.instance, self.clock.now(), self.region, account=self.provider.scope().rented_in
        )
        return start(record, spec, machine, self.store, clock=self.clock, progress=self.progress)

    def _wait(self, plan: PrewarmPlan) -> None:
        """The initialisation rate has brought everything. It goes on without us."""
        volume = plan.request.volume
        self.progress.step(f"waiting for {volume.id} to be initialised")
        try:
            for _ in attempts(self.clock, None, first=1.0, most=30.0):
                origin = require(self.provider.filling).volume_origin(volume.id)
                if origin.complete:
                    return
                self.progress.update("per cent", done=origin.progress or 0, total=100)
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped watching; {volume.id} is being initialised all the same",
                hint="the same command watches again",
            ) from None

    def _result(
        self,
        plan: PrewarmPlan,
        instance: Instance | None,
        record: RunRecord | None,
        done: Mapping[str, Any],
        begun: float,
    ) -> PrewarmResult:
        seconds = self.clock.monotonic() - begun
        cost: Decimal | None = Decimal(0)
        if plan.on_helper and instance is not None:
            price = instance.price_per_hour
            # One that an earlier call has rented is older than this call; EC2 says when, by a clock of its own.
            found = plan.where == "helper-found"
            age = (self.clock.now() - instance.created_at).total_seconds() if found else seconds
            lived = Decimal(max(age, seconds))
            cost = None if price is None else price * max(Decimal(60), lived) / 3600
        volume = require(self.provider.volumes).find(plan.request.volume.id)
        return PrewarmResult(plan, volume, instance, record.id if record else None, done, seconds, cost)


@dataclass
class Heard:
    """What the program on the machine has said so far."""

    on_pace: Callable[[Pace], None]
    progress: Progress = SILENT
    pace: Pace = field(default_factory=Pace)
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """The log's next bytes. Lines that are not the program's are the agent's, and details."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                event = loads(line)
                kind = event["event"]
                if kind == "progress":
                    self.pace.take(event)
            except (ValueError, KeyError, TypeError, OverflowError):
                self.progress.detail(line.decode("utf-8", "replace"))
                continue
            if kind == "progress":
                self.on_pace(self.pace)
            elif kind == "result":
                self.result = event
            elif kind == "error":
                self.error = event
            elif kind == "note":
                self.progress.note(str(event.get("message")))


def _checked(followed: Followed, heard: Heard) -> Mapping[str, Any]:
    """The program's result. Raises its error, or the reason why it has none."""
    end = followed.end
    if end is not None and end.reason is EndReason.COMPLETED and heard.result is not None:
        return {key: value for key, value in heard.result.items() if key != "event"}
    told_to_end = end is not None and end.reason in TOLD_TO_END
    if heard.error is not None and not told_to_end:
        code, message = str(heard.error.get("code")), str(heard.error.get("message"))
        hint = str(heard.error.get("hint") or "")
        if code in _DENIED:
            raise PermissionDenied(message, hint=hint, code=code)
        if code in _NOT_FOUND:
            raise NotFound(message, hint=hint, code=code)
        raise MachineError(message, hint=hint, code=code)
    assert end is not None  # noqa: S101 - followed to the end
    raise MachineError(
        sentence(followed.record.id, end), hint="run the same command again", code=end.reason.value.lower()
    )


def _step(plan: PrewarmPlan) -> str:
    if plan.request.source is None:
        return f"reading every block of {plan.request.volume.id}"
    return f"filling {plan.request.volume.id} from {plan.request.source}"
