"""Several machines for one run: planned together, rented all or none, with their data, and given back together.

They are one call at the provider and one intent here: the same command finishes what was cut short, and what is left
of it is found by the intent's token. Who starts what on them is `runctl.runs`'.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field, replace
from datetime import timedelta
from enum import StrEnum
from queue import SimpleQueue
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.core.database import StateError
from runctl.core.errors import (
    CapacityError,
    Conflict,
    Interrupted,
    NotFound,
    RunctlError,
    Unsupported,
    UsageError,
    add_fact,
)
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Instance, Market
from runctl.core.text import counted
from runctl.machines.creation import TOKEN_SPENT
from runctl.machines.fallback import AskFallback, NextStep, check_fallback, next_step, nobody_to_ask, pause
from runctl.machines.intents import IntentState, Kind
from runctl.machines.node_volumes import (
    COPIES_AT_ONCE,
    NodeCopies,
    NodeVolume,
    Sharing,
    mount_shared,
    plan_node_volumes,
    without_shared,
)
from runctl.machines.renting import READY_TIMEOUT
from runctl.providers.abilities.nodes import NodesPlan, NodesRequest
from runctl.providers.capacity import SpotFallback
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.providers.interface import Provider, require

if TYPE_CHECKING:
    from runctl.machines.creation import Creation
    from runctl.machines.session import Session

MOST_NODES = 64
ENDED_TIMEOUT = timedelta(minutes=10)
"""How long machines that were given back are waited for, so that their network can go."""


class Engine(StrEnum):
    """What makes one run of several machines."""

    TORCHRUN = "torchrun"
    RAY = "ray"
    NONE = "none"
    """The script starts itself on each, with ranks and addresses in its environment."""


@dataclass(frozen=True)
class NodesWanted:
    """``--nodes`` and ``--engine``."""

    least: int
    most: int
    engine: Engine
    options: tuple[str, ...] = ()
    """More of the engine's own."""

    @property
    def text(self) -> str:
        """As it can be written: ``4`` or ``2:8``."""
        return str(self.least) if self.least == self.most else f"{self.least}:{self.most}"


def parse_nodes(text: str, engine: str | None) -> NodesWanted | None:
    """``N`` or ``N:M``; ``None`` for one machine without an engine, which is a plain launch. Raises `UsageError`."""
    first, colon, second = text.partition(":")
    try:
        least = int(first)
        most = int(second) if colon else least
    except ValueError:
        raise UsageError(f"--nodes {text}: write a number, or N:M", hint="such as 4, or 2:8") from None
    if not 1 <= least <= most <= MOST_NODES:
        raise UsageError(
            f"--nodes {text}: from 1 to {MOST_NODES}, the smaller number first", hint="such as 4, or 2:8"
        )
    if most == 1 and engine is None:
        return None
    if engine is None:
        names = ", ".join(each.value for each in Engine)
        raise UsageError(
            f"--nodes {text} needs an --engine, which makes one run of the machines",
            hint=f"one of {names}; none sets ranks and addresses, and the script starts itself",
        )
    return NodesWanted(least, most, Engine(engine))


@dataclass(frozen=True)
class Node:
    """One of the machines of a run."""

    rank: int
    instance: Instance
    volumes: Mapping[str, VolumeId] = field(default_factory=dict)
    """By the id of each volume of the plan, the one that this machine has in its place: itself, or a copy of it."""

    @property
    def address(self) -> str:
        """At which the others reach it: its private IPv4 address. Raises `NotFound` where it has none."""
        if self.instance.private_ip is None:
            raise NotFound(f"{self.instance.id} has no private address")
        return self.instance.private_ip


@dataclass(frozen=True)
class NodeGroup:
    """Machines that are up, reach each other, and have their data; by rank."""

    token: str
    """Of the intent by which all of it was rented."""
    nodes: tuple[Node, ...]

    @property
    def head(self) -> Node:
        """Rank 0: it has the volumes themselves."""
        return self.nodes[0]


