"""How the record of a run begins, and how each word of a machine or a provider changes it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.deadline import MOST_RESTART_SECONDS
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.object_store import is_address
from runctl.agent.spec import AttemptStatus, EndRecord, RunSpec
from runctl.core.errors import InstanceEnded
from runctl.core.ids import InstanceId, RunId, VolumeId
from runctl.core.machine_models import Instance, Market
from runctl.core.run_models import (
    GitState,
    RunPhase,
    SpotFallback,
)
from runctl.core.tags import ATTEMPT, NAME, RUN
from runctl.runs.records.agent_models import (
    as_mount,
    moment,
    phase_of,
)
from runctl.runs.records.run_record import RunRecord, as_known

Gone = Callable[[InstanceId], InstanceEnded | None]
"""The provider's word on a machine: how it ended; ``None``: it has not, or that is not known."""

STARTING = timedelta(minutes=2)
"""For an attempt to be told to its machine, once it was written down that it is."""


def planned(
    spec: RunSpec,
    instance: Instance,
    now: datetime,
    region: str | None,
    *,
    account: str | None = None,
    name: str | None = None,
    git: GitState | None = None,
    fallback: SpotFallback | None = None,
) -> RunRecord:
    """What is remembered of a run before its machine has been told of it."""
    return RunRecord(
        id=RunId(spec.run_id),
        provider=instance.provider,
        region=region,
        instance_id=instance.id,
        project=spec.project,
        script=spec.script,
        args=spec.args,
        state=RunPhase.PENDING,
        attempt=spec.attempt,
        created_at=now,
        account=account,
        mounts=tuple(as_mount(mount) for mount in spec.mounts),
        image=spec.container.image if spec.container else None,
        instance_type=instance.instance_type,
        market=instance.market.value,
        price_per_hour=instance.price_per_hour,
        name=name,
        instance_name=instance.tags.get(NAME),
        interpreter=spec.interpreter,
        workdir=spec.container.workdir if spec.container else spec.workdir,
        timeout_seconds=spec.timeout_seconds,
        variables=tuple(sorted(spec.env)),
        git=git,
        fallback=fallback,
        machine_end=spec.machine_end,
        zone=instance.zone,
        store=spec.store.url if spec.store is not None else None,
        deadline=spec.deadline,
        lead_seconds=_lead_seconds(spec, instance, now),
    )


def fell_back(wanted: Market, instance: Instance, spot_price_per_hour: Decimal | None) -> SpotFallback | None:
    """That the machine is on demand where spot was asked for; ``None``: it is not so."""
    if wanted is not Market.SPOT or instance.market is not Market.ON_DEMAND:
        return None
    return SpotFallback(spot_price_per_hour)


def _lead_seconds(spec: RunSpec, instance: Instance, now: datetime) -> float | None:
    """See `RunRecord.lead_seconds`. A machine that is much older was rented for something else, or waited for long."""
    lead = (now - instance.created_at).total_seconds()
    return max(0.0, lead) if spec.machine_end is not None and lead <= MOST_RESTART_SECONDS else None


def adopted(
    known: RunRecord | None,
    status: AttemptStatus,
    instance: Instance,
    now: datetime,
    region: str | None,
    account: str | None,
    gone: Gone = lambda _: None,
) -> RunRecord | None:
    """What is remembered of a run that a machine tells of; ``None``: it is known to be on another machine.

    Of a run on several machines one of them tells nothing that is true of all, and of an attempt that another one has
    followed nothing is told any more: what is ``known`` stays. So does an end, unless a machine was only thought to be
    gone, or never to have heard of the run. Pure, but for asking what became of the machine of an earlier attempt, of
    which no end is known.
    """
    if known is None:
        spec = RunSpec(
            run_id=status.run_id,
            script=status.script,
            args=status.args,
            project=status.project,
            attempt=status.attempt,
        )
        return from_status(planned(spec, instance, now, region, account=account), status, now)
    if not is_machine_of(known, instance):
        return None
    if known.nodes is not None or status.attempt < known.attempt:
        return known
    if known.account is None:
        known = replace(known, account=account)
    if status.attempt > known.attempt:
        if not known.has_ended and known.instance_id:
            began = moment(status.created_at) or known.by_its_clock(now)
            known = with_end(known, end_unseen(known, known.instance_id, began, gone))
        known = _on_machine(before_it_began(known, status.attempt), instance)
    elif not known.instance_id:
        known = _on_machine(known, instance)
    elif known.has_ended and not _is_told_better(known, status):
        return known
    return from_status(without_end(known), status, now)


