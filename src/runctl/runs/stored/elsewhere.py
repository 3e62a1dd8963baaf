"""What other computers, and machines that nobody watches, have done for a run: read at its prefix in the store."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import PurePosixPath
from typing import TypeVar

from runctl._dataclasses import dataclass
from runctl.agent import stored_run
from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.checkpoints.layout import decode, end_key, manifest_prefix, newest_first
from runctl.agent.encoding import from_json, loads
from runctl.agent.end_reason import MACHINE_GONE, RETRIED, EndReason
from runctl.agent.object_store import is_address
from runctl.agent.spec import AttemptStatus, EndRecord
from runctl.agent.stored_run import StoredMachine, StoredNodes
from runctl.checkpoints.download import Prefix
from runctl.core.errors import NotFound, RunctlError
from runctl.core.ids import InstanceId
from runctl.core.run_models import RunPhase
from runctl.machines.session import Session
from runctl.providers.ended import what_became_of
from runctl.runs.records.node_records import KnownNodes
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import (
    Gone,
    before_it_began,
    end_unseen,
    from_status,
    newest_checkpoint,
    with_end,
)
from runctl.runs.stored.leases import end_lease, peek
from runctl.runs.stored.recipe import Recipe, Recipes
from runctl.runs.stored.stored_run import forget_secrets, known_nodes, prefix_of

T = TypeVar("T")
THREADS = 8


@dataclass(frozen=True)
class StoredAttempt:
    """What the store has of one attempt."""

    number: int
    machine: StoredMachine | None = None
    status: AttemptStatus | None = None
    """When its machine wrote it last."""
    end: EndRecord | None = None
    nodes: KnownNodes | None = None
    """Its machines, with the ends that they have written; ``machine``, ``status`` and ``end`` are rank 0's then."""
    newest: CheckpointStatus | None = None
    """Of one whose machine has not told its end: what it published last, which its status may not have yet. Its path
    is from the checkpoint folder."""


def attempts_in_store(at: Prefix, first: int, last: int) -> tuple[StoredAttempt, ...]:
    """Those with these numbers, the first one first. Raises what the store raises."""
    with ThreadPoolExecutor(THREADS) as pool:
        return tuple(pool.map(lambda number: read_attempt(at, number), range(first, last + 1)))


def read_attempt(at: Prefix, number: int) -> StoredAttempt:
    """What the store has of it. Raises what the store raises."""
    # The end first: once that is there, the status is that of the whole attempt.
    end = read(at, end_key(number), EndRecord)
    return StoredAttempt(
        number,
        read(at, stored_run.machine_key(number), StoredMachine),
        read(at, stored_run.status_key(number), AttemptStatus),
        end,
        _nodes(at, number, end),
    )


def _nodes(at: Prefix, number: int, head: EndRecord | None) -> KnownNodes | None:
    stored = read(at, stored_run.nodes_key(number), StoredNodes)
    if stored is None:
        return None
    known = known_nodes(stored)
    for node in known.nodes:
        end = read(at, end_key(number, node.rank), EndRecord) if node.rank else head
        if end is not None:
            known = known.with_node(node.ended(end))
    return known


def with_newest(at: Prefix, stored: StoredAttempt) -> StoredAttempt:
    """With what an attempt published last that nobody can ask any more. Raises what the store raises."""
    return stored if stored.end is not None else replace(stored, newest=_newest_published(at, stored.number))


def _newest_published(at: Prefix, attempt: int) -> CheckpointStatus | None:
    start = len(at.key(""))
    found = {
        each.key[start:]: each for each in at.storage.objects(at.bucket, at.key(manifest_prefix(attempt)))
    }
    for key in newest_first(found):
        with suppress(ValueError, TypeError, NotFound):
            manifest = decode(at.storage.read(at.bucket, at.key(key)))
            published = found[key].modified_at.timestamp()
            return CheckpointStatus(manifest.name, manifest.created_at, manifest.step, published)
    return None


def told_by_store(record: RunRecord, attempts: Sequence[StoredAttempt], gone: Gone) -> RunRecord:
    """The record with every attempt that the store knows. Pure, but for asking the provider about machines that said
    nothing of their end."""
    for each in attempts:
        # Without a machine, whoever was given the number has not come to renting.
        if each.number > record.attempt or not record.instance_id:
            if each.machine is None or each.number < record.attempt:
                continue
            record = replace(_next_attempt(record, each.number, each.machine, gone), nodes=each.nodes)
        if each.number == record.attempt:
            record = with_stored(record, each)
    return record


def with_stored(record: RunRecord, stored: StoredAttempt) -> RunRecord:
    """The record with what its attempt's machine has put into the store, where that is more than is known. Pure."""
    status = stored.status
    if record.nodes is None and stored.nodes is not None:
        record = replace(record, nodes=stored.nodes)
    if status is not None:
        told = from_status(record, replace(status, now=None, end=None), record.created_at)
        newest = _newer(record.checkpoint, status.checkpoint)
        if told.has_ended and record.nodes is not None and not record.has_ended:
            # Rank 0 has: how the run goes on is decided with what the others say.
            told = replace(told, state=RunPhase.RUNNING)
        if record.has_ended:
            # Nobody has asked the machine after it wrote this.
            told = replace(told, state=record.state, log_bytes=record.log_bytes, log_sha256=record.log_sha256)
        record = replace(told, checkpoint=newest)
    if stored.newest is not None:
        folder = PurePosixPath(record.checkpoint_dir or "")
        published = replace(stored.newest, path=str(folder / stored.newest.path))
        record = replace(record, checkpoint=_newer(record.checkpoint, published))
    if record.nodes is not None:
        return _with_nodes(record, stored.nodes)
    end = stored.end or (status.end if status is not None else None)
    if end is not None and record.end_reason in {None, *RETRIED}:
        record = with_end(record, end)
    return record