@dataclass(frozen=True)
class NodeGroupPlan:
    """What `NewNodes.rent` is about to do. Nothing has been made yet."""

    nodes: NodesPlan
    volumes: tuple[NodeVolume, ...] = ()
    """How each of the run's volumes comes to all machines."""
    scores: Mapping[str, int] = field(default_factory=dict)
    """By zone, from 1 to 10: how likely it is that all of them can be had on the spot market; empty: nobody says."""


@contextmanager
def new_nodes(
    session: Session, provider: str, request: InstanceRequest, wanted: NodesWanted
) -> Iterator[NewNodes]:
    """For the time in which several machines are planned, rented and waited for.

    The same request takes up what an earlier command has begun and not finished. Raises `Unsupported` where the
    provider rents one machine at a time, and what `Nodes.plan` raises.
    """
    rentals = session.rentals(provider)
    nodes = require(rentals.provider.nodes)
    volumes = plan_node_volumes(rentals.provider, request, wanted.most)
    # What is had by all is attached when they are up; it decides the zone as well.
    alone = without_shared(request, volumes)
    each = replace(alone, budget=None if alone.budget is None else alone.budget / wanted.most)
    # Another call of the command has another run, and another time to wait for spot capacity.
    same = replace(each, attempt=None, fallback=SpotFallback(each.fallback.mode))
    intent = NodesIntent(same, wanted.least, wanted.most)
    with session.creating(rentals.provider, Kind.NODES, intent) as creation:

        def planned(market: Market) -> NodesPlan:
            machine = replace(each, market=market, token=creation.token)
            plan = nodes.plan(NodesRequest(machine, wanted.least, wanted.most), session.progress)
            ranked = rentals.ranked(plan.machine)
            if request.zone is None and each.zone is not None:
                ranked = replace(ranked, zone_reason="the volume's zone")
            return replace(plan, machine=ranked)

        plan = planned(request.market)
        check_fallback(plan.machine)
        rentals.review(plan.machine, wanted.most)
        for warning in plan.machine.warnings:
            session.progress.warn(warning)
        found = NodeGroupPlan(plan, volumes, _scores(rentals.provider, plan))
        yield NewNodes(session, provider, creation, found, each, request, planned)


def _scores(provider: Provider, plan: NodesPlan) -> Mapping[str, int]:
    if plan.machine.market is not Market.SPOT or isinstance(provider.spot_market, Unsupported):
        return {}
    pools = [offer.pool for offer in plan.machine.offers]
    types = sorted({pool.instance_type for pool in pools})
    scores = provider.spot_market.placement_scores(types, plan.most)
    zones = {pool.zone for pool in pools}
    return (
        {}
        if isinstance(scores, Unsupported)
        else {zone: score for zone, score in scores.items() if zone in zones}
    )


@dataclass(frozen=True)
class NodesIntent:
    """What makes it the same request."""

    machine: InstanceRequest
    least: int
    most: int

    @property
    def name(self) -> str | None:
        """Of the machines."""
        return self.machine.name

    @property
    def project(self) -> str | None:
        """Of the machines."""
        return self.machine.project


