"""The one place where machines are rented, waited for, stopped, started and given back, helper machines included.

Whoever keeps account of it listens here (`Rental`). Each thing is written down as an intent before it is rented
(`runctl.machines.creation`), and the intent's token is in every fact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import CapacityError, Conflict, RunctlError
from runctl.core.ids import InstanceId
from runctl.core.journal import Change, Effect
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.progress import SILENT, Progress
from runctl.core.tags import HELPER_FOR, INTENT
from runctl.machines.creation import TOKEN_SPENT, Creation, creating
from runctl.machines.fallback import AskFallback, NextStep, check_fallback, next_step, nobody_to_ask, pause
from runctl.machines.intents import IntentState, IntentStore, Kind
from runctl.providers.abilities.nodes import NodesPlan
from runctl.providers.capacity import Refusal, SpotFallback
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.providers.interface import Provider, require
from runctl.providers.registry import command

READY_TIMEOUT = timedelta(minutes=15)
"""A GPU machine with a large image takes some minutes to boot."""
TRIES = 3
PAUSE_SECONDS = 1.0
"""How often a machine is given back, and the time between two tries."""


class RentalEvent(StrEnum):
    """What happened to a rented machine."""

    RENTED = "rented"
    CHANGED = "changed"
    """It is in another state, such as stopped, in which another price counts."""
    GIVEN_BACK = "given-back"


class RentalKind(StrEnum):
    """What a machine is rented for."""

    MACHINE = "machine"
    """For the user."""
    HELPER = "helper"
    """For one job of a command, at whose end it is given back."""


@dataclass(frozen=True)
class Rental:
    """A rented machine at the moment of an event.

    The same event may be told more than once, by a command that finishes what an earlier one began; the token is the
    same then.
    """

    event: RentalEvent
    provider: str
    id: InstanceId
    kind: RentalKind
    instance_type: str
    market: Market
    state: InstanceState
    price_per_hour: Decimal | None
    """USD; ``None`` where no price is known."""
    time: datetime
    """When the provider had answered."""
    token: str | None
    """Of the intent to rent it; ``None`` for a machine that was rented by a version without intents."""
    instance: Instance
    """As the provider described it."""
    zone: str | None = None
    plan: CreatePlan | None = None
    """By which it was rented; with `RentalEvent.RENTED`."""


@dataclass(frozen=True)
class RefusedPool:
    """A pool that was asked for a machine in vain, at that time."""

    provider: str
    refusal: Refusal
    time: datetime


RentalListener = Callable[[Rental], None]
RefusedPoolListener = Callable[[RefusedPool], None]


def rental_of(
    event: RentalEvent, instance: Instance, time: datetime, plan: CreatePlan | None = None
) -> Rental:
    """The facts of an instance. Pure."""
    return Rental(
        event,
        instance.provider,
        instance.id,
        RentalKind.HELPER if HELPER_FOR in instance.tags else RentalKind.MACHINE,
        instance.instance_type,
        instance.market,
        instance.state,
        instance.price_per_hour,
        time,
        instance.tags.get(INTENT),
        instance,
        instance.zone,
        plan,
    )


class Rentals:
    """The machines of one provider."""

    def __init__(
        self,
        provider: Provider,
        intents: IntentStore,
        *,
        clock: Clock | None = None,
        progress: Progress = SILENT,
        review: Callable[[CreatePlan, int], None] = lambda _plan, _count: None,
        before: Sequence[Callable[[CreatePlan, int], None]] = (),
        listeners: Sequence[RentalListener] = (),
        refusal_listeners: Sequence[RefusedPoolListener] = (),
        rank: Callable[[CreatePlan], CreatePlan] = lambda plan: plan,
    ) -> None:
        """``rank`` puts the offers of a plan into the order in which they are asked.

        ``review`` looks at a plan before it is shown, with the number of machines. What one of ``before`` raises, just
        before the call that rents, keeps the machines from being rented.
        """
        self.provider = provider
        self.intents = intents
        self.clock = clock or SystemClock()
        self.progress = progress
        self.review = review
        self._before = before
        self._listeners = listeners
        self._refusal_listeners = refusal_listeners
        self._rank = rank

    @contextmanager
    def renting(self, request: InstanceRequest) -> Iterator[NewMachine]:
        """For the time in which a machine is planned, rented and waited for.

        The same request takes up what an earlier command has begun and not finished. Raises what `Renting.plan` raises.
        """
        machines = require(self.provider.renting)
        if request.other_types or request.needs or request.max_price is not None:
            require(machines.choosing)
        # How long spot capacity is waited for makes it no other machine: with a deadline that changes by the minute.
        same = replace(request, fallback=SpotFallback(request.fallback.mode))
        with self.intending(same) as creation:
            plan = self.plan(replace(request, token=creation.token))
            check_fallback(plan)
            self.review(plan, 1)
            yield NewMachine(self, creation, plan, request)

    def plan(self, request: InstanceRequest) -> CreatePlan:
        """See `Renting.plan`; the offers are ranked by what is remembered of them."""
        return self.ranked(require(self.provider.renting).plan(request, self.progress))

    def ranked(self, plan: CreatePlan) -> CreatePlan:
        """The plan with its offers in the order in which they are asked."""
        return self._rank(plan)

    @contextmanager
    def intending(self, request: object) -> Iterator[Creation]:
        """The intent to rent a machine; see `creating`."""
        with creating(
            self.intents,
            self.provider,
            Kind.INSTANCE,
            request,
            clock=self.clock,
            progress=self.progress,
        ) as creation:
            yield creation

    def rent(self, plan: CreatePlan, creation: Creation) -> Instance:
        """The machine exists; it may be booting still. Raises what `Renting.create` raises, and `StateError`."""
        for check in self._before:
            check(plan, 1)
        creation.begin()
        instance = require(self.provider.renting).create(plan, self.progress, self._refused)
        creation.note_id(instance.id)
        self._tell(RentalEvent.RENTED, instance, plan)
        return instance

    def rent_nodes(self, plan: NodesPlan, creation: Creation) -> tuple[Instance, ...]:
        """Several machines exist, by rank; they may be booting still. Raises as `rent` does."""
        for check in self._before:
            check(plan.machine, plan.most)
        creation.begin()
        instances = require(self.provider.nodes).create(plan, self.progress, self._refused)
        for instance in instances:
            self._tell(RentalEvent.RENTED, instance, plan.machine)
        return instances

    def seen(self, instance: Instance) -> None:
        """Whoever keeps account of it hears how a machine is now."""
        self._tell(RentalEvent.CHANGED, instance)

    def wait_ready(self, instance_id: InstanceId, timeout: timedelta = READY_TIMEOUT) -> Instance:
        """The machine can be used; see `Provider.wait_ready`. Where that fails, the journal has the machine."""
        journal = self.provider.journal
        with journal.unfinished(exists(self.provider.name, instance_id)):
            try:
                ready = self.provider.wait_ready(instance_id, timeout=timeout, progress=self.progress)
            except RunctlError as error:
                if isinstance(error, CapacityError) or error.code == "instance-ended":
                    over = f"instance {instance_id} has ended"
                    journal.record(Change("instance", (instance_id,), Effect.GONE, over))
                raise
        self._tell(RentalEvent.CHANGED, ready)
        return ready

    def finish(self, instance_id: InstanceId, timeout: timedelta = READY_TIMEOUT) -> Instance:
        """As `wait_ready`; a ``create`` that was cut short has nothing left to do then."""
        ready = self.wait_ready(instance_id, timeout)
        self.intents.close(IntentState.DONE, ready.id, ready.tags.get(INTENT))
        return ready

    def start(self, instance_id: InstanceId) -> Instance:
        """See `StopAndStart.start`."""
        return self._changed(require(self.provider.stop_and_start).start(instance_id, self.progress))

    def stop(self, instance_id: InstanceId) -> Instance:
        """See `StopAndStart.stop`."""
        return self._changed(require(self.provider.stop_and_start).stop(instance_id, self.progress))

    def give_back(self, instance_id: InstanceId) -> Instance:
        """See `Renting.terminate`."""
        ended = require(self.provider.renting).terminate(instance_id, self.progress)
        if ended.state.is_over:
            # No call has ended one that the provider had taken back before.
            over = f"instance {instance_id} has ended"
            self.provider.journal.record(Change("instance", (instance_id,), Effect.GONE, over))
        self._tell(RentalEvent.GIVEN_BACK, ended)
        return ended

    def give_back_surely(self, instance_id: InstanceId) -> tuple[str, str]:
        """The machine is given back, or whoever reads these words can do it: what became of it, and what to do.

        A second Ctrl-C does not get in between: the machine costs money.
        """
        problem = ""
        for _ in range(TRIES):
            try:
                self.give_back(instance_id)
            except KeyboardInterrupt:
                problem = "interrupted"
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody must be told
                problem = error.message if isinstance(error, RunctlError) else repr(error)
                with suppress(KeyboardInterrupt):
                    self.clock.sleep(PAUSE_SECONDS)
            else:
                return f"{instance_id} is given back", ""
        ends = command(self.provider.name, "terminate", instance_id)
        return f"{instance_id} MAY STILL BE RUNNING ({problem})", f"end it: {ends}"

    def wait_ended(self, instance_id: InstanceId, timeout: timedelta) -> Instance:
        """See `Renting.wait_ended`."""
        machines = require(self.provider.renting)
        return machines.wait_ended(instance_id, timeout=timeout, progress=self.progress)

    def _changed(self, instance: Instance) -> Instance:
        self._tell(RentalEvent.CHANGED, instance)
        return instance

    def _refused(self, refusal: Refusal) -> None:
        fact = RefusedPool(self.provider.name, refusal, self.clock.now())
        for listener in tuple(self._refusal_listeners):
            listener(fact)

    def _tell(self, event: RentalEvent, instance: Instance, plan: CreatePlan | None = None) -> None:
        fact = rental_of(event, instance, self.clock.now(), plan)
        for listener in tuple(self._listeners):
            listener(fact)


class NewMachine:
    """A machine that is planned, and rented when `rent` is called."""

    def __init__(
        self, rentals: Rentals, creation: Creation, plan: CreatePlan, request: InstanceRequest
    ) -> None:
        self.plan = plan
        """What was carried out in the end, after `rent`: on demand, where no spot machine was to be had."""
        self.existing = creation.existing
        """The instance that an earlier call of the same command has rented already."""
        self.instance: Instance | None = None
        """Once it is rented."""
        self._rentals = rentals
        self._creation = creation
        self.request = request
        """What it is rented by."""

    def rent(
        self, *, wait: timedelta | None = READY_TIMEOUT, ask_fallback: AskFallback = nobody_to_ask
    ) -> Instance:
        """The machine exists and, unless ``wait`` is ``None``, can be used.

        Where no spot machine can be had, the request's fallback says what follows; ``ask_fallback`` is for
        `FallbackMode.ASK`. Each try is an intent with a token of its own.
        """
        self.instance = self._rent(ask_fallback)
        if wait is not None:
            self.instance = self._rentals.wait_ready(self.instance.id, wait)
        return self.instance

    def find(self) -> Instance | None:
        """What `rent` has made although it was interrupted, as far as the provider can tell by now."""
        provider = self._rentals.provider
        provider.journal.settle(clock=self._rentals.clock)
        created = self._creation.resource_id
        if self.instance is None and created is not None:
            self.instance = provider.instance(InstanceId(created))
        return self.instance

    def _rent(self, ask_fallback: AskFallback) -> Instance:
        clock, progress, fallback = self._rentals.clock, self._rentals.progress, self.request.fallback
        start, tries = clock.monotonic(), 0
        while True:
            try:
                if tries:
                    self._plan_anew(self.request.market)
                return self._rentals.rent(self.plan, self._creation)
            except Conflict as error:
                if error.code != TOKEN_SPENT or tries:
                    raise
                self._creation.renew(IntentState.GONE)
            except CapacityError as error:
                waited = timedelta(seconds=clock.monotonic() - start)
                step = next_step(fallback, self.plan.market, error, waited)
                if step is NextStep.FAIL:
                    raise
                self._creation.renew(IntentState.NOTHING)
                if step is not NextStep.RETRY:
                    self._plan_anew(Market.ON_DEMAND)
                    if step is NextStep.ASK and not ask_fallback(self.plan, error):
                        raise
                    break
                rest = pause(tries, fallback.after - waited)
                progress.update(f"no spot capacity yet; asking again in {rest.total_seconds():.0f} s")
                clock.sleep(rest.total_seconds())
            tries += 1
        progress.note("no spot machine was available: renting on demand")
        return self._rentals.rent(self.plan, self._creation)

    def _plan_anew(self, market: Market) -> None:
        request = replace(self.request, market=market, token=self._creation.token)
        self.plan = self._rentals.plan(request)


def exists(provider: str, instance_id: str) -> Change:
    """How an instance that is not ready yet is told. Pure."""
    return Change(
        "instance",
        (instance_id,),
        Effect.CREATED,
        f"instance {instance_id} exists and is billed",
        go_on=f"runctl {provider} wait {instance_id}",
        undo=f"runctl {provider} terminate {instance_id}",
    )
