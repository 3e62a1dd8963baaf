"""The machines of a group meet for an attempt of their run: whoever has the run's lease calls, the others answer, and
each is told its rank.

All of it goes through the run's prefix. ``meeting.json`` is the newest call; below ``meetings/ID/`` are its answers,
one for each machine, and ``start.json`` once there are enough of them. A call is good for a while only, and each has
an id of its own: whoever answers one is there now, and nobody has to know how old an answer is. What is there of
earlier attempts is removed: ``start.json`` has the secret by which the attempt's machines know each other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

from runctl._dataclasses import dataclass
from runctl.agent.checkpoints.stores import Store, read_stored
from runctl.agent.encoding import dumps
from runctl.agent.errors import AgentError
from runctl.agent.node_spec import NodeSpec, ports_of
from runctl.agent.stored_run import MEETINGS, StoredNode, StoredNodes, nodes_key

CALL = "meeting.json"
POLL_SECONDS = 1.0
CALL_SECONDS = 30.0
"""After so long without enough answers it is called anew: a machine may have answered, and be gone since."""


@dataclass(frozen=True)
class Call:
    """Somebody has the run's lease, and calls the others."""

    id: str
    holder: str
    """Its instance."""


@dataclass(frozen=True)
class Answer:
    """A machine that is there."""

    instance_id: str
    address: str
    """At which the others reach it."""


@dataclass(frozen=True)
class Met:
    """Enough machines have answered a call."""

    call_id: str
    members: tuple[Answer, ...]
    """By rank; whoever has called is rank 0."""


@dataclass(frozen=True)
class Start:
    """What the machines that have answered are to do."""

    attempt: int
    members: tuple[Answer, ...]
    """As in `Met`."""
    secret: str


def node_of(start: Start, wanted: NodeSpec, rank: int, run_id: str) -> NodeSpec:
    """What the machine of that rank is told of all; ``wanted`` is what the run asks for. Pure."""
    group_port, engine_port = ports_of(run_id, start.attempt)
    return replace(
        wanted,
        rank=rank,
        addresses=tuple(each.address for each in start.members),
        secret=start.secret,
        group_port=group_port,
        engine_port=engine_port,
    )


def rank_in(start: Start, instance_id: str) -> int | None:
    """This machine's; ``None``: it is not one of them. Pure."""
    return next((rank for rank, each in enumerate(start.members) if each.instance_id == instance_id), None)


class Meeting:
    """This machine's part in them. Every method raises what the store raises."""

    def __init__(
        self,
        store: Store,
        own: Answer,
        say: Callable[[str], None],
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store, self._own, self._say = store, own, say
        self._now, self._sleep = now, sleep
        self._answered = ""
        self._told_of_refusal = False

    def gathered(self, count: int, goes_on: Callable[[], bool]) -> Met | None:
        """``count`` machines that are there, this one first; ``None`` where it does not go on before there are as
        many."""
        self._check_address()
        self.forget()
        while goes_on():
            call = Call(os.urandom(8).hex(), self._own.instance_id)
            self._store.put(CALL, dumps(call).encode())
            until = self._now() + CALL_SECONDS
            others: dict[str, Answer] = {}
            while goes_on() and self._now() < until:
                others = self._answers(call)
                if len(others) >= count - 1:
                    found = sorted(others.values(), key=lambda each: each.address)[: count - 1]
                    return Met(call.id, (self._own, *found))
                self._say(f"{len(others) + 1} of {count} machines are there: waiting for the others")
                self._sleep(POLL_SECONDS)
            self._remove(_below(call.id))
        return None

    def _answers(self, call: Call) -> dict[str, Answer]:
        found = (read_stored(self._store, key, Answer) for key in self._store.keys(_below(call.id)))
        return {
            each.instance_id: each
            for each in found
            if each is not None and each.instance_id != self._own.instance_id
        }

    def remember(self, met: Met, attempt: int, engine: str, least: int) -> None:
        """Everybody who may recover the run knows the attempt's machines."""
        nodes = tuple(
            StoredNode(rank, each.instance_id, each.address) for rank, each in enumerate(met.members)
        )
        self._store.put(nodes_key(attempt), dumps(StoredNodes(engine, "", least, nodes)).encode())

    def begin(self, met: Met, attempt: int) -> Start:
        """The others start the attempt now."""
        start = Start(attempt, met.members, os.urandom(16).hex())
        self._store.put(_start_key(met.call_id), dumps(start).encode())
        return start

    def forget(self) -> None:
        """Nothing is there any more of earlier calls, whose attempts have ended, as far as the store lets it go."""
        self._remove(MEETINGS)

    def _remove(self, prefix: str) -> None:
        """Nobody needs what is there: a machine that may not delete it goes on, and says so once."""
        try:
            for key in list(self._store.keys(prefix)):
                self._store.delete(key)
        except AgentError as error:
            if error.code == "store-away":
                raise
            if not self._told_of_refusal:
                self._say(
                    f"what the machines of earlier attempts knew each other by stays in the store: {error.message}"
                )
            self._told_of_refusal = True

    def invited(self, prepare: Callable[[], None]) -> Start | None:
        """The newest call is answered, once this machine is prepared; what follows of it for this machine, if that is
        known."""
        call = read_stored(self._store, CALL, Call)
        if call is None or call.holder == self._own.instance_id:
            return None
        if call.id != self._answered:
            self._check_address()
            prepare()
            answer = dumps(self._own).encode()
            self._store.put(f"{_below(call.id)}{self._own.instance_id}.json", answer)
            self._answered = call.id
        start = read_stored(self._store, _start_key(call.id), Start)
        return start if start is not None and rank_in(start, self._own.instance_id) is not None else None

    def _check_address(self) -> None:
        if not self._own.address:
            raise AgentError("no-address", "this machine does not know its private address")


def _below(call_id: str) -> str:
    return f"{MEETINGS}{call_id}/answers/"


def _start_key(call_id: str) -> str:
    return f"{MEETINGS}{call_id}/start.json"