class NewNodes:
    """Machines that are planned, and rented when `rent` is called."""

    def __init__(
        self,
        session: Session,
        provider: str,
        creation: Creation,
        plan: NodeGroupPlan,
        request: InstanceRequest,
        whole: InstanceRequest,
        plan_in: Callable[[Market], NodesPlan],
    ) -> None:
        self.plan = plan
        """What was carried out in the end, after `rent`: on demand, where no spot machines were to be had."""
        self.request = request
        """What each of them is rented by."""
        self.whole = whole
        """What was asked for: with the volumes that all of them have, and the budget of all together."""
        self.existing = creation.existing
        """One of the instances that an earlier call of the same command has rented already."""
        self.group: NodeGroup | None = None
        """Once they can be used."""
        self._session = session
        self._provider = provider
        self._creation = creation
        self._plan_in = plan_in
        self._rentals = session.rentals(provider)
        self._nodes = require(self._rentals.provider.nodes)

    def rent(
        self, *, wait: timedelta = READY_TIMEOUT, ask_fallback: AskFallback = nobody_to_ask
    ) -> NodeGroup:
        """All of them can be used, with their data.

        Where no spot machines can be had, the request's fallback says what follows, as for one machine. If anything
        fails, or is interrupted, everything that was rented and made is given back, and the error says so. Raises what
        `Nodes.create` and `Provider.wait_ready` raise, and `Interrupted`.
        """
        try:
            copies = NodeCopies(self._session, self._provider, self._creation.token, self.plan.volumes)
            if self.plan.nodes.most > COPIES_AT_ONCE + 1:
                # One is made after the other: no machine is paid for meanwhile.
                self._creation.begin()
                copies.make(range(1, self.plan.nodes.most))
            instances = self._rent(ask_fallback)
            copies = NodeCopies(self._session, self._provider, self._creation.token, self.plan.volumes)
            copies.make(range(1, len(instances)))
            copies.delete_from(len(instances))
            with suppress(StateError):
                self._session.ledger_record(self._provider).drop_ranks(self._creation.token, len(instances))
            self.group = self._ready(self._assigned(instances, copies), wait)
        except BaseException as error:
            told = self.after_failure(error)
            if told is error:
                raise
            raise told from error
        return self.group

    def check(self, market: Market) -> None:
        """Raises what `Nodes.plan` raises where as many cannot be had on that market."""
        self._plan_in(market)

    def give_back(self) -> tuple[str, str]:
        """Everything that was rented and made is given back: what became of it, and what to do where that failed."""
        told = give_back(self._session, self._provider, self._creation.token)
        self._creation.renew(IntentState.GONE)
        return told

    def after_failure(self, error: BaseException) -> BaseException:
        """Everything is given back, and the error that is to be raised says so; Ctrl-C becomes `Interrupted`."""
        interrupted = isinstance(error, (KeyboardInterrupt, Interrupted))
        if interrupted:
            self._session.progress.warn("interrupted: giving back what was rented first")
            self._rentals.provider.journal.settle(clock=self._rentals.clock)
        facts, hint = self.give_back()
        if interrupted:
            return Interrupted(
                f"interrupted before the run was started; {facts or 'nothing was rented'}", hint=hint
            )
        if facts:
            add_fact(error, facts, hint)
            if isinstance(error, RunctlError):
                error.rented_on = self.plan.nodes.machine.market.value
        return error

    def _rent(self, ask_fallback: AskFallback) -> tuple[Instance, ...]:
        clock, progress, fallback = self._rentals.clock, self._rentals.progress, self.request.fallback
        start, tries = clock.monotonic(), 0
        while True:
            try:
                return self._rentals.rent_nodes(self.plan.nodes, self._creation)
            except Conflict as error:
                if error.code != TOKEN_SPENT or tries:
                    raise
                self._new_token(IntentState.GONE, self.plan.nodes.machine.market)
            except CapacityError as error:
                machine = self.plan.nodes.machine
                waited = timedelta(seconds=clock.monotonic() - start)
                step = next_step(fallback, machine.market, error, waited)
                if step is NextStep.FAIL:
                    raise
                market = Market.SPOT if step is NextStep.RETRY else Market.ON_DEMAND
                self._new_token(IntentState.NOTHING, market)
                if step is NextStep.ASK and not ask_fallback(self.plan.nodes.machine, error):
                    raise
                if step is NextStep.RETRY:
                    rest = pause(tries, fallback.after - waited)
                    progress.update(f"no spot capacity yet; asking again in {rest.total_seconds():.0f} s")
                    clock.sleep(rest.total_seconds())
                else:
                    progress.note("no spot machines were available: renting on demand")
            tries += 1

    def _new_token(self, state: IntentState, market: Market) -> None:
        """What is tried next is an intent of its own; copies that were made for the one before are this one's."""
        before = self._creation.token
        self._creation.renew(state)
        NodeCopies(self._session, self._provider, before, self.plan.volumes).pass_on(self._creation.token)
        self.plan = replace(self.plan, nodes=self._plan_in(market))

    def _assigned(self, instances: Sequence[Instance], copies: NodeCopies) -> tuple[Node, ...]:
        """Each knows what it is to mount."""
        found = []
        read = {mount.volume for mount in self.plan.nodes.machine.volumes if mount.read_only}
        for rank, instance in enumerate(instances):
            volumes = copies.of(rank)
            mounts = [
                VolumeMount(volumes[each.volume.id], each.mount_point, each.volume.id in read)
                for each in self.plan.volumes
                if each.sharing is not Sharing.SHARED
            ]
            found.append(Node(rank, self._nodes.assign(instance, mounts), volumes))
        return tuple(found)

    def _ready(self, nodes: Sequence[Node], timeout: timedelta) -> NodeGroup:
        """All are waited for at the same time; the first that fails ends it, with its rank in the error."""
        progress = self._session.progress
        progress.step(f"waiting until {counted(len(nodes), 'machine')} can be used")
        ended: SimpleQueue[tuple[Node, Instance | BaseException]] = SimpleQueue()

        def wait(node: Node) -> None:
            try:
                ended.put((node, self._rentals.provider.wait_ready(node.instance.id, timeout=timeout)))
            except BaseException as error:  # noqa: BLE001 - handed to the thread that asked
                ended.put((node, error))

        for node in nodes:
            # Nobody waits for one that still waits when another has failed, or at Ctrl-C.
            threading.Thread(target=wait, args=(node,), daemon=True, name=f"rank-{node.rank}").start()
        ready: list[Node] = []
        while len(ready) < len(nodes):
            node, outcome = ended.get()
            if isinstance(outcome, RunctlError):
                outcome.reword(f"rank {node.rank}: {outcome.message}")
            if isinstance(outcome, BaseException):
                raise outcome
            ready.append(replace(node, instance=outcome))
            progress.update(done=len(ready), total=len(nodes))
        ready.sort(key=lambda node: node.rank)
        for node in ready:
            self._rentals.seen(node.instance)
        mount_shared(self._session, self._provider, self.plan.volumes, [node.instance for node in ready])
        return NodeGroup(self._creation.token, tuple(ready))


