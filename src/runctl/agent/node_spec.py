"""What a run's request says of the several machines that it runs on: part of `runctl.agent.spec`'s contract."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Optional

from runctl._dataclasses import dataclass

FIRST_PORT = 20000
PORTS = 10000
"""Below those that Linux gives to connections (32768 to 60999)."""
NODE_NAME = "runctl-node-{}"
"""What each machine is called in /etc/hosts, by its rank."""


@dataclass(frozen=True)
class NodeSpec:
    """Which of a run's machines this one is, and how the script is started on all of them."""

    rank: int
    addresses: tuple[str, ...]
    """Private IPv4 addresses of all machines, by rank."""
    engine: str
    """One of `runctl.agent.engines.ENGINES`."""
    secret: str
    """Known to the machines of this attempt only: who does not know it is not listened to. Never in a command line,
    which every user of a machine can read; see `group_id`."""
    group_port: int
    """At which rank 0's agent hears the others."""
    engine_port: int
    """At which rank 0's engine, or script, hears the others."""
    least: int = 0
    """With so many machines the run may go on; 0: with all of them."""
    options: tuple[str, ...] = ()
    """More of the engine's own options."""
    join_seconds: float = 120.0
    """Within which every machine's agent must have been heard."""
    ready_seconds: float = 900.0
    """Within which a machine must be ready for the script once another one is."""
    silence_seconds: float = 15.0
    """After which a machine that was heard before is lost."""

    @property
    def count(self) -> int:
        """How many machines there are."""
        return len(self.addresses)

    @property
    def enough(self) -> int:
        """With fewer machines the run does not go on."""
        return self.least or self.count

    @property
    def address(self) -> str:
        """This machine's own."""
        return self.addresses[self.rank]

    @property
    def group_id(self) -> str:
        """The same on all machines of this attempt, and on no others. The secret cannot be found from it."""
        # Not at the top: every verb reads a run's request.
        import hashlib

        return hashlib.sha256(b"group id of " + self.secret.encode()).hexdigest()[:16]

    @property
    def head(self) -> str:
        """Rank 0's address."""
        return self.addresses[0]

    def without(self, gone: Collection[int]) -> NodeSpec:
        """This machine among those that are left, with ranks from 0 in the order that they had."""
        left = [rank for rank in range(self.count) if rank not in gone]
        return replace(
            self, rank=left.index(self.rank), addresses=tuple(self.addresses[rank] for rank in left)
        )

    @property
    def names(self) -> dict[str, str]:
        """Each machine's name and its address."""
        return {NODE_NAME.format(rank): address for rank, address in enumerate(self.addresses)}


def ports_of(run_id: str, attempt: int) -> tuple[int, int]:
    """For rank 0's agent and for the engine: two runs on the same machines seldom have the same. Pure."""
    # Not at the top: every verb reads a run's request.
    import zlib

    number = zlib.crc32(f"{run_id}/{attempt}".encode()) % (PORTS // 2)
    return FIRST_PORT + 2 * number, FIRST_PORT + 2 * number + 1


def wanted_nodes(engine: str, count: int, options: tuple[str, ...] = ()) -> NodeSpec:
    """What a run asks for whose machines are not known yet. Pure."""
    return NodeSpec(0, ("",) * count, engine, "", 0, 0, least=count, options=options)


@dataclass(frozen=True)
class NodeCause:
    """Why all machines of a run end: what happened on one of them."""

    rank: int
    reason: str
    """The `runctl.agent.end_reason.EndReason` that the machine's attempt has, or would have."""
    message: str
    at: float
    """When, in seconds since the epoch."""
    machine_ends_at: Optional[float] = None
    """When its provider takes that machine back."""
