"""What rank 0 knows of the machines of a run, and whether one of them ends all: pure, with the time as an argument.

Every machine reports about twice a second. The first cause counts, not the last noise: where a machine fails because
another one is gone, that other one is what the run ended of. So a failure is not judged while another machine is
silent.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import Optional

from runctl.agent.node_spec import NodeCause, NodeSpec
from runctl.agent.spec import EndReason

BEAT_SECONDS = 0.5
"""Between two reports of a machine."""
LATE_SECONDS = 3 * BEAT_SECONDS
"""A machine that was not heard for so long may be gone: a failure elsewhere may be its doing."""
SETTLE_SECONDS = LATE_SECONDS + BEAT_SECONDS
"""Between the first failure and the judgement: what failed before it may be reported after it, and who was gone before
it is late by then."""


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


@dataclass(frozen=True)
class Known:
    """The last of a machine's reports, and when it came, on the monotonic clock."""

    report: Report
    heard_at: Optional[float] = None
    """``None``: never."""
    heard_epoch: float = 0.0
    ready_at: Optional[float] = None


@dataclass
class NodeGroup:
    """All machines, as rank 0 hears of them."""

    node: NodeSpec
    began_at: float
    """When rank 0 began to listen, on the monotonic clock."""
    known: dict[int, Known] = field(default_factory=dict)
    cause: Optional[NodeCause] = None
    """Why all end; decided once."""
    started: bool = False
    """All were ready: the script has been started everywhere."""
    gone: dict[int, NodeCause] = field(default_factory=dict)
    """Machines that are gone, and without which the run goes on."""

    def hear(self, report: Report, now: float, epoch: float) -> None:
        """A machine has reported."""
        before = self.known.get(report.rank)
        ready_at = before.ready_at if before is not None else None
        if ready_at is None and report.state is not NodeState.PREPARING:
            ready_at = now
        if report.cause is None and before is not None and before.report.cause is not None:
            report = replace(report, cause=before.report.cause)
        self.known[report.rank] = Known(report, now, epoch, ready_at)

    def state(self, rank: int) -> NodeState:
        """Of one machine, as far as it was heard."""
        known = self.known.get(rank)
        return NodeState.PREPARING if known is None else known.report.state

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
        candidates = []
        for rank in range(self.node.count):
            if rank in self.gone:
                continue
            known = self.known.get(rank)
            cause = lost.get(rank) or (known.report.cause if known is not None else None)
            if cause is None:
                continue
            if self._goes_on_without(cause):
                self.gone[rank] = cause
            else:
                candidates.append(cause)
        if not candidates:
            return None
        first = min(candidates, key=lambda cause: (cause.at, cause.rank))
        if not lost and self._may_be_noise(first, now, epoch):
            return None
        return first

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
        if cause.rank == 0 or cause.reason not in (EndReason.LOST.value, EndReason.INTERRUPTED.value):
            return False
        return self.started and self.node.count - len(self.gone) - 1 >= self.node.enough

    def _lost(self, now: float, epoch: float) -> dict[int, NodeCause]:
        found = {}
        ready = [known.ready_at for known in self.known.values() if known.ready_at is not None]
        first_ready = min(ready, default=None)
        for rank in range(self.node.count):
            known = self.known.get(rank)
            if rank in self.gone or (known is not None and known.report.state is NodeState.ENDED):
                continue
            if known is None or known.heard_at is None:
                waited = now - self.began_at
                if waited >= self.node.join_seconds:
                    found[rank] = self._loss(rank, epoch - waited, f"was not heard of within {waited:.0f} s")
            elif now - known.heard_at >= self.node.silence_seconds:
                silent = now - known.heard_at
                found[rank] = self._loss(rank, known.heard_epoch, f"has been silent for {silent:.0f} s")
            elif known.ready_at is None and first_ready is not None:
                waited = now - first_ready
                if waited >= self.node.ready_seconds:
                    doing = f": {known.report.phase}" if known.report.phase else ""
                    found[rank] = self._loss(
                        rank, epoch - waited, f"is not ready {waited:.0f} s after another node{doing}"
                    )
        return found

    def _loss(self, rank: int, at: float, what: str) -> NodeCause:
        return NodeCause(rank, EndReason.LOST.value, f"node {rank} ({self.node.addresses[rank]}) {what}", at)