def _on_machine(record: RunRecord, instance: Instance) -> RunRecord:
    """The record of an attempt that turns out to be on this machine. Pure."""
    return replace(
        record,
        instance_id=instance.id,
        instance_type=instance.instance_type,
        market=instance.market.value,
        zone=instance.zone,
        price_per_hour=instance.price_per_hour,
        instance_name=instance.tags.get(NAME),
        fallback=None,
    )


def _is_told_better(record: RunRecord, status: AttemptStatus) -> bool:
    """Whether the machine's word counts more than the end that is known of this attempt. Pure."""
    if record.end_reason is EndReason.NOT_STARTED:
        return True
    return status.end is not None and record.end_reason in {*RETRIED, EndReason.UNSEEN}


def is_machine_of(record: RunRecord, instance: Instance) -> bool:
    """Whether the machine may say how the run is: it is one of the newest attempt's, or was rented for the run, as the
    tags say that its provider has. Any machine could say that it has a run by that id. Pure."""
    rented_for = {instance.tags.get(RUN), instance.tags.get(ATTEMPT, "").partition("/")[0]}
    return instance.id in record.machines or record.id in rented_for


def from_status(record: RunRecord, status: AttemptStatus, now: datetime) -> RunRecord:
    """The record with what the agent says of the attempt, at ``now`` by this computer's clock.

    From then on every time in it is by the machine's clock, so that no duration is between two clocks.
    """
    there = moment(status.now)
    updated = replace(
        record,
        clock_ahead=(there - now).total_seconds() if there is not None else record.clock_ahead,
        created_at=moment(status.created_at) or record.created_at,
        state=phase_of(status.state),
        attempt=status.attempt,
        started_at=moment(status.started_at) or record.started_at,
        image=status.image or record.image,
        image_digest=status.image_digest or record.image_digest,
        checkpoint_dir=status.checkpoint_dir or record.checkpoint_dir,
        output_dir=status.output_dir or record.output_dir,
        mounts=tuple(as_mount(mount) for mount in status.mounts) or record.mounts,
        saved_volume=VolumeId(status.saved.volume_id) if status.saved else record.saved_volume,
        saved_folder=status.saved.path if status.saved else record.saved_folder,
        machine_end=status.machine_end or record.machine_end,
        resumed=status.resumed or record.resumed,
        progress=status.progress or record.progress,
        log_bytes=status.log_bytes,
        checkpoint=newest_checkpoint(record.checkpoint, status.checkpoint),
    )
    return with_end(updated, status.end) if status.end is not None else updated


def with_end(record: RunRecord, end: EndRecord) -> RunRecord:
    """The record of a run that ended so."""
    # Whoever ends a run in its machine's place knows no log.
    log = {"log_bytes": end.log_bytes, "log_sha256": end.log_sha256} if end.log_sha256 else {}
    return replace(
        record,
        **log,  # type: ignore[arg-type]
        state=RunPhase.ENDED,
        end_reason=end.reason,
        ended_at=datetime.fromtimestamp(end.ended_at, UTC),
        exit_code=end.exit_code,
        signal=end.signal,
        message=end.message,
        hand_off=end.hand_off,
        checkpoint=_handed_over(end) or record.checkpoint,
    )


def without_end(record: RunRecord) -> RunRecord:
    """The record of a run whose end is taken back; its state is for the caller to say. What is known of its log and its
    checkpoint stays. Pure."""
    return replace(
        record,
        end_reason=None,
        ended_at=None,
        exit_code=None,
        signal=None,
        message="",
        hand_off=None,
        log_sha256=None,
    )


def end_of(record: RunRecord, attempt: int) -> EndRecord | None:
    """How that attempt ended, by what is remembered; the codes are those of the newest alone. Pure."""
    for each in (*record.past, as_known(record)):
        if each.attempt == attempt and each.end_reason is not None and each.ended_at is not None:
            end = EndRecord(each.end_reason, each.ended_at.timestamp(), message=each.message)
            newest = attempt == record.attempt
            return replace(end, exit_code=record.exit_code, signal=record.signal) if newest else end
    return None


