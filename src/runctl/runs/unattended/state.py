"""An unattended run as it is now: its attempts by the store, its machine by the group, and what is left when it has
ended. Whoever looks after the run's end removes the rights of its machines, which these cannot do themselves."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from runctl._dataclasses import dataclass
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.core.clock import SystemClock
from runctl.core.errors import Conflict, InstanceEnded, RunctlError
from runctl.core.ids import InstanceId, RunId
from runctl.core.machine_models import InstanceState
from runctl.core.run_models import GroupPhase, UnattendedRun
from runctl.machines.machine import reach
from runctl.machines.session import Session
from runctl.providers.abilities.groups import GroupActivity, Groups, MachineGroup
from runctl.providers.ended import what_became_of
from runctl.providers.interface import Provider, require
from runctl.runs.nodes.asking import ask_nodes
from runctl.runs.records.account import check_account
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.updates import end_with_its_machine, from_status, with_end
from runctl.runs.stored.elsewhere import attempts_in_store, last_attempt, told_by_store
from runctl.runs.stored.stored_run import prefix_at

SHOWN_ACTIVITIES = 3
READ_ACTIVITIES = 50


@dataclass(frozen=True)
class GroupView:
    """What the provider says of a run's group."""

    group: MachineGroup | None
    machines: tuple[InstanceId, ...]
    """Those of the run that have not ended."""
    activities: tuple[GroupActivity, ...] = ()
    """Asked for where there is no machine."""


def as_it_is(session: Session, record: RunRecord) -> RunRecord:
    """The record with what the store, the group and the machine say now. What cannot be asked is warned of."""
    there = session.in_region(record.region)
    try:
        provider = there.provider(record.provider)
        groups = require(provider.groups)
        record = _by_store(there, provider, record)
        if told_its_end(record):
            # The other machines may have gone with the group before they could say how it ended there.
            record = ask_nodes(session, record)
        view = view_of(groups, record.id)
        if view.group is None:
            check_account(provider, record)
        record = seen(record, view, SystemClock().now())
        if is_over(record):
            return _without_rights(session, groups, record)
    except RunctlError as error:
        session.progress.warn(f"{record.id} cannot be asked about: {error.message}")
        return record
    if record.nodes is not None and record.nodes.nodes:
        return record if record.has_ended else _nodes_asked(session, record)
    if record.instance_id in view.machines:
        return _asked(session, there, provider, record)
    return record if record.has_ended or not record.instance_id else _without_machine(there, provider, record)


def _by_store(there: Session, provider: Provider, record: RunRecord) -> RunRecord:
    at = prefix_at(there, record.provider, str(record.store), record.id)
    if at is None:
        return record
    return told_by_store(
        record,
        attempts_in_store(at, record.attempt, last_attempt(at)),
        lambda each: _end_of(there, provider, record, each),
    )


def view_of(groups: Groups, run_id: RunId) -> GroupView:
    """What the provider says. Raises what it raises."""
    group, machines = groups.find(run_id), groups.machines(run_id)
    asks = group is not None and len(machines) < max(1, group.wanted)
    return GroupView(group, machines, groups.activities(run_id, SHOWN_ACTIVITIES) if asks else ())


def phase_of(view: GroupView) -> GroupPhase:
    """Pure."""
    if view.group is None:
        return GroupPhase.GONE if not view.machines else GroupPhase.ENDING
    if view.group.is_ending:
        return GroupPhase.ENDING
    if view.machines:
        return GroupPhase.HAS_MACHINE
    return GroupPhase.RENTING if view.group.rents else GroupPhase.IDLE


def seen(record: RunRecord, view: GroupView, now: datetime) -> RunRecord:
    """The record with the state of its group. A run whose group somebody has deleted has ended. Pure."""
    before = record.unattended
    assert before is not None  # noqa: S101 - the caller has looked
    phase = phase_of(view)
    if phase is GroupPhase.GONE and before.phase is GroupPhase.PLANNED:
        return record
    record = replace(
        record,
        unattended=UnattendedRun(
            before.group,
            phase,
            view.group.suspended if view.group is not None else (),
            tuple(_activity_text(each) for each in view.activities),
            machines=len(view.machines),
            wanted=view.group.wanted if view.group is not None else 0,
        ),
    )
    if phase is not GroupPhase.GONE or record.has_ended:
        return record
    gone = InstanceEnded(
        f"the group {before.group} was deleted, and not by the run: nothing rents it a machine any more"
    )
    return with_end(record, end_with_its_machine(gone, record.by_its_clock(now)))


def told_its_end(record: RunRecord) -> bool:
    """Whether rank 0 of several machines has, for good, and others have not. Pure."""
    head = record.nodes.ends.get(0) if record.nodes is not None else None
    return head is not None and not record.has_ended and head.run_reason not in RETRIED


def is_over(record: RunRecord) -> bool:
    """Whether nothing of the run's group does anything any more. Pure."""
    group = record.unattended
    return group is not None and group.phase is GroupPhase.GONE and record.has_ended


def _activity_text(activity: GroupActivity) -> str:
    return f"{activity.at:%Y-%m-%d %H:%M:%S} UTC{', failed' if activity.failed else ''}: {activity.text}"


