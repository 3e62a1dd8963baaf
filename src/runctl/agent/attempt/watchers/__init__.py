"""The watchers of an attempt: what may end it from outside of its script, one module for each cause."""

from __future__ import annotations

from runctl.agent.attempt.watchers.checkpoint_clock import CheckpointClock
from runctl.agent.attempt.watchers.held_lease import LeaseWatch
from runctl.agent.attempt.watchers.interface import Watched, Watcher
from runctl.agent.attempt.watchers.interruption_notice import InterruptionNotice
from runctl.agent.attempt.watchers.lost_volume import LostVolume
from runctl.agent.attempt.watchers.machine_limit import MachineLimit
from runctl.agent.attempt.watchers.other_nodes import OtherNodes
from runctl.agent.attempt.watchers.planned_shutdown import PlannedShutdown
from runctl.agent.attempt.watchers.rebalance import RebalanceRecommendation
from runctl.agent.attempt.watchers.stop_file import StopFile
from runctl.agent.attempt.watchers.supervisor_signal import SupervisorSignal
from runctl.agent.attempt.watchers.time_limit import TimeLimit

WATCHERS = (
    StopFile,
    InterruptionNotice,
    SupervisorSignal,
    LostVolume,
    LeaseWatch,
    TimeLimit,
    MachineLimit,
    OtherNodes,
    PlannedShutdown,
    RebalanceRecommendation,
    CheckpointClock,
)
"""In the order in which they are asked; the first that has a request decides why the attempt ends."""


def watchers(watched: Watched) -> list[Watcher]:
    """One of each kind for this attempt."""
    return [kind(watched) for kind in WATCHERS]
