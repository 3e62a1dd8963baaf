"""What becomes of a machine that was rented for a run once that has ended: what was asked for, and the decision. Pure.

Part of `runctl.agent.spec`'s contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Optional

from runctl._dataclasses import dataclass

READ_SECONDS = 20.0
"""How long a machine stays for whoever reads the end of the log, also where nobody is known to."""
UPLOADING = "its results are being uploaded"
NOT_UPLOADED = "its results could not be uploaded"
TAKEN_BACK_SECONDS = 600.0
"""How long a machine waits for its provider, which is taking it back, before it ends itself after all."""


@dataclass(frozen=True)
class GroupEnd:
    """The group that has rented the machine, and would replace it: ended by the machine, itself last."""

    group: str
    template: str = ""
    """What it starts machines by; empty: nothing that has to go."""
    others: tuple[str, ...] = ()
    """Other groups of the run, which end first."""
    on_demand: str = ""
    """The one of them that has no machine until a scheduled action gives it one, so that the run's deadline is kept."""


ON_DEMAND_ACTION = "runctl-on-demand"
"""The name of that action."""


@dataclass(frozen=True)
class MachineEnd:
    """When the machine ends itself. Every time counts from the run's end."""

    keep: bool = False
    """It stays until somebody ends it."""
    read_within_seconds: float = READ_SECONDS
    """Where results and log are safe elsewhere: how long it waits for somebody to say that they have read the end."""
    fetch_within_seconds: float = READ_SECONDS
    """Where they are on its own disk alone: how long it waits for somebody to fetch them."""
    keep_on_failure_seconds: float = 0.0
    """It stays this long after an end other than COMPLETED."""
    results_url: Optional[str] = None
    """``s3://bucket/prefix``, to which the machine uploads what the run wrote, below the run's id."""
    results_env: Mapping[str, str] = field(default_factory=dict)
    """Variables that lead there, where the machine's own do not."""
    group: Optional[GroupEnd] = None
    """``None``: the machine ends by shutting down."""


@dataclass(frozen=True)
class EndedRun:
    """What decides whether the machine of a run that has ended is needed any longer."""

    seconds: float
    """Since the run's end."""
    completed: bool
    taken_back: bool = False
    """The machine is being taken back by its provider, who alone is to end it."""
    fetched: bool = False
    """Somebody has said that they have everything they want of it."""
    read: bool = False
    """Somebody has said that they have read the end of the log."""
    uploaded: bool = False
    """What it wrote is at `MachineEnd.results_url`."""
    trouble: str = ""
    """Why it is not, in words, after a first try."""
    others: bool = False
    """Another run continues on the machine."""
    followed: bool = False
    """The machine's group lets another attempt follow, here or on another machine."""


@dataclass(frozen=True)
class Stay:
    """Why a machine has not ended itself."""

    why: str
    """In words, after "it stays because"."""
    seconds: Optional[float] = None
    """Until so many seconds after the run's end; ``None``: until something else changes."""


def why_it_stays(end: MachineEnd, run: EndedRun) -> Optional[Stay]:
    """``None``: it ends itself now."""
    if end.keep:
        return Stay("it is to be kept")
    if run.others:
        return Stay("another run continues on it")
    if run.followed:
        return Stay("another attempt of the run follows")
    if run.taken_back:
        return _until(run, "its provider takes it back", TAKEN_BACK_SECONDS)
    reasons = []
    if run.uploaded and not (run.read or run.fetched):
        reasons.append(("somebody may be reading the end of the log", end.read_within_seconds))
    elif not run.uploaded and not run.fetched:
        why = "its results have not been fetched"
        if end.results_url is not None:
            why = f"{NOT_UPLOADED}: {run.trouble}" if run.trouble else UPLOADING
        reasons.append((why, end.fetch_within_seconds))
    if not run.completed:
        reasons.append(("the run did not complete", end.keep_on_failure_seconds))
    return max(
        (stay for stay in (_until(run, *reason) for reason in reasons) if stay is not None),
        key=lambda stay: stay.seconds or 0.0,
        default=None,
    )


def _until(run: EndedRun, why: str, seconds: float) -> Optional[Stay]:
    return Stay(why, seconds) if run.seconds < seconds else None
