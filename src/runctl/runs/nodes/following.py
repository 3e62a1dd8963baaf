"""The logs of a run's machines, followed at the same time; one log of all of them has the rank before each line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from runctl._dataclasses import dataclass
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import EndRecord
from runctl.core.clock import SystemClock
from runctl.core.errors import NotFound, RunctlError
from runctl.machines.session import Session
from runctl.providers.ended import what_became_of
from runctl.runs.nodes.asking import (
    ask_nodes,
    combined,
    end_of_gone,
    given_up,
    is_going_on,
    node_machine,
    nodes_of,
    on_node,
)
from runctl.runs.records.node_records import KnownNode
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.run_logs.archive import log_archive, missing
from runctl.runs.run_logs.follow import Followed, follow
from runctl.runs.run_logs.sources import read_stored_log

LONGEST_LINE = 1 << 16
"""What is longer is shown in pieces."""
LOST_SECONDS = 20.0
"""How long a machine that the others call lost is waited for when they have all ended."""
POLL_SECONDS = 0.2

OnLine = Callable[[int, int, bytes], None]
"""The rank, the place of the line in that machine's log, and the line with its end."""


def merged_line(rank: int, line: bytes) -> bytes:
    """A line of the one log of all machines. Pure."""
    return b"[%d] %b" % (rank, line)


class LineCutter:
    """Cuts one machine's bytes into whole lines."""

    def __init__(self, rank: int, on_line: OnLine, offset: int = 0) -> None:
        self._rank = rank
        self._on_line = on_line
        self._offset = offset
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Passes on what is whole; the rest waits for its end."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._pass_on(line + b"\n")
        if len(self._rest) >= LONGEST_LINE:
            self.finish()

    def finish(self) -> None:
        """What has no end is a line, too."""
        if self._rest:
            rest, self._rest = self._rest, b""
            self._pass_on(rest)

    def _pass_on(self, line: bytes) -> None:
        self._on_line(self._rank, self._offset, line)
        self._offset += len(line)


@dataclass(frozen=True)
class FollowedNodes:
    """How following ended."""

    record: RunRecord
    end: EndRecord | None
    """Of the run; ``None`` while it goes on."""
    damaged: tuple[int, ...] = ()
    """The machines whose log does not have the checksum that they wrote."""
    cut_short: tuple[int, ...] = ()
    """The machines that cannot be asked any more, and of whose log only a part, or nothing, was kept here."""


class _Follower(threading.Thread):
    """Follows one machine."""

    def __init__(
        self, session: Session, record: RunRecord, node: KnownNode, on_line: OnLine, to_the_end: bool
    ) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.followed: Followed | None = None
        self.error: BaseException | None = None
        self._session = session
        self._record = record
        self._cutter = LineCutter(node.rank, on_line)
        self._to_the_end = to_the_end

    def run(self) -> None:
        record, node = self._record, self.node
        keep = log_archive().writer(record.id, record.attempt, self._session.progress.warn, node.rank)
        try:
            self.followed = follow(
                on_node(record, node),
                node_machine(self._session, record, node),
                run_store(self._session),
                clock=SystemClock(),
                on_log=self._cutter.write,
                to_the_end=self._to_the_end,
                keep=keep,
            )
        except BaseException as error:  # noqa: BLE001 (it is raised where all are waited for)
            self.error = error
        finally:
            self._cutter.finish()
            if keep is not None:
                keep.close()


def follow_nodes(
    session: Session,
    record: RunRecord,
    on_line: OnLine,
    *,
    to_the_end: bool = True,
    ranks: Sequence[int] | None = None,
) -> FollowedNodes:
    """Every line of the machines' logs has been passed on, each machine's in order, until the run has ended (or up to
    now); ``ranks`` are those whose lines are wanted.

    A machine that has ended says no more; of one that can be reached no more, and that the others call lost, no end is
    waited for. Raises what the first machine raised that could not be followed otherwise.
    """
    nodes = nodes_of(record)
    turns = threading.Lock()

    def in_turn(rank: int, offset: int, line: bytes) -> None:
        if ranks is None or rank in ranks:
            with turns:
                on_line(rank, offset, line)

    followers = [_Follower(session, record, node, in_turn, to_the_end) for node in nodes.nodes]
    for each in followers:
        each.start()
    _wait(followers, lambda node: is_going_on(session, record, node))
    known = nodes
    for each in followers:
        end = _end_of(session, record, each, followers)
        if end is not None:
            known = known.with_node(each.node.ended(end))
    head = followers[0].followed
    if head is not None:
        record = replace(head.record, nodes=nodes)
    record = (
        combined(record, known, None, SystemClock().now()) if known.have_ended else ask_nodes(session, record)
    )
    run_store(session).put_unless_followed(record)
    damaged = tuple(
        each.node.rank for each in followers if each.followed is not None and each.followed.intact is False
    )
    final = known.end if known.have_ended else None
    return FollowedNodes(record, final, damaged)


def _wait(followers: Sequence[_Follower], goes_on: Callable[[KnownNode], bool]) -> None:
    """All have ended, but for those that the others call lost. Rank 0 is lost only if it does not go on: where one
    machine cannot reach another, each of them calls the other lost."""
    since: float | None = None
    while True:
        alive = [each for each in followers if each.is_alive()]
        if not alive:
            return
        told = [
            each.followed.end
            for each in followers
            if each.followed is not None and each.followed.end is not None
        ]
        if all(_called_lost(each.node.rank, told) for each in alive):
            since = since or time.monotonic()
            if time.monotonic() - since >= LOST_SECONDS:
                if not any(each.node.rank == 0 and goes_on(each.node) for each in alive):
                    return
                since = None
        else:
            since = None
        alive[0].join(POLL_SECONDS)


