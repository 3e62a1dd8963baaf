"""Machines are asked about runs, wherever these are; what they say is remembered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from runctl.core.clock import SystemClock
from runctl.core.errors import (
    Conflict,
    InstanceEnded,
    MachineError,
    NotFound,
    RunctlError,
    Unreachable,
    UsageError,
)
from runctl.core.machine_models import InstanceState
from runctl.core.names import LATEST
from runctl.core.run_models import RunPhase
from runctl.core.text import counted
from runctl.machines.machine import Machine, reach
from runctl.machines.session import Session
from runctl.providers.ended import what_became_of
from runctl.providers.registry import when_not_running
from runctl.runs.costs import as_the_ledger_knows, note_end, note_past_ends
from runctl.runs.fetched import what_is_left
from runctl.runs.records.account import check_account
from runctl.runs.records.adopting import adopt, may_tell
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import (
    from_status,
    may_be_starting,
    never_started,
    with_end,
    with_its_machine,
)

if TYPE_CHECKING:
    from runctl.agent.spec import AttemptStatus


def machine_of(session: Session, record: RunRecord, transport: str | None = None) -> Machine:
    """The machine that a run is on, in its own region. Raises `NotFound` when it has ended, with what is left of the
    run, and `Conflict` when it does not run."""
    there = session.in_region(record.region)
    if not record.instance_id:
        group = record.unattended.group if record.unattended is not None else "its group"
        raise NotFound(
            f"{record.id} has no machine yet: {group} asks for one",
            hint=f"runctl runs show {record.id} shows how far that is",
            code="no-machine-yet",
        )
    provider = there.provider(record.provider)
    try:
        instance = provider.instance(record.instance_id)
    except NotFound as error:
        check_account(provider, record)
        error.hint = what_is_left(record)
        raise
    if instance.state.is_over:
        raise NotFound(
            f"{record.instance_id}, on which {record.id} was started, is {instance.state.value}",
            hint=what_is_left(record),
            code="instance-ended",
        )
    if instance.state is not InstanceState.RUNNING:
        raise Conflict(
            f"{record.instance_id}, on which {record.id} was started, is {instance.state.value}",
            hint=when_not_running(instance),
            code="not-running",
        )
    return reach(there, instance, transport)


OnStatus = Callable[[RunRecord, "AttemptStatus"], None]


def refresh(
    session: Session, records: Sequence[RunRecord], *, on_status: OnStatus = lambda _record, _status: None
) -> list[RunRecord]:
    """Ask the machines, all at once, about runs that may still change; remember what they say.

    Of interrupted runs with a store that is asked first: they may go on elsewhere. ``on_status`` is called with all
    that a machine says of a run, by several threads at once.
    """
    records = with_news_elsewhere(session, records)
    on_machines: dict[tuple[str, str | None, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.needs_refresh or (record.nodes is not None and not record.has_ended):
            on_machines[(record.provider, record.region, record.id)].append(record)
        elif not record.has_ended:
            on_machines[(record.provider, record.region, record.instance_id)].append(record)
    if not on_machines:
        return list(records)
    session.progress.step(f"asking {counted(len(on_machines), 'machine')} about runs")
    with ThreadPoolExecutor(max_workers=min(8, len(on_machines))) as pool:
        answers = list(pool.map(lambda group: _ask(session, group, on_status), on_machines.values()))
    updated = {record.id: record for answer in answers for record in answer}
    store = run_store(session)
    for before in records:
        answer = updated.get(before.id, before)
        if (
            answer.state is not RunPhase.UNKNOWN
            and answer is not before
            and not store.replace(answer, before)
        ):
            # Stopped, or gone on as another attempt, while its machine was asked: that counts.
            updated[before.id] = store.find(before.id) or answer
        elif answer.has_ended and not before.has_ended:
            note_past_ends(session, answer)
    return [updated.get(record.id, record) for record in records]


def refresh_group(session: Session, record: RunRecord) -> RunRecord:
    """As `refresh`, for a run that nobody watches, and without saying that it is asked about."""
    from runctl.runs.unattended.state import as_it_is

    store, now = run_store(session), as_it_is(session, record)
    if now is not record and not store.replace(now, record):
        return store.find(record.id) or now
    return now


def with_news_elsewhere(session: Session, records: Sequence[RunRecord]) -> list[RunRecord]:
    if all(record.store is None for record in records):
        return list(records)
    from runctl.runs.stored.elsewhere import seen_elsewhere

    return seen_elsewhere(session, records)


def _ask(session: Session, group: list[RunRecord], on_status: OnStatus) -> list[RunRecord]:
    """What became of these runs of one machine; ``unknown`` where it cannot be told."""
    now, first = SystemClock().now(), group[0]
    if first.needs_refresh:
        from runctl.runs.unattended.state import as_it_is

        return [as_it_is(session, first)]
    if first.nodes is not None:
        from runctl.runs.nodes.asking import ask_nodes

        return [ask_nodes(session, first)]
    try:
        machine = machine_of(session, first)
    except RunctlError as error:
        if isinstance(error, NotFound | Unreachable):
            provider = session.in_region(first.region).provider(first.provider)
            gone = what_became_of(provider, first.instance_id, first.account)
            if gone is not None:
                return [_without_machine(session, record, gone, now) for record in group]
        session.progress.warn(f"{first.instance_id} cannot be asked: {error.message}")
        return [replace(record, state=RunPhase.UNKNOWN) for record in group]
    return [_ask_machine(session, machine, record, on_status) for record in group]


def _without_machine(session: Session, record: RunRecord, gone: InstanceEnded, now: datetime) -> RunRecord:
    """The record of a run whose machine has ended: by what it has put into an object store before, else by that."""
    from runctl.runs.stored.stored_results import end_in_store

    note_end(session, record)
    end = end_in_store(session, record)
    if end is not None:
        return with_end(record, end)
    return with_its_machine(record, as_the_ledger_knows(session, record, gone), now)


def _ask_machine(session: Session, machine: Machine, record: RunRecord, on_status: OnStatus) -> RunRecord:
    now = SystemClock().now()
    try:
        status = machine.agent.status(record.id, record.attempt)
    except MachineError as error:
        if error.code != "no-such-run":
            raise
        there = record.by_its_clock(now)
        if may_be_starting(record.state, record.created_at, there):
            return record
        return never_started(record, there, "the machine has no record of it")
    except RunctlError as error:
        gone = what_became_of(machine.provider, machine.instance.id)
        if gone is not None:
            return _without_machine(session, record, gone, now)
        session.progress.warn(f"{record.instance_id} cannot be asked: {error.message}")
        return replace(record, state=RunPhase.UNKNOWN)
    on_status(record, status)
    return from_status(record, status, SystemClock().now())


def find_on_machine(session: Session, machine: Machine, reference: str | None) -> RunRecord:
    """The run of that id (or beginning of it) or name, or the machine's newest. Raises `NotFound`, `UsageError`.

    The machine is asked, so that runs which another computer started are found as well; what it says is remembered.
    """
    store = run_store(session)
    attempts = machine.agent.attempts()
    wanted = None if reference == LATEST else reference
    named = [] if wanted is None else store.list(instance=machine.instance.id, name=wanted)
    ids = {record.id for record in named}
    matching = [
        status
        for status in attempts
        if (wanted is None or status.run_id in ids or (not ids and status.run_id.startswith(wanted)))
        and may_tell(machine, status.run_id, store)
    ]
    if wanted is not None and len({status.run_id for status in matching}) > 1:
        several = ", ".join(sorted({status.run_id for status in matching}))
        raise UsageError(
            f"{wanted} is several runs: {several}", hint="use the id of one of them", code="ambiguous"
        )
    newest = max(matching, key=lambda status: (status.created_at or 0.0, status.attempt), default=None)
    record = adopt(machine, newest, store, SystemClock().now()) if newest is not None else None
    if record is None:
        asked = f"no run {reference}" if reference else "no run"
        raise NotFound(
            f"there is {asked} on {machine.instance.id}",
            hint="runctl runs list shows the runs that this computer has started",
            code="run-not-found",
        )
    return record
