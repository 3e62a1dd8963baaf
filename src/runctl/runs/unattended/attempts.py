"""The attempts of a run that nobody watched, as their machines have written them down in the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from runctl.agent.checkpoints.layout import ATTEMPTS, end_key
from runctl.agent.spec import AttemptStatus, EndReason, EndRecord
from runctl.agent.stored_run import StoredMachine, machine_key, status_key
from runctl.checkpoints.download import Prefix
from runctl.core.errors import InstanceEnded
from runctl.core.ids import InstanceId
from runctl.runs.elsewhere import following, read
from runctl.runs.records import RunRecord, end_with_its_machine, from_status, moment, with_end

READ_AT_ONCE = 6
Gone = Callable[[InstanceId], InstanceEnded | None]
"""The provider's word on a machine: how it ended; ``None``: it has not, or that is not known."""


@dataclass(frozen=True)
class StoredAttempt:
    """What the store has of one attempt."""

    number: int
    machine: StoredMachine | None = None
    status: AttemptStatus | None = None
    """When its machine wrote it last."""
    end: EndRecord | None = None


def attempts_in_store(at: Prefix, since: int) -> tuple[StoredAttempt, ...]:
    """Those from that number on, the first one first. Raises what the store raises."""
    names = [key.rpartition("/")[2] for key in at.storage.folders(at.bucket, at.key(ATTEMPTS))]
    numbers = sorted(int(name) for name in names if name.isdigit() and int(name) >= since)
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        return tuple(pool.map(lambda number: _read(at, number), numbers))


def _read(at: Prefix, number: int) -> StoredAttempt:
    # The end first: once that is there, the status is that of the whole attempt.
    end = read(at, end_key(number), EndRecord)
    return StoredAttempt(
        number,
        read(at, machine_key(number), StoredMachine),
        read(at, status_key(number), AttemptStatus),
        end,
    )


def told_by_store(record: RunRecord, attempts: Sequence[StoredAttempt], gone: Gone) -> RunRecord:
    """The record with every attempt that the store knows. Pure, but for asking the provider about machines that said
    nothing of their end."""
    for each in attempts:
        begun = each.machine is not None
        if each.number < record.attempt or not begun:
            continue
        if each.number > record.attempt or not record.instance_id:
            record = _next_attempt(record, each, gone)
        if each.status is not None and record.end_reason is None:
            written = moment(each.status.now) or record.created_at
            record = from_status(record, each.status, written)
        if each.end is not None and record.end_reason in {None, EndReason.LOST}:
            record = with_end(record, each.end)
    return record


def _next_attempt(record: RunRecord, stored: StoredAttempt, gone: Gone) -> RunRecord:
    """The record of an attempt that has begun, the one before in its past."""
    machine = stored.machine
    assert machine is not None  # noqa: S101 - the caller has looked
    began, first = datetime.fromtimestamp(machine.created_at, UTC), not record.instance_id
    ended = record if first or record.has_ended else _ended_unseen(record, began, gone)
    begun = following(ended, stored.number, machine)
    return replace(
        begun,
        past=record.past if first else begun.past,
        market=begun.market or record.market,
        price_per_hour=begun.price_per_hour or record.price_per_hour,
        fallback=None,
    )


def _ended_unseen(record: RunRecord, at: datetime, gone: Gone) -> RunRecord:
    """Of an attempt that another one has followed, and that has not told its end."""
    ended = gone(record.instance_id) or InstanceEnded(
        f"instance {record.instance_id} was gone without a word"
    )
    return with_end(record, end_with_its_machine(ended, at))
