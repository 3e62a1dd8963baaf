"""What the machines of a run say of it, all asked at once, and the one state and end that follows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.spec import AttemptStatus, EndRecord
from runctl.core.clock import SystemClock
from runctl.core.errors import InstanceEnded, MachineError, RunctlError
from runctl.core.run_models import RunPhase
from runctl.machines.machine import Machine, reach
from runctl.machines.session import Session
from runctl.providers.ended import what_became_of
from runctl.runs.records.agent_models import moment, phase_of
from runctl.runs.records.node_records import KnownNode, KnownNodes
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import (
    end_with_its_machine,
    from_status,
    may_be_starting,
    with_end,
    without_end,
)
from runctl.runs.stored.stored_results import end_in_store

AT_ONCE = 16

T = TypeVar("T")


def nodes_of(record: RunRecord) -> KnownNodes:
    """The machines of a run that has several."""
    if record.nodes is None:
        raise ValueError(f"{record.id} has one machine")
    return record.nodes


def on_node(record: RunRecord, node: KnownNode) -> RunRecord:
    """The record with that machine's id in place of rank 0's. Pure."""
    return replace(record, instance_id=node.instance_id)


def node_machine(session: Session, record: RunRecord, node: KnownNode) -> Machine:
    """Raises what the provider raises."""
    there = session.in_region(record.region)
    return reach(there, there.provider(record.provider).instance(node.instance_id))


def on_each(nodes: KnownNodes, function: Callable[[KnownNode], T]) -> list[T]:
    """By rank; the first error that was raised is raised when all are done."""
    with ThreadPoolExecutor(min(AT_ONCE, len(nodes.nodes))) as pool:
        return [done.result() for done in [pool.submit(function, node) for node in nodes.nodes]]


def ask_nodes(session: Session, record: RunRecord) -> RunRecord:
    """The record by what all machines say now; of one that cannot be asked the state is ``unknown``."""
    nodes = nodes_of(record)
    answers = on_each(nodes, lambda node: _ask(session, record, node))
    head = next((status for node, status in answers if node.rank == 0), None)
    known = replace(nodes, nodes=tuple(node for node, _ in answers))
    return combined(record, known, head, SystemClock().now())


def is_going_on(session: Session, record: RunRecord, node: KnownNode) -> bool:
    """Whether the machine itself says so, and somebody there sees to it."""
    try:
        status = node_machine(session, record, node).agent.status(record.id, record.attempt)
    except RunctlError:
        return False
    return status.end is None and not status.orphaned


def confirmed(session: Session, record: RunRecord) -> RunRecord:
    """The record by rank 0's own word, where only the others have told its end and it can be asked after all. What it
    says is remembered: the run may go on, or have ended in another way."""
    nodes = nodes_of(record)
    head = nodes.nodes[0]
    if head.end is None or head.end.log_sha256:
        return record
    node, status = _ask(session, record, replace(head, end=None))
    if status is None or status.orphaned:
        return record
    told = combined(without_end(record), nodes.with_node(node), status, SystemClock().now())
    store = run_store(session)
    return told if store.replace(told, record) else store.get(record.id)


def combined(record: RunRecord, nodes: KnownNodes, head: AttemptStatus | None, now: datetime) -> RunRecord:
    """The run's record by what is known of its machines; ``head`` is what rank 0 says. Pure."""
    if head is not None:
        record = from_status(record, replace(head, end=None), now)
    nodes = without_silent(nodes)
    record = replace(record, nodes=nodes)
    if nodes.have_ended:
        return with_end(record, nodes.end)
    states = [node.state for node in nodes.nodes]
    if RunPhase.UNKNOWN in states:
        state = RunPhase.UNKNOWN
    elif RunPhase.STOPPING in states or RunPhase.ENDED in states:
        ended = {end.reason for end in nodes.ends.values()}
        state = RunPhase.RUNNING if ended <= {EndReason.COMPLETED} else RunPhase.STOPPING
        if RunPhase.STOPPING in states and not ended:
            state = RunPhase.STOPPING
    else:
        state = min(states, key=_ORDER.index)
    return replace(record, state=state)


