"""The use case ``recover``: a further attempt of a run on another machine, with all that the first one had.

What follows is decided by `runctl.runs.recovery.decide_next`; here it is done. Whoever does it may be killed at any
point: the machine of attempt N carries ``RUN/N`` in a tag that is set in the call that rents it, the next call finds it
by that, and an agent starts one attempt once. On this computer one process at a time recovers a run.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from functools import cached_property
from pathlib import Path

from runctl.agent.after_run import MachineEnd
from runctl.agent.spec import EndReason, EndRecord, RunSpec
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import (
    CapacityError,
    Conflict,
    Interrupted,
    NotFound,
    RunctlError,
    Unsupported,
    add_fact,
)
from runctl.core.files import data_folder, make_private_folder
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.journal import Change, Effect
from runctl.core.models import Instance, InstanceState, Market, RunPhase, VolumeState
from runctl.core.tags import ATTEMPT, INTENT
from runctl.machines.intents import IntentState
from runctl.machines.machine import Machine, reach
from runctl.machines.renting import READY_TIMEOUT, Rentals
from runctl.machines.session import Session
from runctl.project.kept import kept_projects
from runctl.providers.capacity import FallbackMode, Pool, SpotFallback
from runctl.providers.interface import InstanceRequest, Provider, require
from runctl.runs.control import find_kept, refresh
from runctl.runs.images.run_image import logged_in
from runctl.runs.launch import start
from runctl.runs.launch_plan import FETCH_WITHIN, UNUSED_FOR
from runctl.runs.mounts.attachments import volumes_attached
from runctl.runs.mounts.facts import find_holder
from runctl.runs.mounts.plan import MountPlan, PlannedAttachment
from runctl.runs.mounts.volume_conflicts import is_on
from runctl.runs.recipe import KeptVolume, Recipe, Recipes
from runctl.runs.records import RunRecord, as_known, planned, with_end
from runctl.runs.recovery import (
    RETRIED,
    GiveUp,
    NextAttempt,
    PastAttempt,
    Progress,
    RecoveryRules,
    decide_next,
)
from runctl.runs.store import run_store
from runctl.runs.stored_results import end_in_store
from runctl.transport.agent import AgentClient

RELEASE_TIMEOUT = timedelta(minutes=10)
"""For how long a machine that is shutting down is waited for, so that its volumes can be attached elsewhere."""
REFUSED_FOR = 60.0
"""Seconds after which spot capacity that was refused is asked for again."""
PAUSE = 5.0
ANY_POOL = "any"
"""The provider chooses among the types and zones that the request allows."""


class Outcome(Enum):
    """What has come of recovering a run."""

    STARTED = "started"
    """The next attempt has been taken up by its machine."""
    GOES_ON = "goes-on"
    """The run has not ended, or nobody can say that it has."""
    ENDED = "ended"
    """It has ended, and there is no further attempt."""
    NO_CAPACITY = "no-capacity"
    """No machine was to be had now."""


@dataclass(frozen=True)
class Recovered:
    """A run after somebody has looked whether it needs another attempt."""

    record: RunRecord
    outcome: Outcome
    why: str = ""
    """For a person, after the run's id."""


class BeingRecovered(Conflict):
    """Another process of this computer recovers the run."""

    code = "being-recovered"


def recover_run(
    session: Session,
    record: RunRecord,
    *,
    once: bool = True,
    clock: Clock | None = None,
) -> Recovered:
    """The run's next attempt has started, if it has ended in a way that another machine changes.

    ``once``: a machine that is not to be had now is not waited for. What was rented is given back where the attempt
    could not be started, after Ctrl-C too. Raises `BeingRecovered`, `NotFound` for a run that was not started here, and
    what renting, attaching and starting raise.
    """
    store = run_store(session)
    with _alone(record.id):
        known = store.get(record.id)
        recovering = _Recovering(session, known, clock or SystemClock())
        unfinished = recovering.unfinished()
        if unfinished is not None:
            return unfinished
        (known,) = refresh(session, [known])
        if not known.has_ended:
            why = "cannot be asked" if known.state is RunPhase.UNKNOWN else f"is {known.state.value}"
            return Recovered(known, Outcome.GOES_ON, why)
        recovering.record = known
        if known.end_reason in RETRIED:
            # Before anything is rented: whoever asked the provider first may not have known this.
            recovering.take_end(known, end_in_store(recovering.session, known))
        if recovering.record.end_reason not in RETRIED:
            return Recovered(recovering.record, Outcome.ENDED, _ended(recovering.record))
        return recovering.to_the_next_attempt(once=once)


