"""What the agent says of an attempt, in the words of the JSON contract. Pure."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.interruption import HAND_OFF_STAGES
from runctl.agent.interruption import HandOff as HandOffSpec
from runctl.agent.spec import MountSpec, RunState
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Mount
from runctl.core.run_models import HandOff, MachineAfterRun, NewestCheckpoint, RunPhase

_PHASES = {
    RunState.PENDING: RunPhase.PENDING,
    RunState.SETTING_UP: RunPhase.SETTING_UP,
    RunState.RUNNING: RunPhase.RUNNING,
    RunState.STOPPING: RunPhase.STOPPING,
    RunState.ENDED: RunPhase.ENDED,
}
"""The agent's state in the JSON contract's words, which are older and also know ``unknown``."""


def phase_of(state: RunState) -> RunPhase:
    """The agent's state in the JSON contract's words."""
    return _PHASES[state]


def machine_after_run(end: MachineEnd) -> MachineAfterRun:
    """As the JSON contract shows it."""
    return MachineAfterRun(**{field.name: getattr(end, field.name) for field in fields(MachineAfterRun)})


def as_mount(mount: MountSpec) -> Mount:
    """The agent's words in the JSON contract's."""
    return Mount(
        source=mount.source,
        target=mount.target,
        read_only=mount.read_only,
        volume_id=VolumeId(mount.volume_id) if mount.volume_id else None,
        origin=mount.origin,
    )


def as_newest(given: CheckpointStatus) -> NewestCheckpoint:
    """The agent's words in the JSON contract's."""
    return NewestCheckpoint(
        path=given.path or None,
        saved_at=moment(given.saved_at) if given.path else None,
        step=given.step,
        published_at=moment(given.published_at),
        sha256=given.sha256 or None,
        trouble=given.trouble,
        late_seconds=given.late_seconds,
    )


def as_hand_off(given: HandOffSpec) -> HandOff:
    """As the JSON contract shows it."""
    reached = {stage: moment(given.stages[stage]) for stage in HAND_OFF_STAGES if stage in given.stages}
    return HandOff(
        machine_ends_at=datetime.fromtimestamp(given.machine_ends_at, UTC),
        stages={stage: at for stage, at in reached.items() if at is not None},
        checkpoint=given.checkpoint,
        sha256=given.sha256,
        step=given.step,
        left=given.left,
        is_rehearsal=given.is_rehearsal,
    )


def moment(seconds: float | None) -> datetime | None:
    """A time of the agent's, in UTC."""
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None