def _with_nodes(record: RunRecord, stored: KnownNodes | None) -> RunRecord:
    """The record with what its machines have written of their ends, which counts more than what their provider says."""
    if record.nodes is None or stored is None:
        return record
    nodes = record.nodes
    for node in stored.nodes:
        known = nodes.at(node.rank)
        if node.end is not None and known is not None and (known.end is None or known.end.log_sha256 == ""):
            nodes = nodes.with_node(known.ended(node.end))
    record = replace(record, nodes=nodes)
    if nodes.have_ended and record.end_reason in {None, *RETRIED}:
        record = with_end(record, nodes.end)
    return record


def _newer(known: CheckpointStatus | None, told: CheckpointStatus | None) -> CheckpointStatus | None:
    if known is not None and told is not None and known.path and (known.saved_at or 0) > (told.saved_at or 0):
        return known
    return newest_checkpoint(known, told)


def _next_attempt(record: RunRecord, number: int, machine: StoredMachine, gone: Gone) -> RunRecord:
    """The record of an attempt that has begun, the one before in its past."""
    began, is_first = datetime.fromtimestamp(machine.created_at, UTC), not record.instance_id
    if not is_first and not record.has_ended:
        record = _ended_unseen(record, began, gone)
    begun = before_it_began(record, number)
    return replace(
        begun,
        instance_id=InstanceId(machine.instance_id),
        instance_type=machine.instance_type or None,
        market=machine.market or record.market,
        zone=machine.zone or None,
        price_per_hour=price_of(machine) or record.price_per_hour,
        fallback=None,
        created_at=began,
        past=record.past if is_first else begun.past,
    )


def _ended_unseen(record: RunRecord, at: datetime, gone: Gone) -> RunRecord:
    """Of an attempt that another one has followed, and that has not told its end."""
    nodes = record.nodes
    if nodes is not None:
        for node in nodes.nodes:
            if node.end is None:
                nodes = nodes.with_node(node.ended(end_unseen(record, node.instance_id, at, gone)))
        return with_end(replace(record, nodes=nodes), nodes.end)
    return with_end(record, end_unseen(record, record.instance_id, at, gone))


def catch_up(session: Session, record: RunRecord, recipe: Recipe | None = None) -> RunRecord:
    """What is remembered of the run is what its prefix in the store says, where that is more. Raises what the store
    raises."""
    recipe = recipe or Recipes(session.database).find(record.id)
    at = prefix_of(session, recipe) if recipe is not None else None
    if at is None:
        return record
    last = last_attempt(at)
    if last <= record.attempt and not _ended_in_silence(record):
        return record
    provider = session.in_region(record.region).provider(record.provider)
    first, *later = attempts_in_store(at, record.attempt, max(last, record.attempt))
    # Another attempt says what it went on from.
    attempts = (first, *later) if later else (with_newest(at, first),)
    told = told_by_store(record, attempts, lambda machine: what_became_of(provider, machine, record.account))
    store = run_store(session)
    return told if told == record or store.replace(told, record) else store.get(record.id)


def last_attempt(at: Prefix) -> int:
    """The last number that was given to an attempt; 0: none was. Raises what the store raises."""
    lease = peek(at).lease
    return lease.attempt if lease is not None else 0


def _ended_in_silence(record: RunRecord) -> bool:
    """Whether only the provider has told the end: how far its machine was lies in the store alone. Pure."""
    return record.end_reason in MACHINE_GONE and record.hand_off is None


def seen_elsewhere(session: Session, records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records, those of interrupted runs with what followed on other computers' machines.

    A store that cannot be read now changes nothing.
    """
    waiting = {
        record.id
        for record in records
        if record.store is not None and is_address(record.store) and record.end_reason in RETRIED
    }
    if not waiting:
        return list(records)

    def asked(record: RunRecord) -> RunRecord:
        with suppress(RunctlError):
            return catch_up(session, record)
        return record

    with ThreadPoolExecutor(min(THREADS, len(waiting))) as pool:
        looking = {record.id: pool.submit(asked, record) for record in records if record.id in waiting}
        return [looking[record.id].result() if record.id in looking else record for record in records]


def end_elsewhere(session: Session, record: RunRecord, recipe: Recipe | None) -> str:
    """No other computer and no machine starts an attempt of a run that was stopped here; in words, why one may."""
    try:
        at = prefix_of(session, recipe) if recipe is not None else None
        if at is None or recipe is None:
            return ""
        if end_lease(at, record.id, EndReason.STOPPED.value):
            forget_secrets(at)
            return ""
        lease = peek(at).lease
        holder = lease.holder if lease is not None else ""
    except RunctlError as error:
        return f"its store cannot be told: {error.message}"
    return f"{holder or 'another computer'} may be starting its next attempt"


def price_of(machine: StoredMachine) -> Decimal | None:
    """USD an hour. Pure."""
    with suppress(InvalidOperation):
        return Decimal(machine.price_per_hour)
    return None


def read(at: Prefix, key: str, kind: type[T]) -> T | None:
    """What is there; ``None`` where nothing is, or nothing that can be read. Raises what the store raises."""
    with suppress(ValueError, TypeError):
        try:
            return from_json(kind, loads(at.storage.read(at.bucket, at.key(key))))
        except NotFound:
            return None
    return None