def give_back(session: Session, provider: str, token: str) -> tuple[str, str]:
    """Nothing is left of what that intent rented and made: what became of it, and what to do where that failed.

    The machines first, whatever happens; then, when they have ended, the copies of volumes, and the network. Both
    are empty where there was nothing. A second Ctrl-C ends the waiting, not the giving back.
    """
    rentals = session.rentals(provider)
    nodes = require(rentals.provider.nodes)
    facts: list[str] = []
    hints: list[str] = []
    live = nodes.find(token)
    for instance in live:
        fact, hint = rentals.give_back_surely(instance.id)
        if hint:
            facts.append(fact)
            hints.append(hint)
    if live and not hints:
        facts.append(f"{', '.join(each.id for each in live)} {'is' if len(live) == 1 else 'are'} given back")
    rest = tidy_up(session, provider, token, wait_for=live)
    if rest:
        facts.append(rest)
        hints.append("runctl resources cleanup removes it; it is not billed by the hour")
    with suppress(RunctlError):
        session.intents.end(token, IntentState.GONE)
    return "; ".join(facts), "; ".join(hints)


def tidy_up(session: Session, provider: str, token: str, *, wait_for: Sequence[Instance] = ()) -> str:
    """What was made beside the machines is gone, when these have ended; else what is left, in words."""
    rentals = session.rentals(provider)
    nodes = require(rentals.provider.nodes)
    try:
        for instance in wait_for:
            rentals.wait_ended(instance.id, ENDED_TIMEOUT)
        NodeCopies(session, provider, token).delete_from(0)
        nodes.remove_network(token, session.progress)
    except KeyboardInterrupt:
        return "the network of these machines may be left (interrupted)"
    except RunctlError as error:
        return f"the network of these machines, or a copy of a volume, is left ({error.message})"
    return ""