def _without_rights(session: Session, groups: Groups, record: RunRecord) -> RunRecord:
    """The rights of its machines are gone too, as far as the account may see to that."""
    assert record.unattended is not None  # noqa: S101 - the caller has looked
    try:
        for what in groups.end(record.id, session.progress):
            session.progress.detail(f"removed {what}")
    except RunctlError as error:
        session.progress.warn(
            f"what is left of {record.unattended.group} stays: {error.message} (runctl resources cleanup removes it"
            " once the run has ended for good)"
        )
        return record
    return replace(record, unattended=replace(record.unattended, is_removed=True))


def _asked(session: Session, there: Session, provider: Provider, record: RunRecord) -> RunRecord:
    """What the attempt's own machine says, if it can be asked."""
    try:
        instance = provider.instance(record.instance_id)
        there.ledger_record(record.provider).seen(instance)
        if instance.state is not InstanceState.RUNNING:
            return record if record.has_ended else _without_machine(there, provider, record)
        record = replace(
            record,
            price_per_hour=instance.price_per_hour,
            instance_type=instance.instance_type,
            zone=instance.zone,
        )
        status = reach(there, instance).agent.status(record.id, record.attempt)
    except RunctlError as error:
        # A machine that knows no such run is fetching what the attempt needs.
        if error.code == "no-such-run" or record.has_ended:
            return record
        session.progress.warn(f"{record.instance_id} cannot be asked: {error.message}")
        return _without_machine(there, provider, record)
    return from_status(record, status, SystemClock().now())


def _nodes_asked(session: Session, record: RunRecord) -> RunRecord:
    """What the machines of the attempt say, or what is known of those that have ended."""
    told = ask_nodes(session, record)
    there = session.in_region(record.region).ledger_record(record.provider)
    provider = session.in_region(record.region).provider(record.provider)
    for node in told.nodes.nodes if told.nodes is not None else ():
        with suppress(RunctlError):
            there.seen(provider.instance(node.instance_id))
    return told


def _without_machine(there: Session, provider: Provider, record: RunRecord) -> RunRecord:
    """The record of an attempt that has not told its end, where its machine has ended."""
    gone = _end_of(there, provider, record, record.instance_id)
    if gone is None:
        return record
    noticed = record.by_its_clock(SystemClock().now())
    return with_end(record, end_with_its_machine(gone, noticed, record.clock_ahead))


def _end_of(
    there: Session, provider: Provider, record: RunRecord, instance_id: InstanceId
) -> InstanceEnded | None:
    """The provider's word on a machine of the run; one that its own group has replaced was taken back, too."""
    with suppress(RunctlError):
        there.ledger_record(record.provider).seen(provider.instance(instance_id))
    gone = what_became_of(provider, instance_id, record.account)
    if gone is None or gone.interrupted:
        return gone
    with suppress(RunctlError):
        activities = require(provider.groups).activities(record.id, READ_ACTIVITIES)
        if any(each.replaced == instance_id for each in activities):
            message = f"{gone.message}: its group has replaced it"
            return InstanceEnded(message, interrupted=True, at=gone.at)
    return gone


def lives(record: RunRecord) -> bool:
    """Whether the run's group starts the next machine: nobody else is to. Pure."""
    return record.unattended is not None and record.unattended.phase in {
        GroupPhase.RENTING,
        GroupPhase.HAS_MACHINE,
        GroupPhase.ENDING,
    }


def check_group_is_gone(record: RunRecord) -> None:
    """Whoever takes the run over is the only one who rents machines for it. Pure. Raises `Conflict`, codes
    ``not-left-yet`` and ``group-has-no-machine``, where its group is there, or may be made at any moment."""
    group = record.unattended
    if group is None or group.phase is GroupPhase.GONE:
        return
    if group.phase is GroupPhase.PLANNED:
        raise Conflict(
            f"{record.id} has not been left to {group.group} yet: its launch is at work, or was cut short",
            hint=f"the same command continues with it; runctl runs stop {record.id} removes what there is",
            code="not-left-yet",
        )
    raise Conflict(
        f"{group.group} rents the machines of {record.id}, and is to have none",
        hint=f"let it have one again; or end the run with runctl runs stop {record.id}",
        code="group-has-no-machine",
    )


def group_text(record: RunRecord) -> str:
    """What the run's group does, for a person, after the run's id. Pure."""
    group = record.unattended
    assert group is not None  # noqa: S101 - the caller has looked
    if record.end_reason is None:
        at = f" on {record.instance_id}" if record.instance_id else ""
        return f"is {record.state.value}{at}; {group.group} rents its machines"
    does = {
        GroupPhase.RENTING: "asks for the next machine",
        GroupPhase.HAS_MACHINE: "has a machine, which takes the run up or ends the group",
    }
    return f"ended as {record.end_reason.value}; {group.group} {does.get(group.phase, 'is ending')}"


def goes_on(record: RunRecord) -> bool:
    """Whether another attempt may come, though the last one has ended. Pure."""
    return record.end_reason in RETRIED and record.end_reason is not EndReason.NOT_STARTED and lives(record)