def _ended(record: RunRecord) -> str:
    step = decide_next([_past(record, record.created_at)], RecoveryRules(2, 0.0), Progress(0.0, 0.0, ()))
    return step.why if isinstance(step, GiveUp) else "has ended"


@contextmanager
def _alone(run_id: str) -> Iterator[None]:
    """For the time in which a run is recovered; it ends with the process. Raises `BeingRecovered`."""
    folder = data_folder() / "recoveries"
    make_private_folder(folder)
    path: Path = folder / f"{run_id}.lock"
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BeingRecovered(
                f"{run_id} is being recovered by another command",
                hint=f"runctl runs show {run_id} shows how far it is",
            ) from error
        yield


def _past(record: RunRecord, since: datetime) -> PastAttempt:
    ended = record.ended_at or record.created_at
    return PastAttempt(
        reason=record.end_reason or EndReason.LOST,
        market="spot" if record.market == Market.SPOT.value else "on-demand",
        pool=str(Pool(record.instance_type or "", record.zone or "")),
        ended_at=(ended - since).total_seconds(),
        paid=max((ended - record.created_at).total_seconds(), 0.0),
    )


def history(record: RunRecord) -> list[PastAttempt]:
    """All attempts of a run that has ended, for `decide_next`. Pure."""
    attempts = (*record.past, as_known(record))
    first = attempts[0].created_at
    return [
        _past(
            replace(
                record,
                end_reason=each.end_reason,
                market=each.market,
                instance_type=each.instance_type,
                zone=each.zone,
                ended_at=each.ended_at,
                created_at=each.created_at,
            ),
            first,
        )
        for each in attempts
    ]


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
        attempt=f"{record.id}/{attempt}",
        volumes=(),
        token=None,
    )


def next_spec(recipe: Recipe, record: RunRecord, *, ends_itself: bool) -> RunSpec:
    """The spec of the next attempt. Pure.

    An image that was pulled is taken by its digest. A machine that was rented for the attempt ends itself after it,
    once what it wrote is safe or was fetched.
    """
    spec = recipe.spec
    container = spec.container
    if container is not None and container.image is not None and record.image_digest is not None:
        name = container.image.partition("@")[0]
        folder, slash, last = name.rpartition("/")
        name = f"{folder}{slash}{last.partition(':')[0]}"
        container = replace(container, image=f"{name}@{record.image_digest}")
    end = spec.machine_end
    if end is None and ends_itself:
        saved = (
            any(mount.volume_id and not mount.read_only for mount in spec.mounts) or spec.store is not None
        )
        end = MachineEnd() if saved else MachineEnd(fetch_within_seconds=FETCH_WITHIN.total_seconds())
    return replace(spec, attempt=record.attempt + 1, container=container, machine_end=end)


class _HasEndedError(RunctlError):
    """The run had ended for good, which only its volume knew."""


