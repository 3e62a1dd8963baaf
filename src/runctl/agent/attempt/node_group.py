"""What rank 0 knows of the machines of a run, and whether one of them ends all: pure, with the time as an argument.

Every machine reports about twice a second. The first cause counts, not the last noise: where a machine fails because
another one is gone, that other one is what the run ended of. So a failure is not judged while another machine is
silent.
"""

from __future__ import annotations

import enum
from dataclasses import field, replace
from typing import Optional

from runctl._dataclasses import dataclass
from runctl.agent.end_reason import MACHINE_GONE, EndReason
from runctl.agent.node_spec import NodeCause, NodeSpec

BEAT_SECONDS = 0.5
"""Between two reports of a machine."""
LATE_SECONDS = 3 * BEAT_SECONDS
"""A machine that was not heard for so long may be gone: a failure elsewhere may be its doing."""
SETTLE_SECONDS = LATE_SECONDS + BEAT_SECONDS
"""Between the first failure and the judgement: what failed before it may be reported after it, and who was gone before
it is late by then."""


class WhenLost(enum.Enum):
    """What the machines that are left do when one is gone, where they are enough."""

    ALL_END = "all end"
    GO_ON = "go on"
    """The script goes on, and sees fewer machines."""
    RESTART = "begin again"
    """The script is ended on all of them, and begins again in the next round from what has been saved."""


class NodeState(str, enum.Enum):
    """Where a machine is."""

    PREPARING = "preparing"
    READY = "ready"
    """Everything but the script is there: it waits for the others."""
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class Report:
    """What a machine says of itself."""

    rank: int
    state: NodeState
    phase: str = ""
    cause: Optional[NodeCause] = None
    """It ends, or has ended, by itself: not because another machine does."""
    round: int = 0
    """How often its script has begun again."""


@dataclass(frozen=True)
class Known:
    """The last of a machine's reports, and when it came, on the monotonic clock."""

    report: Report
    heard_at: Optional[float] = None
    """``None``: never."""
    heard_epoch: float = 0.0
    ready_at: Optional[float] = None
    """In the round of the report."""


