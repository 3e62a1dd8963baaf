"""What is remembered of the machines of a run that has several, and how the run ended by what each says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from runctl._dataclasses import dataclass
from runctl.agent.end_reason import REQUESTED, RETRIED, EndReason
from runctl.agent.spec import EndRecord
from runctl.core.ids import InstanceId
from runctl.core.run_models import RunNode, RunPhase


@dataclass(frozen=True)
class KnownNode:
    """One of a run's machines."""

    rank: int
    instance_id: InstanceId
    address: str
    name: str | None = None
    """What the instance is called."""
    state: RunPhase = RunPhase.PENDING
    started_at: datetime | None = None
    end: EndRecord | None = None

    def ended(self, end: EndRecord) -> KnownNode:
        """That it ended so."""
        return replace(self, state=RunPhase.ENDED, end=end)

    def as_run_node(self) -> RunNode:
        """As the JSON contract shows it."""
        end = self.end
        return RunNode(
            rank=self.rank,
            instance_id=self.instance_id,
            address=self.address,
            state=self.state,
            started_at=self.started_at,
            ended_at=None if end is None else datetime.fromtimestamp(end.ended_at, UTC),
            end_reason=None if end is None else end.reason.value,
            exit_code=None if end is None else end.exit_code,
            caused_by=None if end is None else end.caused_by,
            message="" if end is None else end.message,
        )


@dataclass(frozen=True)
class KnownNodes:
    """All of them, and what makes one run of them."""

    engine: str
    token: str
    """Of the intent by which they were rented."""
    least: int
    """With so many the run may go on."""
    nodes: tuple[KnownNode, ...]
    """By rank."""

    def at(self, rank: int) -> KnownNode | None:
        """That one; ``None``: there is none."""
        return next((node for node in self.nodes if node.rank == rank), None)

    def with_node(self, node: KnownNode) -> KnownNodes:
        """With what is known now of one of them."""
        return replace(self, nodes=tuple(node if each.rank == node.rank else each for each in self.nodes))

    @property
    def machines(self) -> tuple[InstanceId, ...]:
        """Their ids, by rank."""
        return tuple(node.instance_id for node in self.nodes)

    @property
    def ends(self) -> Mapping[int, EndRecord]:
        """How those have ended that have."""
        return {node.rank: node.end for node in self.nodes if node.end is not None}

    @property
    def have_ended(self) -> bool:
        """All have."""
        return len(self.ends) == len(self.nodes)

    @property
    def taken_back(self) -> tuple[InstanceId, ...]:
        """The machines that the provider has taken back: not those that ended because of one."""
        return tuple(
            node.instance_id
            for node in self.nodes
            if node.end is not None
            and node.end.reason is EndReason.INTERRUPTED
            and node.end.caused_by is None
            and not (node.end.hand_off is not None and node.end.hand_off.is_rehearsal)
        )

    @property
    def end(self) -> EndRecord:
        """How the run ended; all of them have."""
        return decide_run_end(self.ends, self.least)


def counted(ends: Mapping[int, EndRecord]) -> Mapping[int, EndRecord]:
    """The ends that say how the run ended: not those of machines without which it has gone on. Pure.

    A machine that could not reach rank 0 any more says that rank 0 was lost. Where rank 0 says why it ended, that
    counts; where rank 0 has completed, that machine was lost.
    """
    gone = {rank for end in ends.values() for rank in end.gone}
    kept = {rank: end for rank, end in ends.items() if rank == 0 or rank not in gone}
    head = ends.get(0)
    if head is None or (head.caused_by is None and head.reason in RETRIED):
        return kept or ends
    cut_off = {
        rank for rank, end in kept.items() if rank != 0 and end.caused_by == 0 and end.cause is EndReason.LOST
    }
    if head.reason is EndReason.COMPLETED:
        return {rank: _lost(end) if rank in cut_off else end for rank, end in kept.items()}
    return {rank: end for rank, end in kept.items() if rank not in cut_off}


def _lost(end: EndRecord) -> EndRecord:
    message = "it could not reach node 0 any longer"
    return replace(end, reason=EndReason.LOST, caused_by=None, cause=None, message=message)


def first_cause(ends: Mapping[int, EndRecord], least: int) -> int | None:
    """The machine whose end was that of the run; ``None``: the script has completed.

    What rank 0 has told the others counts: it has heard all of them, and does not take for the cause what a lost
    machine has brought about. Where it has told nothing, or a machine's script failed even before that, the earliest
    counts.
    """
    ends = counted(ends)
    by_itself = {
        rank: end
        for rank, end in ends.items()
        if end.caused_by is None and end.reason is not EndReason.COMPLETED
    }
    told = Counter(end.caused_by for end in ends.values() if end.caused_by is not None)
    if not told:
        completed = sum(end.reason is EndReason.COMPLETED for end in ends.values())
        survived = all(end.run_reason in RETRIED for end in by_itself.values()) and 0 not in by_itself
        if not by_itself or (survived and completed >= least):
            return None
        return min(by_itself, key=lambda rank: (_when(by_itself[rank]), rank))
    most = max(told.values())
    root = min(rank for rank, count in told.items() if count == most)
    if root not in by_itself or by_itself[root].script_ended_at is None:
        return root
    earlier = {
        rank: end
        for rank, end in by_itself.items()
        if end.script_ended_at is not None and end.reason not in RETRIED
    }
    return min((*earlier, root), key=lambda rank: (_when(by_itself[rank]), rank))


def decide_run_end(ends: Mapping[int, EndRecord], least: int) -> EndRecord:
    """How a run ended, by how it ended on each of its machines (by rank). Raises `ValueError` where there is none."""
    if not ends:
        raise ValueError("no machine's end is known")
    head = ends.get(0) or ends[min(ends)]
    last, several = max(end.ended_at for end in ends.values()), len(ends) > 1
    rank = first_cause(ends, least)
    if rank is None:
        done = next(end for end in ends.values() if end.reason is EndReason.COMPLETED)
        return replace(
            head, reason=EndReason.COMPLETED, exit_code=done.exit_code, signal=None, message="", ended_at=last
        )
    ends = counted(ends)
    cause = ends.get(rank)
    said = next((end.message for end in ends.values() if end.caused_by == rank), "it no longer reported")
    heard = next((end.cause for end in ends.values() if end.caused_by == rank and end.cause), None)
    # Its machine may be gone before it could write that down.
    unwritten = cause is not None and cause.reason in RETRIED and heard not in {None, *RETRIED}
    if cause is None or cause.caused_by is not None or cause.reason is EndReason.COMPLETED or unwritten:
        # It does not say so itself: it no longer reported, or could not hear the others.
        cause = EndRecord(heard or EndReason.LOST, last, message=said)
    message = cause.message if cause.message.startswith("node ") else f"node {rank}: {cause.message}"
    # Whichever machine was asked first: rank 0 has the script whose results are the run's.
    ended = head if cause.reason in REQUESTED else cause
    return replace(
        head,
        reason=cause.reason,
        exit_code=ended.exit_code,
        signal=ended.signal,
        message=message if several else cause.message,
        ended_at=last,
        caused_by=rank,
    )


def _when(end: EndRecord) -> float:
    return end.script_ended_at or end.ended_at
