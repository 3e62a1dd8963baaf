"""Runs that were started before: found, asked about, and stopped, wherever they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
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
from runctl.core.run_models import Run, RunPhase
from runctl.core.text import counted
from runctl.machines.machine import Machine, reach
from runctl.machines.session import Session
from runctl.providers.ended import what_became_of
from runctl.providers.registry import is_this_computer
from runctl.runs.costs import note_end, note_past_ends
from runctl.runs.records.account import check_account
from runctl.runs.records.run_record import (
    RunRecord,
    adopted,
    from_status,
    is_machine_of,
    may_be_starting,
    never_started,
    with_end,
    with_its_machine,
)
from runctl.runs.records.store import run_store
from runctl.runs.run_logs.follow import Followed, follow

if TYPE_CHECKING:
    from runctl.agent.spec import AttemptStatus
    from runctl.runs.run_logs.sources import KeptLog


def machine_of(session: Session, record: RunRecord) -> Machine:
    """The machine that a run is on, in its own region. Raises `NotFound` when it has ended, `Conflict` when it does
    not run."""
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
    except NotFound:
        check_account(provider, record)
        raise
    if instance.state.is_over:
        raise NotFound(
            f"{record.instance_id}, on which {record.id} was started, is {instance.state.value}",
            hint=f"runctl runs logs {record.id} shows what is kept of its log; what it wrote to a volume is there"
            " still",
            code="instance-ended",
        )
    if instance.state is not InstanceState.RUNNING:
        raise Conflict(
            f"{record.instance_id}, on which {record.id} was started, is {instance.state.value}",
            hint=f"runctl {record.provider} start {record.instance_id}",
            code="not-running",
        )
    return reach(there, instance)


OnStatus = Callable[[RunRecord, "AttemptStatus"], None]


def refresh(
    session: Session, records: Sequence[RunRecord], *, on_status: OnStatus = lambda _record, _status: None
) -> list[RunRecord]:
    """Ask the machines, all at once, about runs that may still change; remember what they say.

    Of interrupted runs with a store that is asked first: they may go on elsewhere. ``on_status`` is called with all
    that a machine says of a run, by several threads at once.
    """
    records = _seen_elsewhere(session, records)
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


def _seen_elsewhere(session: Session, records: Sequence[RunRecord]) -> list[RunRecord]:
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
    return with_its_machine(record, gone, now) if end is None else with_end(record, end)


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
        and ((known := store.find(status.run_id)) is None or is_machine_of(known, machine.instance))
    ]
    if wanted is not None and len({status.run_id for status in matching}) > 1:
        several = ", ".join(sorted({status.run_id for status in matching}))
        raise UsageError(
            f"{wanted} is several runs: {several}", hint="use the id of one of them", code="ambiguous"
        )
    if not matching:
        asked = f"no run {reference}" if reference else "no run"
        raise NotFound(
            f"there is {asked} on {machine.instance.id}",
            hint="runctl runs list shows the runs that this computer has started",
            code="run-not-found",
        )
    newest = max(matching, key=lambda status: (status.created_at or 0.0, status.attempt))
    record = adopted(
        store.find(newest.run_id),
        newest,
        machine.instance,
        SystemClock().now(),
        machine.provider.region,
        machine.provider.scope().account,
    )
    store.put(record)
    return record


def follow_run(
    session: Session,
    machine: Machine,
    record: RunRecord,
    on_log: Callable[[bytes], None],
    *,
    offset: int = 0,
    to_the_end: bool = True,
) -> Followed:
    """`runctl.runs.run_logs.follow.follow`, with a copy of the log kept on this computer."""
    from runctl.runs.run_logs.archive import log_archive

    # The log of a run on this computer is here already.
    here = is_this_computer(record.provider)
    keep = None if here else log_archive().writer(record.id, record.attempt, session.progress.warn)
    try:
        followed = follow(
            record,
            machine,
            run_store(session),
            clock=SystemClock(),
            on_log=on_log,
            offset=offset,
            to_the_end=to_the_end,
            keep=keep,
        )
        note_past_ends(session, followed.record)
        return followed
    finally:
        if keep is not None:
            keep.close()


def find_kept(session: Session, record: RunRecord) -> tuple[RunRecord, KeptLog]:
    """What can be had of the log of a run whose machine does not give it, and the record with the end it tells of."""
    from runctl.runs.run_logs.archive import log_archive
    from runctl.runs.run_logs.sources import find_kept_log

    there = session.in_region(record.region)
    kept = find_kept_log(
        record,
        log_archive(),
        provider=there.provider(record.provider),
        agent_on=lambda instance: reach(there, instance).agent,
        progress=session.progress,
    )
    if kept.end is not None and record.end_reason is not kept.end.reason:
        ended = with_end(record, kept.end)
        # Unless it was stopped, or has gone on as another attempt, while that was read.
        run_store(session).replace(ended, record)
        record = ended
    return record, kept


@dataclass(frozen=True)
class Stopped:
    """What became of a run that was to be stopped."""

    record: RunRecord
    had_ended: bool
    """It had ended by itself before the request came."""


def stop_run(
    session: Session, record: RunRecord, *, grace: timedelta | None = None, force: bool = False
) -> Stopped:
    """The run has ended: SIGTERM, ``grace`` (the run's own), SIGKILL; ``force`` goes straight to that.

    Of a run that nobody watches the group has ended, too.
    """
    from runctl.agent.spec import EndReason

    if record.needs_refresh:
        from runctl.runs.unattended.ending import stop_unattended

        return Stopped(*stop_unattended(session, record, grace=grace, force=force))
    (record,) = _seen_elsewhere(session, [record])
    if record.has_ended:
        return _stop_recovery(session, record)
    if record.nodes is not None:
        from runctl.runs.nodes.asking import stop_nodes

        record = stop_nodes(session, record, grace=grace, force=force)
        run_store(session).put(record)
        return Stopped(record, had_ended=record.end_reason is not EndReason.STOPPED)
    try:
        machine = machine_of(session, record)
    except NotFound:
        (record,) = refresh(session, [record])
        if not record.has_ended:
            raise
        return _stop_recovery(session, record)
    session.progress.step(f"stopping {record.id} on {record.instance_id}")
    status = machine.agent.stop(record.id, record.attempt, grace=grace, force=force)
    record = from_status(record, status, SystemClock().now())
    run_store(session).put(record)
    return Stopped(record, had_ended=record.end_reason is not EndReason.STOPPED)


def _stop_recovery(session: Session, record: RunRecord) -> Stopped:
    """Of a run that has ended: nobody starts another attempt. Whoever prepares one finds that out, and gives back what
    is rented for it."""
    from runctl.agent.spec import EndReason
    from runctl.runs.recovery import RETRIED
    from runctl.runs.stored.elsewhere import end_elsewhere
    from runctl.runs.stored.recipe import Recipes

    if record.end_reason not in RETRIED:
        return Stopped(record, had_ended=True)
    message = f"stopped on request after attempt {record.attempt} ended as {record.end_reason.value}"
    stopped = replace(record, end_reason=EndReason.STOPPED, message=message)
    recipe = Recipes(session.database).find(record.id)
    if not run_store(session).replace(stopped, record):
        # Its next attempt has begun meanwhile.
        return stop_run(session, run_store(session).get(record.id))
    trouble = end_elsewhere(session, record, recipe)
    if trouble:
        session.progress.warn(f"{record.id} is not recovered from here any more, but {trouble}")
    return Stopped(stopped, had_ended=False)


def interrupt_run(session: Session, record: RunRecord, notice: timedelta) -> RunRecord:
    """The run is ending as if its machine had just been taken back; the machine stays. Raises `Conflict`."""
    ended = Conflict(f"{record.id} has ended, so it cannot be interrupted", code="has-ended")
    if record.has_ended:
        raise ended
    machine = machine_of(session, record)
    try:
        status = machine.agent.interrupt(record.id, record.attempt, notice=notice)
    except MachineError as error:
        if error.code == "has-ended":
            raise ended from error
        raise
    record = from_status(record, status, SystemClock().now())
    run_store(session).put(record)
    return record


# The public functions of `runctl.runs`: the same as the commands', for a program.


def follow_logs(
    reference: str,
    on_log: Callable[[bytes], None],
    *,
    follow: bool = False,
    session: Session | None = None,
) -> Run:
    """Every byte of the run's log has gone to ``on_log``, up to now, or with ``follow`` to the run's end.

    What is kept on this computer is used where the machine does not give it any more. Raises `NotFound` (code
    ``log-gone``) when nothing is kept, and what the machine raises.
    """
    from runctl.runs.run_logs.archive import log_archive

    session = session or Session()
    record = run_store(session).get(reference)
    if record.needs_refresh:
        (record,) = refresh(session, [record])
    if record.nodes is not None:
        from runctl.runs.nodes.following import follow_merged

        return follow_merged(session, record, on_log, to_the_end=follow).as_run(SystemClock().now())
    try:
        machine = machine_of(session, record)
        record = follow_run(session, machine, record, on_log, to_the_end=follow).record
    except (NotFound, Conflict) as error:
        (record,) = refresh(session, [record])
        record, kept = find_kept(session, record)
        pieces = list(log_archive().read(record.id, record.attempt))
        if not pieces:
            raise NotFound(
                f"{error.message}; nothing of its log was followed here",
                hint=kept.elsewhere or error.hint,
                code="log-gone",
            ) from error
        for _, data in pieces:
            on_log(data)
    return record.as_run(SystemClock().now())


def stop(
    reference: str,
    *,
    grace: timedelta | None = None,
    force: bool = False,
    session: Session | None = None,
) -> Run:
    """The run has ended; one that had ended already is as it was. Raises `NotFound`, `UsageError`, `Unreachable`."""
    session = session or Session()
    stopped = stop_run(session, run_store(session).get(reference), grace=grace, force=force)
    return stopped.record.as_run(SystemClock().now())


def interrupt(
    reference: str, *, notice: timedelta = timedelta(minutes=2), session: Session | None = None
) -> Run:
    """An interruption is rehearsed: the run gets its notice as if its machine were taken back, and saves; the machine
    stays. Returns at once. Raises `Conflict` for a run that has ended, `NotFound`, `UsageError`, `Unreachable`."""
    session = session or Session()
    record = interrupt_run(session, run_store(session).get(reference), notice)
    return record.as_run(SystemClock().now())
