"""What a machine says of its runs, brought into what this computer remembers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from runctl.agent.spec import AttemptStatus, EndReason, EndRecord, MountSpec, RunState
from runctl.core.errors import InstanceEnded
from runctl.core.ids import VolumeId
from runctl.core.models import Mount, RunPhase
from runctl.runs.store import RunRecord, ended

_PHASES = {
    RunState.PENDING: RunPhase.PENDING,
    RunState.SETTING_UP: RunPhase.SETTING_UP,
    RunState.RUNNING: RunPhase.RUNNING,
    RunState.STOPPING: RunPhase.STOPPING,
    RunState.ENDED: RunPhase.ENDED,
}


def from_status(record: RunRecord, status: AttemptStatus, now: datetime) -> RunRecord:
    """The record with what the agent says of the attempt, at ``now`` by this computer's clock. Pure.

    From then on every time in it is by the machine's clock, so that no duration is between two clocks.
    """
    there = moment(status.now)
    updated = replace(
        record,
        clock_ahead=(there - now).total_seconds() if there is not None else record.clock_ahead,
        created_at=moment(status.created_at) or record.created_at,
        state=_PHASES[status.state],
        attempt=status.attempt,
        started_at=moment(status.started_at) or record.started_at,
        image=status.image or record.image,
        image_digest=status.image_digest or record.image_digest,
        checkpoint_dir=status.checkpoint_dir or record.checkpoint_dir,
        output_dir=status.output_dir or record.output_dir,
        mounts=tuple(as_mount(mount) for mount in status.mounts) or record.mounts,
        saved_volume=VolumeId(status.saved.volume_id) if status.saved else record.saved_volume,
        saved_folder=status.saved.path if status.saved else record.saved_folder,
        log_bytes=status.log_bytes,
    )
    return with_end(updated, status.end) if status.end is not None else updated


def with_end(record: RunRecord, end: EndRecord) -> RunRecord:
    """The record of a run that ended so. Pure."""
    return ended(
        # Whoever ends a run in its machine's place knows no log.
        replace(record, log_bytes=end.log_bytes, log_sha256=end.log_sha256) if end.log_sha256 else record,
        reason=end.reason.value,
        at=datetime.fromtimestamp(end.ended_at, UTC),
        exit_code=end.exit_code,
        message=end.message,
    )


def end_with_its_machine(gone: InstanceEnded, at: datetime) -> EndRecord:
    """How an attempt ended that never told its end, and whose machine the provider says has ended. Pure."""
    reason = EndReason.INTERRUPTED if gone.interrupted else EndReason.LOST
    return EndRecord(reason, at.timestamp(), message=gone.message)


def with_its_machine(record: RunRecord, gone: InstanceEnded, at: datetime) -> RunRecord:
    """The record of a run whose instance the provider says, at ``at`` by this computer's clock, has ended. Pure."""
    return with_end(record, end_with_its_machine(gone, record.by_its_clock(at)))


def as_mount(mount: MountSpec) -> Mount:
    """The agent's words in the JSON contract's."""
    return Mount(
        source=mount.source,
        target=mount.target,
        read_only=mount.read_only,
        volume_id=VolumeId(mount.volume_id) if mount.volume_id else None,
        origin=mount.origin,
    )


def moment(seconds: float | None) -> datetime | None:
    """A time of the agent's, in UTC."""
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None
