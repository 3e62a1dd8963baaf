"""What comes of recovering a run."""

from __future__ import annotations

from enum import Enum

from runctl._dataclasses import dataclass
from runctl.core.errors import Conflict, Unreachable
from runctl.core.machine_models import Market
from runctl.runs.records.run_record import RunRecord


class Outcome(Enum):
    """What has come of recovering a run."""

    STARTED = "started"
    """The next attempt has been taken up by its machine."""
    GOES_ON = "goes-on"
    """The run has not ended, or nobody can say that it has."""
    ENDED = "ended"
    """It has ended, and there is no further attempt."""
    NO_CAPACITY = "no-capacity"
    """No machine was to be had now."""


@dataclass(frozen=True)
class Recovered:
    """A run after somebody has looked whether it needs another attempt."""

    record: RunRecord
    outcome: Outcome
    why: str = ""
    """For a person, after the run's id."""
    rented_on: frozenset[Market] = frozenset()
    """The markets on which something was rented for it in vain, and given back."""


class BeingRecovered(Conflict):
    """Another process of this computer recovers the run."""

    code = "being-recovered"


class StoreAway(Unreachable):
    """The run's store does not answer, and the attempt that was about to begin has not begun: nothing has failed on the
    machines that were ready for it."""
