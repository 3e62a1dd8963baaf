"""Why an attempt ended: a pure decision over what was seen."""

from __future__ import annotations

import signal as signals

from runctl._dataclasses import dataclass
from runctl.agent.end_reason import EndReason

SIGKILL = int(signals.SIGKILL)


@dataclass(frozen=True)
class Facts:
    """What is known about a script that has ended."""

    exit_code: int | None
    signal: int | None
    requested: EndReason | None = None
    """Why we told it to end, if we did before it ended by itself."""
    requested_message: str = ""
    killed: bool = False
    """The grace was not enough."""
    oom_kills: int = 0
    """Processes of this run that the kernel's out-of-memory killer is known to have taken."""
    machine_oom_kills: int = 0
    """The same anywhere on the machine meanwhile: evidence only beside a SIGKILL that nobody else sent."""
    says_no_space: bool = False
    """The last lines of the log speak of a full disk."""
    ends_with_no_space: bool = False
    """The very last line of the log does."""
    disk_full: str | None = None
    """A disk of the run that has no room left, for a person."""
    volume_lost: str | None = None
    """A volume that was taken away, for a person."""
    lost_writable: bool = False
    """The run might have written to it."""
    volume_read_only: str | None = None
    """A volume that has become read-only under the run, for a person."""
    says_read_only: bool = False
    """The last lines of the log speak of a read-only file system."""


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; the number for those without a name."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def decide_end(facts: Facts) -> tuple[EndReason, str]:
    """The reason and a sentence for a person."""
    if facts.requested is not None:
        how = "; it had to be killed when its grace was over" if facts.killed else ""
        return facts.requested, (facts.requested_message or "the run was told to end") + how
    if facts.volume_lost and (facts.exit_code != 0 or facts.lost_writable):
        return EndReason.DATA_FAILED, f"{facts.volume_lost} ({_how(facts)})"
    if facts.exit_code == 0:
        return EndReason.COMPLETED, _how(facts) + _also(facts.volume_read_only)
    was_killed = SIGKILL in (facts.signal, (facts.exit_code or 0) - 128)
    if facts.oom_kills or (was_killed and facts.machine_oom_kills):
        return (
            EndReason.OUT_OF_MEMORY,
            "the machine ran out of memory and the kernel killed the training",
        )
    if facts.says_no_space and (facts.disk_full or facts.ends_with_no_space):
        where = f" ({facts.disk_full} has no room left)" if facts.disk_full else ""
        return EndReason.DISK_FULL, "the script failed because a disk is full" + where
    if facts.volume_read_only and facts.says_read_only:
        return EndReason.DATA_FAILED, f"{facts.volume_read_only} ({_how(facts)})"
    full = f"{facts.disk_full} has no room left" if facts.disk_full else None
    return EndReason.FAILED, _how(facts) + _also(full) + _also(facts.volume_read_only)


def _how(facts: Facts) -> str:
    if facts.signal is not None:
        return f"the script was ended by {signal_name(facts.signal)}"
    verb = "failed" if facts.exit_code else "ended"
    return f"the script {verb} with exit code {facts.exit_code}"


def _also(fact: str | None) -> str:
    return "; " + fact if fact else ""