class _Recovering:
    """One run, from the end of an attempt to the start of the next one."""

    def __init__(self, session: Session, record: RunRecord, clock: Clock) -> None:
        self.session = session.in_region(record.region)
        self.record = record
        self.clock = clock
        self.store = run_store(session)
        self.recipes = Recipes(session.database)

    @cached_property
    def recipe(self) -> Recipe:
        """Raises `NotFound`."""
        return self.recipes.get(self.record.id)

    @cached_property
    def provider(self) -> Provider:
        """Whose machines the run is on."""
        return self.session.provider(self.record.provider)

    @cached_property
    def rentals(self) -> Rentals:
        """Its machines."""
        return self.session.rentals(self.record.provider)

    def unfinished(self) -> Recovered | None:
        """An attempt that was written down, and whose machine may not have heard of it, has started."""
        record = self.record
        never_heard = record.end_reason is EndReason.NOT_STARTED or record.state is RunPhase.PENDING
        if not record.past or not never_heard:
            return None
        recipe = self.recipes.find(record.id)
        if recipe is None or recipe.spec.attempt != record.attempt:
            return None
        try:
            instance = self.provider.instance(record.instance_id)
        except NotFound:
            return None
        if instance.state is not InstanceState.RUNNING:
            return None
        return self._start_on(instance, recipe.spec, record)

    def to_the_next_attempt(self, *, once: bool) -> Recovered:
        """Rent, attach, send, start; as often as `decide_next` says so."""
        rules, attempts = rules_of(self.recipe), history(self.record)
        refused_at: float | None = None
        refusal = "there is no capacity"
        while True:
            self._check_wanted()
            free = refused_at is None or self.clock.monotonic() - refused_at >= REFUSED_FOR
            on_spot = self.recipe.request is None or self.recipe.request.market is Market.SPOT
            first = (self.record.past or (as_known(self.record),))[0].created_at
            progress = Progress(
                elapsed=(self.record.by_its_clock(self.clock.now()) - first).total_seconds(),
                done=0.0,
                pools_with_capacity=(ANY_POOL,) if free and on_spot else (),
            )
            step = decide_next(attempts, rules, progress)
            if isinstance(step, GiveUp):
                return Recovered(self.record, Outcome.ENDED, step.why)
            if isinstance(step, NextAttempt):
                try:
                    return self._attempt(Market(step.market))
                except _HasEndedError as error:
                    # What was rented to find that out may be going on.
                    why = f"{error.message} ({error.hint})" if error.hint else error.message
                    return Recovered(self.record, Outcome.ENDED, why)
                except CapacityError as error:
                    refusal, refused_at = error.message, self.clock.monotonic()
                    waits = progress.elapsed - attempts[-1].ended_at <= rules.retry_within
                    if step.market == Market.SPOT.value and (waits or rules.on_demand_after is not None):
                        # Whether that calls for another market, for waiting or for giving up is decided there.
                        self.session.progress.detail(f"{self.record.id}: {refusal}")
                        continue
                    if not waits:
                        return Recovered(self.record, Outcome.ENDED, f"has no machine: {refusal}")
            if once:
                return Recovered(self.record, Outcome.NO_CAPACITY, f"has no machine: {refusal}")
            self.session.progress.step(f"waiting for a machine for {self.record.id}")
            self.clock.sleep(PAUSE)

    def _attempt(self, market: Market) -> Recovered:
        staying = self._same_machine()
        if staying is not None:
            return self._start_on(staying, next_spec(self.recipe, self.record, ends_itself=False))
        number = self.record.attempt + 1
        self._check_recipe()
        # Nobody has to be told of a machine that its provider has taken back.
        over = f"instance {self.record.instance_id} has ended"
        self.provider.journal.record(Change("instance", (self.record.instance_id,), Effect.GONE, over))
        instance: Instance | None = None
        try:
            instance = self._adopted(number)
            if instance is None:
                instance = self._rent(market, number)
            else:
                # Whoever rented it may not have seen its first boot finish.
                instance = self.rentals.wait_ready(instance.id, READY_TIMEOUT)
            self._check_wanted()
            ends_itself = require(self.provider.renting).ends_on_shutdown
            return self._start_on(instance, next_spec(self.recipe, self.record, ends_itself=ends_itself))
        except CapacityError:
            raise
        except BaseException as error:
            if instance is None:
                self.provider.journal.settle(clock=self.clock)
                instance = self._found(number)
            told = self._after_failure(instance, number, error)
            if told is error:
                raise
            raise told from error

    def _same_machine(self) -> Instance | None:
        """The machine of the last attempt, where nobody takes it back: it was only started anew, say."""
        given = self.record.hand_off
        if given is not None and not given.is_rehearsal:
            return None
        try:
            instance = self.provider.instance(self.record.instance_id)
        except NotFound:
            return None
        going = instance.state is InstanceState.RUNNING and not instance.interrupted
        return instance if going else None

    def _check_recipe(self) -> None:
        """Raises `Unsupported` for what only the first attempt's machine had."""
        spec = self.recipe.spec
        if spec.tree is None and not spec.is_command and not spec.builtin:
            raise Unsupported(
                f"{spec.run_id} used the project that its machine had (--no-sync-code)",
                hint="start a new run from its checkpoints: --resume-from",
            )
        if spec.container is not None and spec.container.build is not None and spec.container.build.secrets:
            raise Unsupported(
                f"the image of {spec.run_id} is built with secrets, which are not kept",
                hint="start a new run from its checkpoints: --resume-from",
            )
        if spec.tree is not None:
            kept_projects().check(spec.tree)
        if self.recipe.request is None:
            raise Unsupported(
                f"what a machine like that of {spec.run_id} is rented by is not known",
                hint="start a new run from its checkpoints: --resume-from",
            )

    def _adopted(self, number: int) -> Instance | None:
        """What an earlier call has rented for this attempt."""
        found = self._found(number)
        if found is not None:
            self.session.progress.note(
                f"{found.id} was rented for attempt {number} already: going on with it"
            )
        return found

    def _found(self, number: int) -> Instance | None:
        wanted = f"{self.record.id}/{number}"
        there = [
            each
            for each in self.provider.instances()
            if each.tags.get(ATTEMPT) == wanted and not each.state.is_over
        ]
        return there[-1] if there else None

    def _rent(self, market: Market, number: int) -> Instance:
        request = self.recipe.request
        assert request is not None  # noqa: S101 - `_check_recipe` has looked
        wanted = next_request(request, self.record, number, market, self._zone())
        with self.rentals.renting(wanted) as new:
            return new.rent()

    def _zone(self) -> str | None:
        """Where the run's volumes are. Raises `NotFound`."""
        zones = {require(self.provider.volumes).find(volume.volume_id).zone for volume in self.recipe.volumes}
        return next(iter(zones), None)

    def _start_on(self, instance: Instance, spec: RunSpec, known: RunRecord | None = None) -> Recovered:
        machine = reach(self.session, instance, self.recipe.transport)
        with self._volumes(machine), logged_in(self.session, machine, spec):
            if known is None:
                self._read_its_own_end()
            if spec.tree is not None:
                kept_projects().send(
                    spec.tree, spec.project, machine.agent, instance.id, self.session.progress
                )
            record = known or self._written_down(spec, instance)
            record = start(
                record, spec, machine, self.store, clock=self.clock, progress=self.session.progress
            )
        self.session.intents.close(IntentState.DONE, instance.id, instance.tags.get(INTENT))
        return Recovered(record, Outcome.STARTED, f"goes on as attempt {record.attempt} on {instance.id}")

    def _read_its_own_end(self) -> None:
        """What the last attempt wrote of its end before its machine was gone, where that is on a volume that is mounted
        now, counts more than what the provider says. Raises `_HasEndedError` where the run has ended for good."""
        if self.record.saved_volume is None:
            return
        record, kept = find_kept(self.session, self.record)
        self.take_end(record, kept.end)
        if self.record.end_reason not in RETRIED:
            raise _HasEndedError(_ended(self.record))

    def take_end(self, known: RunRecord, end: EndRecord | None) -> None:
        """What the machine itself wrote of the attempt's end is what is remembered.

        Raises `Conflict` as `_check_wanted` does.
        """
        if end is None:
            return
        record = with_end(known, end)
        if not self.store.replace(record, known):
            raise self._stopped()
        self.record = record

    def _written_down(self, spec: RunSpec, instance: Instance) -> RunRecord:
        """The next attempt is what is remembered of the run, unless somebody has stopped it meanwhile."""
        before = self.record
        record = planned(
            spec, instance, self.clock.now(), self.record.region, name=before.name, git=before.git
        )
        record = replace(record, results=before.results, past=(*before.past, as_known(before)))
        if not self.store.replace(record, before):
            raise self._stopped()
        self.recipes.put(replace(self.recipe, spec=spec))
        return record

    def _check_wanted(self) -> None:
        """Raises `Conflict` (code ``run-changed``) where the run was stopped meanwhile, or went on elsewhere."""
        now = self.store.find(self.record.id)
        if now is None or (now.attempt, now.end_reason) != (self.record.attempt, self.record.end_reason):
            raise self._stopped()

    def _stopped(self) -> Conflict:
        return Conflict(
            f"{self.record.id} was stopped while its next attempt was prepared; it stays stopped",
            hint=f"runctl runs show {self.record.id}",
            code="run-changed",
        )

    @contextmanager
    def _volumes(self, machine: Machine) -> Iterator[None]:
        """The run's volumes are where its first machine had them, once that has let go of them."""
        instance, provider = machine.instance, self.provider
        attachments = tuple(self._attachment(volume, instance) for volume in self.recipe.volumes)

        def agent_on(other: Instance) -> AgentClient:
            return machine.agent if other.id == instance.id else reach(self.session, other).agent

        def may_have_started() -> bool:
            known = self.store.find(self.record.id)
            return known is not None and known.instance_id == instance.id and not known.has_ended

        with volumes_attached(
            MountPlan(attachments=attachments),
            instance,
            provider=provider,
            agent_on=agent_on,
            find_holder=lambda volume: find_holder(
                volume, provider, self.store, agent_on, self.session.progress
            ),
            may_have_started=may_have_started,
            progress=self.session.progress,
        ):
            yield

    def _attachment(self, wanted: KeptVolume, instance: Instance) -> PlannedAttachment:
        find = require(self.provider.volumes).find
        volume = find(VolumeId(wanted.volume_id))
        holder = volume.attached_to
        if volume.state is VolumeState.IN_USE and holder is not None and not is_on(volume, instance):
            self._wait_for_release(holder)
            volume = find(volume.id)
        return PlannedAttachment(
            volume,
            wanted.mount_point,
            "as in the attempt before",
            is_on(volume, instance),
            wanted.read_only,
            formats_if_blank=False,
        )

    def _wait_for_release(self, holder: InstanceId) -> None:
        """A machine that is ending lets go of its volumes. One that goes on keeps them: attaching says so."""
        taken_back = holder == self.record.instance_id
        with suppress(NotFound):
            instance = self.provider.instance(holder)
            if instance.state.is_over or (taken_back and instance.interrupted):
                self.session.progress.step(f"waiting until {holder} lets go of its volumes")
                self.rentals.wait_ended(holder, RELEASE_TIMEOUT)

    def _after_failure(self, instance: Instance | None, number: int, error: BaseException) -> BaseException:
        """What was rented for the attempt is given back unless it may have started; the error says which."""
        if isinstance(error, KeyboardInterrupt) and instance is None:
            return Interrupted(
                f"interrupted; nothing is rented for attempt {number} of {self.record.id}",
                hint=f"runctl runs recover {self.record.id}",
            )
        known = self.store.find(self.record.id)
        may_have_started = known is not None and known.attempt == number and not known.has_ended
        if instance is None:
            return error
        if may_have_started:
            facts, hint = f"attempt {number} may go on on {instance.id}", f"runctl runs show {self.record.id}"
        else:
            facts, hint = self.rentals.give_back_surely(instance.id)
        if isinstance(error, KeyboardInterrupt):
            return Interrupted(
                f"interrupted; {facts}",
                hint=f"{hint + '; ' if hint else ''}runctl runs recover {self.record.id}",
            )
        add_fact(error, facts, hint)
        return error
