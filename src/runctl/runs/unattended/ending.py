"""An unattended run is stopped: its script first, then its group, so that no other machine takes its place."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from runctl.agent.after_run import UPLOADING
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.spec import EndRecord
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import NotFound, RunctlError
from runctl.core.machine_models import InstanceState
from runctl.core.run_models import GroupPhase
from runctl.core.tags import INTENT
from runctl.machines.intents import IntentState
from runctl.machines.machine import Machine, reach
from runctl.machines.session import Session
from runctl.providers.interface import require
from runctl.runs.nodes.asking import node_machine, nodes_of, stop_nodes
from runctl.runs.records.account import check_account
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import from_status, with_end
from runctl.runs.stored.leases import end_lease
from runctl.runs.stored.stored_run import forget_secrets, prefix_at
from runctl.runs.unattended.state import as_it_is

UPLOAD_TIMEOUT = timedelta(minutes=10)
"""How long a machine may take to put the results where they belong, before its group is ended from here."""
POLL_SECONDS = 1.0


def stop_unattended(
    session: Session,
    record: RunRecord,
    *,
    grace: timedelta | None = None,
    force: bool = False,
    clock: Clock | None = None,
) -> tuple[RunRecord, bool]:
    """The run has ended, and nothing of its group is left; with whether it had ended by itself before.

    The script gets SIGTERM as with every stop, where its machine can be asked; else the machine gets it as its group
    ends. Raises what `Groups.end` raises: the same call goes on then.
    """
    clock, store = clock or SystemClock(), run_store(session)
    there = session.in_region(record.region)
    groups = require(there.provider(record.provider).groups)
    if groups.find(record.id) is None:
        check_account(there.provider(record.provider), record)
    record = as_it_is(session, record)
    if not record.has_ended and record.nodes is not None:
        record = stop_nodes(session, record, grace=grace, force=force)
        store.put(record)
        _wait_for_head(session, record, clock)
    elif not record.has_ended:
        record = _script_stopped(session, record, clock, grace=grace, force=force)
    if not record.has_ended or record.end_reason in RETRIED:
        at = prefix_at(there, record.provider, str(record.store), record.id)
        with suppress(RunctlError):
            # A machine that is on its way, or a computer that watches, starts no other attempt.
            if at is not None:
                end_lease(at, record.id, EndReason.STOPPED.value)
    had_ended = record.has_ended and record.end_reason not in {EndReason.STOPPED, *RETRIED}
    group = groups.find(record.id)
    for what in groups.end(record.id, session.progress):
        session.progress.note(f"removed {what}")
    _forget_secrets(there, record)
    if not record.has_ended or record.end_reason in RETRIED:
        after = (
            f" after attempt {record.attempt} ended as {record.end_reason.value}" if record.end_reason else ""
        )
        end = EndRecord(EndReason.STOPPED, clock.now().timestamp(), message=f"stopped on request{after}")
        record = with_end(record, end)
    if record.unattended is not None:
        name = record.unattended.group
        over = replace(record.unattended, phase=GroupPhase.GONE, is_removed=True, activities=(), suspended=())
        record = replace(record, unattended=over)
        session.intents.close(IntentState.GONE, name, group.tags.get(INTENT) if group is not None else None)
    store.put(record)
    return record, had_ended


def _forget_secrets(there: Session, record: RunRecord) -> None:
    """No machine is left that needs them; the run's own has seen to it where it could."""
    with suppress(RunctlError):
        at = prefix_at(there, record.provider, str(record.store), record.id)
        if at is not None:
            forget_secrets(at)


def _script_stopped(
    session: Session, record: RunRecord, clock: Clock, *, grace: timedelta | None, force: bool
) -> RunRecord:
    """The record with the attempt's end, where its machine could be asked for it."""
    if not record.instance_id:
        return record
    there = session.in_region(record.region)
    try:
        instance = there.provider(record.provider).instance(record.instance_id)
        if instance.state is not InstanceState.RUNNING:
            return record
        machine = reach(there, instance)
        session.progress.step(f"stopping {record.id} on {record.instance_id}")
        status = machine.agent.stop(record.id, record.attempt, grace=grace, force=force)
        stopped = from_status(record, status, clock.now())
        run_store(session).put(stopped)
        _wait_for_upload(session, machine, stopped, clock)
    except NotFound:
        return record
    except RunctlError as error:
        session.progress.warn(f"{error.message}; {record.instance_id} is told by its group's end")
        return run_store(session).find(record.id) or record
    return stopped


def _wait_for_head(session: Session, record: RunRecord, clock: Clock) -> None:
    """What rank 0 wrote is where it belongs, if its machine can be asked."""
    with suppress(RunctlError):
        _wait_for_upload(session, node_machine(session, record, nodes_of(record).nodes[0]), record, clock)


def _wait_for_upload(session: Session, machine: Machine, record: RunRecord, clock: Clock) -> None:
    """What the run wrote is where it belongs: its machine goes with the group."""
    if record.machine_end is None or record.machine_end.results_url is None:
        return
    until = clock.monotonic() + UPLOAD_TIMEOUT.total_seconds()
    while clock.monotonic() < until:
        stay = machine.agent.fetched(record.id, record.attempt, only_read=True)
        if stay is None or stay.why != UPLOADING:
            return
        session.progress.step(f"waiting for the results to be in {record.machine_end.results_url}")
        clock.sleep(POLL_SECONDS)