_ORDER = (RunPhase.PENDING, RunPhase.SETTING_UP, RunPhase.RUNNING)


def told_by(node: KnownNode, status: AttemptStatus) -> KnownNode:
    """With what its machine says. Pure."""
    return replace(
        node,
        state=phase_of(status.state),
        started_at=moment(status.started_at) or node.started_at,
        end=status.end,
    )


def _ask(session: Session, record: RunRecord, node: KnownNode) -> tuple[KnownNode, AttemptStatus | None]:
    if node.end is not None:
        return node, None
    now = record.by_its_clock(SystemClock().now())
    provider = session.in_region(record.region).provider(record.provider)
    try:
        machine = node_machine(session, record, node)
        status = machine.agent.status(record.id, record.attempt)
    except RunctlError as error:
        gone = what_became_of(provider, node.instance_id, record.account)
        if gone is not None:
            return node.ended(end_of_gone(session, record, node, gone)), None
        if isinstance(error, MachineError) and error.code == "no-such-run":
            if may_be_starting(node.state, record.created_at, now):
                return node, None
            end = EndRecord(EndReason.NOT_STARTED, now.timestamp(), message="the machine has no record of it")
            return node.ended(end), None
        session.progress.warn(f"node {node.rank} ({node.instance_id}) cannot be asked: {error.message}")
        return replace(node, state=RunPhase.UNKNOWN), None
    return told_by(node, status), status


def end_of_gone(session: Session, record: RunRecord, node: KnownNode, gone: InstanceEnded) -> EndRecord:
    """How it ended on a machine that is no more: as that has written into the run's store before, as rank 0's end says,
    or as its provider does."""
    end = end_in_store(session, record, node.rank) or end_by_head(nodes_of(record), node.rank)
    return end or end_with_its_machine(gone, record.by_its_clock(SystemClock().now()))


def given_up(at: float) -> EndRecord:
    """How it ended on a machine without which the run has gone on, and that says nothing itself. Pure."""
    return EndRecord(EndReason.LOST, at, message="the other machines went on without this one")


def without_silent(nodes: KnownNodes) -> KnownNodes:
    """Once rank 0 has ended, machines without which the run has gone on, and that cannot be asked, have too. Pure."""
    head = nodes.ends.get(0)
    for node in nodes.nodes if head is not None else ():
        if node.state is RunPhase.UNKNOWN and head is not None and node.rank in head.gone:
            nodes = nodes.with_node(node.ended(given_up(head.ended_at)))
    return nodes


def end_by_head(nodes: KnownNodes, rank: int) -> EndRecord | None:
    """How it ended on a machine whose own word is lost, where rank 0 has told how the run ended for good: it ends last,
    and has heard all of them. Pure."""
    head = nodes.ends.get(0)
    if head is None or rank == 0 or head.run_reason in RETRIED or head.caused_by == rank:
        return None
    if rank in head.gone:
        return None
    if head.reason is EndReason.COMPLETED:
        return EndRecord(head.reason, head.ended_at, head.exit_code)
    by = 0 if head.caused_by is None else head.caused_by
    return EndRecord(
        EndReason.STOPPED, head.ended_at, message=head.message, caused_by=by, cause=head.run_reason
    )


def stop_nodes(
    session: Session, record: RunRecord, *, grace: timedelta | None = None, force: bool = False
) -> RunRecord:
    """The run has ended on all machines that can be reached."""
    nodes = nodes_of(record)
    session.progress.step(f"stopping {record.id} on {len(nodes.nodes)} machines")

    def stop(node: KnownNode) -> tuple[KnownNode, AttemptStatus | None]:
        if node.end is not None:
            return node, None
        try:
            machine = node_machine(session, record, node)
            status = machine.agent.stop(record.id, record.attempt, grace=grace, force=force)
        except RunctlError:
            return _ask(session, record, node)
        return told_by(node, status), status

    answers = on_each(nodes, stop)
    head = next((status for node, status in answers if node.rank == 0), None)
    known = replace(nodes, nodes=tuple(node for node, _ in answers))
    return combined(record, known, head, SystemClock().now())