def _handed_over(end: EndRecord) -> CheckpointStatus | None:
    """The checkpoint of a hand-over, which the machine may have let go of before it was asked."""
    given = end.hand_off
    if given is None or given.checkpoint is None:
        return None
    return CheckpointStatus(given.checkpoint, given.stages.get("script_ended", end.ended_at), given.step)


def before_it_began(record: RunRecord, attempt: int) -> RunRecord:
    """The record of an attempt that follows, of which nothing is known yet; the last one is in its past. Pure."""
    return replace(
        without_end(record),
        past=(*record.past, as_known(record)),
        attempt=attempt,
        state=RunPhase.PENDING,
        started_at=None,
        log_bytes=None,
        resumed=None,
        search_began_at=None,
    )


def newest_checkpoint(
    known: CheckpointStatus | None, told: CheckpointStatus | None
) -> CheckpointStatus | None:
    """What is known of a run's newest checkpoint once its machine has told. A machine that has none yet, and cannot
    reach the store, has not lost it."""
    if told is None or told.path or known is None:
        return told or known
    return replace(known, trouble=told.trouble, late_seconds=told.late_seconds)


def may_be_starting(state: RunPhase, created_at: datetime, now: datetime) -> bool:
    """Whether a machine that knows nothing of an attempt may be told of it at this moment: it was written down before
    that, by a program that goes on. Both times are by the same clock. Pure."""
    return state is RunPhase.PENDING and abs(now - created_at) < STARTING


def never_started(record: RunRecord, at: datetime, message: str) -> RunRecord:
    """The record of a run that its machine has refused, or never heard of."""
    return with_end(record, EndRecord(EndReason.NOT_STARTED, at.timestamp(), message=message))


def end_with_its_machine(gone: InstanceEnded, at: datetime, clock_ahead: float = 0.0) -> EndRecord:
    """How an attempt ended that never told its end, and whose machine the provider says has ended.

    It ended when the provider says so, and before ``at``, when that was noticed. The end is by the machine's clock, and
    so is ``at``; ``clock_ahead`` is how far that is ahead of the provider's.
    """
    reason = EndReason.INTERRUPTED if gone.interrupted else EndReason.LOST
    if gone.at is not None:
        at = min(at, gone.at + timedelta(seconds=clock_ahead))
    return EndRecord(reason, at.timestamp(), message=gone.message)


def _was_heard_of(record: RunRecord) -> bool:
    """Whether a machine has said anything of the newest attempt: one that was only written down may never have been
    told. Pure."""
    return record.state is not RunPhase.PENDING or record.log_bytes is not None


def end_unseen(record: RunRecord, machine: InstanceId, at: datetime, gone: Gone) -> EndRecord:
    """How an attempt ended there that another one has followed, at ``at`` at the latest, and that has not told it."""
    ended = gone(machine) or InstanceEnded(f"instance {machine} disappeared without notice")
    return end_with_its_machine(ended, at, record.clock_ahead)


def with_its_machine(record: RunRecord, gone: InstanceEnded, at: datetime) -> RunRecord:
    """The record of a run whose instance the provider says, at ``at`` by this computer's clock, has ended."""
    end = end_with_its_machine(gone, record.by_its_clock(at), record.clock_ahead)
    # A machine that ends itself after the run has put its end into the store before.
    may_have_ended = record.machine_end is not None and not record.machine_end.keep and record.store is None
    if not may_have_ended or gone.interrupted:
        return with_end(record, end)
    if not _was_heard_of(record):
        how = f"{end.message}: its machine never said that it had been told of it"
        return with_end(record, replace(end, message=how))
    in_store = record.results is not None and is_address(record.results)
    on_volume = record.saved_volume is not None or any(m.volume_id and not m.read_only for m in record.mounts)
    if (gone.by_itself or gone.forgotten) and not in_store and not on_volume:
        # There is nothing that another attempt could go on from: it would only do again what was done. Where nobody
        # knows more than that it was to end itself then, whoever wants it done again pays no more for it than that.
        end = replace(end, reason=EndReason.UNSEEN)
    where = f"; {record.saved_volume} has its log and results" if record.saved_volume is not None else ""
    if in_store:
        where += f"; what it had uploaded by then is in {record.results}"
    how = "perhaps after the run, as it was to end itself then; how the run ended is not known here"
    return with_end(record, replace(end, message=f"{end.message}: {how}{where}"))