def _called_lost(rank: int, told: Sequence[EndRecord]) -> bool:
    """Whether another machine says that this one is lost, and nothing more is to be expected of it. Pure.

    One that ends by itself is the others' cause, too, but goes on until it has saved.
    """
    return any(rank in end.gone or (end.caused_by == rank and end.cause is EndReason.LOST) for end in told)


def _end_of(
    session: Session, record: RunRecord, follower: _Follower, followers: Sequence[_Follower]
) -> EndRecord | None:
    """How it ended on one machine; ``None`` where it goes on."""
    followed = follower.followed
    if followed is not None and not followed.machine_ended:
        return followed.end
    now, node = record.by_its_clock(SystemClock().now()), follower.node
    provider = session.in_region(record.region).provider(record.provider)
    gone = what_became_of(provider, node.instance_id, record.account)
    if gone is not None:
        return end_of_gone(session, record, node, gone)
    if followed is not None:
        return followed.end
    said = [
        each.followed.end for each in followers if each.followed is not None and each.followed.end is not None
    ]
    heard = next((end for end in said if end.caused_by == node.rank), None)
    if heard is not None:
        return EndRecord(heard.cause or EndReason.LOST, now.timestamp(), message=heard.message)
    if _called_lost(node.rank, said):
        return given_up(now.timestamp())
    if follower.error is not None:
        raise follower.error
    return None


def kept_lines(record: RunRecord, on_line: OnLine, *, ranks: Sequence[int] | None = None) -> bool:
    """What was followed here before is passed on, machine after machine; false where nothing was."""
    archive, found = log_archive(), False
    for node in nodes_of(record).nodes:
        if ranks is not None and node.rank not in ranks:
            continue
        cutter = LineCutter(node.rank, on_line)
        for _, data in archive.read(record.id, record.attempt, rank=node.rank):
            found = True
            cutter.write(data)
        cutter.finish()
    return found


def lines_of(
    session: Session,
    record: RunRecord,
    on_line: OnLine,
    *,
    to_the_end: bool = True,
    ranks: Sequence[int] | None = None,
) -> FollowedNodes:
    """As `follow_nodes`; what cannot be asked for any more comes from what was kept here, machine after machine.

    Raises what `follow_nodes` raises where the run goes on, or nothing of its log is here.
    """
    wanted = [node.rank for node in nodes_of(record).nodes if ranks is None or node.rank in ranks]
    if record.has_ended and not _not_kept(record, wanted):
        kept_lines(record, on_line, ranks=wanted)
        return FollowedNodes(record, nodes_of(record).end)
    passed_on: set[int] = set()

    def take(rank: int, offset: int, line: bytes) -> None:
        passed_on.add(rank)
        on_line(rank, offset, line)

    failure: RunctlError | None = None
    try:
        followed = follow_nodes(session, record, take, to_the_end=to_the_end, ranks=wanted)
    except RunctlError as error:
        if not record.has_ended:
            raise
        failure, followed = error, FollowedNodes(record, nodes_of(record).end)
    silent = [rank for rank in wanted if rank not in passed_on] if followed.record.has_ended else []
    _read_stored(session, followed.record, _not_kept(followed.record, silent))
    if not kept_lines(record, on_line, ranks=silent) and failure is not None and not passed_on:
        raise failure
    return replace(followed, cut_short=tuple(_not_kept(followed.record, silent)))


def _read_stored(session: Session, record: RunRecord, ranks: Sequence[int]) -> None:
    """What machines that cannot be asked any more have put into the run's store is here."""
    for rank in ranks:
        with suppress(RunctlError):
            provider = session.in_region(record.region).provider(record.provider)
            read_stored_log(record, log_archive(), provider, session.progress, rank)


def _not_kept(record: RunRecord, ranks: Sequence[int]) -> list[int]:
    """Those of the machines whose log is not here as long as their end record says that it is."""
    archive, ends = log_archive(), nodes_of(record).ends
    return [
        rank
        for rank in ranks
        if rank not in ends
        or missing(archive.spans(record.id, record.attempt, rank), ends[rank].log_bytes)
        or (ends[rank].log_bytes == 0 and not archive.spans(record.id, record.attempt, rank))
    ]


def follow_merged(
    session: Session, record: RunRecord, on_log: Callable[[bytes], None], *, to_the_end: bool
) -> RunRecord:
    """The one log of all machines has been passed on, as it was kept here or as they give it; what is known then."""

    def take(rank: int, _: int, line: bytes) -> None:
        on_log(merged_line(rank, line if line.endswith(b"\n") else line + b"\n"))

    return lines_of(session, record, take, to_the_end=to_the_end).record


def check_rank(record: RunRecord, rank: int) -> None:
    """Raises `NotFound` where the run has no such machine."""
    nodes = nodes_of(record).nodes
    if not 0 <= rank < len(nodes):
        raise NotFound(
            f"{record.id} has no node {rank}",
            hint=f"its nodes are 0 to {len(nodes) - 1}",
            code="no-such-node",
        )
