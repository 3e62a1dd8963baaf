"""Watch a run to its end, across broken connections, and know the difference between "gone" and "not seen"."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from runctl._dataclasses import dataclass
from runctl.agent.spec import EndRecord, LogFrame
from runctl.core.clock import Clock
from runctl.core.errors import InstanceEnded, MachineError, RunctlError, Unreachable
from runctl.core.waiting import attempts
from runctl.machines.machine import Machine
from runctl.providers.ended import what_became_of
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import RunStore
from runctl.runs.records.updates import (
    end_of,
    end_with_its_machine,
    from_status,
    with_end,
    with_its_machine,
)
from runctl.runs.run_logs.archive import LogWriter
from runctl.runs.stored.lent_store import keys_renewed

_BYTES_A_LINE = 256

PATIENCE = timedelta(minutes=10)
"""How long a machine that the provider calls running may stay silent before a follower gives up."""

RECONNECT_AFTER = timedelta(seconds=10)
"""How long a machine is silent before a connection to it is given up for a new one."""

LAST_ANSWER = timedelta(seconds=15)
"""How long the provider is asked again when one of its services refuses a machine that another calls running."""


@dataclass(frozen=True)
class Followed:
    """How following ended."""

    record: RunRecord
    end: EndRecord | None
    """``None`` when the run goes on (without ``to_the_end``)."""
    offset: int
    """Where in the log the reader is now, in bytes."""
    machine_ended: bool = False
    """The provider says that the machine is no more."""
    intact: bool | None = None
    """Whether the log's bytes have the checksum of the end record; ``None`` where not all of them were read."""


def follow(
    record: RunRecord,
    machine: Machine,
    store: RunStore,
    *,
    clock: Clock,
    on_log: Callable[[bytes], None],
    offset: int = 0,
    to_the_end: bool = True,
    patience: timedelta = PATIENCE,
    keep: LogWriter | None = None,
) -> Followed:
    """Hand over the log from ``offset``, every byte once, until the run has ended (or up to now); ``keep`` keeps it.
    What the machine says is remembered in ``store``, unless it is one of several: the run's state is that of all.

    A connection that breaks is made again. When the machine stays silent the provider is asked: if it says that
    the instance has ended, so has the run (LOST, INTERRUPTED or UNSEEN), and that is recorded. Raises `Unreachable`
    when the machine is silent for longer than ``patience`` while the provider calls it running: the run may well go on.
    """
    position, checksum = offset, hashlib.sha256()

    def deliver(data: bytes) -> None:
        nonlocal position
        checksum.update(data)
        if keep is not None:
            keep.write(position, data)
        position += len(data)
        on_log(data)

    def ask_provider(silent_seconds: float) -> None:
        gone = what_became_of(machine.provider, machine.instance.id)
        if gone is not None:
            raise gone
        if silent_seconds >= RECONNECT_AFTER.total_seconds():
            machine.reconnect()

    try:
        with keys_renewed(machine, record.store if to_the_end else None):
            frame = machine.agent.logs(
                record.id,
                record.attempt,
                offset=position,
                follow=to_the_end,
                on_bytes=deliver,
                on_silence=ask_provider,
                patience=patience,
            )
    except InstanceEnded as gone:
        return _ended_with_its_machine(record, store, gone, clock, position)
    except RunctlError as error:
        became = _what_became_of(machine, clock, wait=not isinstance(error, MachineError | Unreachable))
        if became is not None:
            return _ended_with_its_machine(record, store, became, clock, position)
        if not isinstance(error, Unreachable):
            raise
        raise Unreachable(
            f"{record.instance_id} has been silent for {patience}; the run may well go on: {error.message}",
            hint=f"runctl runs logs {record.id} --follow follows it again",
        ) from error
    end = frame.end
    if end is not None and keep is not None:
        keep.end(end)
    whole = end is not None and offset == 0 and end.log_sha256 != ""
    intact = whole and end is not None and (position, checksum.hexdigest()) == (end.log_bytes, end.log_sha256)
    followed = _finish(record, machine, store, frame, position, clock)
    return replace(followed, intact=intact) if whole else followed


def _what_became_of(machine: Machine, clock: Clock, *, wait: bool) -> InstanceEnded | None:
    """The provider's word; with ``wait`` it has a moment to say it: who refuses us may know before who is asked."""
    for _ in attempts(clock, LAST_ANSWER if wait else timedelta(0), first=1.0):
        became = what_became_of(machine.provider, machine.instance.id)
        if became is not None:
            return became
    return None


def _ended_with_its_machine(
    record: RunRecord, store: RunStore, gone: InstanceEnded, clock: Clock, position: int
) -> Followed:
    now = clock.now()
    ended = with_its_machine(record, gone, now)
    if record.nodes is None and not store.replace(ended, record):
        # Whoever has had the run leave the machine, or stopped it, knew of the end before, from the machine itself.
        known = store.find(record.id)
        end = end_of(known, record.attempt) if known is not None else None
        if known is None:
            store.put(ended)
        elif end is not None:
            return Followed(known, end, position, machine_ended=True)
    end = end_of(ended, record.attempt) or end_with_its_machine(gone, now)
    return Followed(ended, end, position, machine_ended=True)


def _finish(
    record: RunRecord, machine: Machine, store: RunStore, frame: LogFrame, position: int, clock: Clock
) -> Followed:
    try:
        updated = from_status(record, machine.agent.status(record.id, record.attempt), clock.now())
    except (Unreachable, InstanceEnded):
        # The machine may be given back as soon as its end is known.
        updated = with_end(record, frame.end) if frame.end is not None else record
    if record.nodes is None:
        store.put_unless_followed(updated)
    return Followed(updated, frame.end, position)


def tail_offset(machine: Machine, record: RunRecord, lines: int) -> int:
    """Where the last ``lines`` lines of the log begin, in bytes."""
    size = machine.agent.status(record.id, record.attempt).log_bytes
    reach = max(lines * _BYTES_A_LINE, 1 << 14)
    while True:
        start = max(0, size - reach)
        piece = bytearray()
        machine.agent.logs(record.id, record.attempt, offset=start, follow=False, on_bytes=piece.extend)
        rows = bytes(piece).splitlines(keepends=True)
        if start == 0 or len(rows) > lines:
            kept = rows[len(rows) - lines :] if lines < len(rows) else rows
            return start + len(piece) - sum(len(row) for row in kept)
        reach *= 4