@dataclass
class NodeGroup:
    """All machines, as rank 0 hears of them."""

    node: NodeSpec
    began_at: float
    """When rank 0 began to listen, on the monotonic clock."""
    when_lost: WhenLost = WhenLost.GO_ON
    known: dict[int, Known] = field(default_factory=dict)
    cause: Optional[NodeCause] = None
    """Why all end; decided once."""
    started: bool = False
    """All were ready: the script has been started everywhere, in this round."""
    gone: dict[int, NodeCause] = field(default_factory=dict)
    """Machines that are gone, and without which the run goes on."""
    round: int = 0
    """How often the script begins again, for machines that are gone."""
    resumes: Optional[str] = None
    """The checkpoint from which all begin again in this round; ``None``: it is not settled yet."""

    def hear(self, report: Report, now: float, epoch: float) -> None:
        """A machine has reported."""
        before = self.known.get(report.rank)
        if before is not None and before.report.round != report.round:
            before = None
        ready_at = before.ready_at if before is not None else None
        if ready_at is None and report.state is not NodeState.PREPARING:
            ready_at = now
        if report.cause is None and before is not None and before.report.cause is not None:
            report = replace(report, cause=before.report.cause)
        self.known[report.rank] = Known(report, now, epoch, ready_at)

    def state(self, rank: int) -> NodeState:
        """Of one machine in this round, as far as it was heard."""
        known = self.known.get(rank)
        if known is None or (known.report.round < self.round and known.report.state is not NodeState.ENDED):
            return NodeState.PREPARING
        return known.report.state

    def waiting_for(self) -> tuple[int, ...]:
        """Those that are not ready yet."""
        return tuple(
            rank
            for rank in range(self.node.count)
            if rank not in self.gone and self.state(rank) is NodeState.PREPARING
        )

    def going(self) -> tuple[int, ...]:
        """Those that have not ended."""
        return tuple(
            rank
            for rank in range(self.node.count)
            if rank not in self.gone and self.state(rank) is not NodeState.ENDED
        )

    def judge(self, now: float, epoch: float) -> None:
        """Decide whether all can start, and whether all must end."""
        if self.cause is None:
            self.cause = self._cause(now, epoch)
        if not self.started and self.cause is None and not self.waiting_for():
            self.started = True

    def _cause(self, now: float, epoch: float) -> NodeCause | None:
        lost = self._lost(now, epoch)
        found = {rank: lost.get(rank) or self._told(rank) for rank in range(self.node.count)}
        for rank, cause in found.items():
            if cause is not None and rank not in self.gone and self._goes_on_without(cause):
                self.gone[rank] = cause
                if self.when_lost is WhenLost.RESTART:
                    self.round, self.started, self.resumes = self.round + 1, False, None
        candidates = [
            cause
            for rank, cause in found.items()
            if cause is not None and rank not in self.gone and not self._is_over(cause)
        ]
        if not candidates:
            return None
        first = min(candidates, key=lambda cause: (cause.at, cause.rank))
        if not lost and self._may_be_noise(first, now, epoch):
            return None
        return first

    def _told(self, rank: int) -> NodeCause | None:
        known = self.known.get(rank)
        return None if known is None else known.report.cause

    def _is_over(self, cause: NodeCause) -> bool:
        """The script has failed in a round before, whose machines it had lost."""
        known = self.known.get(cause.rank)
        in_this_round = known is None or known.report.round == self.round
        return cause.reason == EndReason.FAILED.value and not in_this_round

    def _may_be_noise(self, cause: NodeCause, now: float, epoch: float) -> bool:
        """What caused it may be about to be heard of."""
        if cause.reason != EndReason.FAILED.value:
            return False
        if epoch < cause.at + SETTLE_SECONDS:
            return True
        return any(
            now - known.heard_at > LATE_SECONDS
            for rank, known in self.known.items()
            if rank != cause.rank
            and rank not in self.gone
            and known.heard_at is not None
            and known.report.state is not NodeState.ENDED
        )

    def _goes_on_without(self, cause: NodeCause) -> bool:
        """Whether enough machines are left where this one is gone; rank 0 has the meeting point."""
        if cause.rank == 0 or not _is_loss(cause):
            return False
        if self.when_lost is WhenLost.ALL_END or not (self.started or self.round):
            return False
        if self.when_lost is WhenLost.RESTART and self._somebody_has_finished(cause.rank):
            return False
        return self.node.count - len(self.gone) - 1 >= self.node.enough

    def _somebody_has_finished(self, but: int) -> bool:
        """A machine whose script has ended cannot begin again with the others, unless that one is lost as well."""
        return any(
            self.state(rank) is NodeState.ENDED and not _is_loss(self._told(rank))
            for rank in range(self.node.count)
            if rank != but and rank not in self.gone
        )

    def _lost(self, now: float, epoch: float) -> dict[int, NodeCause]:
        found = {}
        ready = [
            known.ready_at
            for known in self.known.values()
            if known.ready_at is not None and known.report.round == self.round
        ]
        first_ready = min(ready, default=None)
        for rank in range(self.node.count):
            known = self.known.get(rank)
            if rank in self.gone or (known is not None and known.report.state is NodeState.ENDED):
                continue
            if known is None or known.heard_at is None:
                waited = now - self.began_at
                if rank != self.node.rank and waited >= self.node.join_seconds:
                    found[rank] = self._loss(rank, epoch - waited, f"did not report within {waited:.0f} s")
            elif rank != self.node.rank and now - known.heard_at >= self.node.silence_seconds:
                # Whoever judges may have stood still itself, but is not silent.
                silent = now - known.heard_at
                found[rank] = self._loss(rank, known.heard_epoch, f"has been silent for {silent:.0f} s")
            elif first_ready is not None and self.state(rank) is NodeState.PREPARING:
                waited = now - first_ready
                if waited >= self.node.ready_seconds:
                    doing = f": {known.report.phase}" if known.report.phase else ""
                    found[rank] = self._loss(
                        rank, epoch - waited, f"is not ready {waited:.0f} s after another node{doing}"
                    )
        return found

    def _loss(self, rank: int, at: float, what: str) -> NodeCause:
        return NodeCause(rank, EndReason.LOST.value, f"node {rank} ({self.node.addresses[rank]}) {what}", at)


def _is_loss(cause: NodeCause | None) -> bool:
    return cause is not None and EndReason(cause.reason) in MACHINE_GONE
