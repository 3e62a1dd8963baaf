"""What other computers, and machines that nobody watches, have done for a run: read at its prefix in the store."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from runctl.agent import stored_run
from runctl.agent.checkpoints.layout import end_key
from runctl.agent.encoding import dumps, from_json, loads
from runctl.agent.spec import RETRIED, AttemptStatus, EndReason, EndRecord
from runctl.agent.stored_run import StoredMachine
from runctl.checkpoints.download import Prefix
from runctl.core.errors import NotFound, RunctlError
from runctl.core.ids import InstanceId
from runctl.core.models import RunPhase
from runctl.machines.session import Session
from runctl.runs.launch_plan import is_address
from runctl.runs.leases import end_lease, peek
from runctl.runs.recipe import Recipe, Recipes
from runctl.runs.records import RunRecord, as_known, from_status, with_end
from runctl.runs.store import run_store
from runctl.runs.stored_run import prefix_of

T = TypeVar("T")
THREADS = 8


def caught_up(at: Prefix, record: RunRecord, attempt: int, now: datetime) -> RunRecord:
    """The record with the attempts that followed it elsewhere, up to the number ``attempt``: what their machines have
    said of them, and how they ended. Raises what the store raises."""
    for number in range(record.attempt + 1, attempt + 1):
        machine = read(at, stored_run.machine_key(number), StoredMachine)
        if machine is None:
            # Whoever was given the number has not come to renting.
            continue
        if not record.has_ended:
            end = read(at, end_key(record.attempt), EndRecord)
            record = with_end(record, end or _untold(machine))
        record = as_stored(at, following(record, number, machine), now)
    return record


def as_stored(at: Prefix, record: RunRecord, now: datetime) -> RunRecord:
    """The record with what its attempt's machine has put into the store. Raises what the store raises."""
    # The end first: once that is there, the status is that of the whole attempt.
    end = read(at, end_key(record.attempt), EndRecord)
    status = read(at, stored_run.status_key(record.attempt), AttemptStatus)
    if status is not None:
        record = from_status(record, replace(status, now=None, end=None), now)
    return record if end is None else with_end(record, end)


def following(before: RunRecord, number: int, machine: StoredMachine) -> RunRecord:
    """The record of the attempt that followed one that has ended. Pure."""
    return replace(
        before,
        attempt=number,
        instance_id=InstanceId(machine.instance_id),
        instance_type=machine.instance_type or None,
        market=machine.market or None,
        zone=machine.zone or None,
        price_per_hour=price_of(machine),
        state=RunPhase.PENDING,
        created_at=datetime.fromtimestamp(machine.created_at, UTC),
        started_at=None,
        ended_at=None,
        end_reason=None,
        exit_code=None,
        message="",
        hand_off=None,
        log_bytes=None,
        log_sha256=None,
        resumed=None,
        past=(*before.past, as_known(before)),
    )


def catch_up(session: Session, record: RunRecord, recipe: Recipe | None = None) -> RunRecord:
    """What is remembered of the run is what its prefix in the store says, where that is more. Raises what the store
    raises."""
    recipe = recipe or Recipes(session.database).find(record.id)
    at = prefix_of(session, recipe) if recipe is not None else None
    if at is None:
        return record
    found = peek(at).lease
    if found is None or found.attempt <= record.attempt:
        return record
    now = datetime.now(UTC)
    following_it = caught_up(at, record, found.attempt, now)
    store = run_store(session)
    return following_it if store.replace(following_it, record) else store.get(record.id)


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
            # Nobody starts it any more: what is secret in it has no use there.
            spec = recipe.spec
            bare = replace(
                spec, env=dict.fromkeys(spec.env, ""), compose_env=dict.fromkeys(spec.compose_env, "")
            )
            at.storage.put(at.bucket, at.key(stored_run.SPEC), dumps(bare).encode())
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


def _untold(following_machine: StoredMachine) -> EndRecord:
    """The end of an attempt that has told of none, and was followed by another one."""
    message = "it was followed by another attempt, and its machine has not told its end"
    return EndRecord(EndReason.LOST, following_machine.created_at, message=message)


def read(at: Prefix, key: str, kind: type[T]) -> T | None:
    """What is there; ``None`` where nothing is, or nothing that can be read. Raises what the store raises."""
    with suppress(ValueError, TypeError):
        try:
            return from_json(kind, loads(at.storage.read(at.bucket, at.key(key))))
        except NotFound:
            return None
    return None
