"""Why an attempt ended: a row for each reason, and what follows from it wherever somebody asks.

Whoever needs to know more of a reason than its name finds it here: a further reason is a further row.
"""

from __future__ import annotations

import enum

from runctl._dataclasses import dataclass


class Cause(enum.Enum):
    """Where the cause of an end lies."""

    SCRIPT = "script"
    """In what the script did."""
    REQUEST = "request"
    """Somebody asked for it, or set a limit that is reached: all machines of the run end, and no script is to blame."""
    MACHINE = "machine"
    """The machine is gone, or is about to be."""
    ENVIRONMENT = "environment"
    """The script did not get what it needs, or lost it. The log ends with what the failing program said."""
    NO_MACHINE = "no-machine"
    """There was none on which the script could have begun."""
    UNKNOWN = "unknown"
    """Nobody has seen it."""


@dataclass(frozen=True)
class Row:
    """What is known of a reason."""

    cause: Cause
    sentence: str
    """What became of the run, for a person, after its id."""
    exit_code: int | None = 1
    """Of a command that waits for the run, as in docs/exit-codes.md; ``None``: the script's own."""
    retried: bool = False
    """It says nothing about the script: the same attempt may well succeed on another machine. Any other would end in
    the same way again, or is what somebody wanted."""
    told_to_end: bool = False
    """The script is asked to end, on all machines of the run alike, and has its grace to save. What happened to one
    machine without a word stops the others."""
    errors: tuple[str, ...] = ()
    """The codes of the errors by which the agent ends an attempt so."""


class EndReason(str, enum.Enum):
    """Why an attempt ended. Closed: a reader that meets another word has met a newer agent."""

    _value_: str
    row: Row

    def __new__(cls, word: str, row: Row | None = None) -> EndReason:
        """A row of the table, by the word of the contract. A call with the word alone looks the row up, and does not
        come here."""
        if row is None:
            raise TypeError(f"{word} has no row")
        reason = str.__new__(cls, word)
        reason._value_ = word
        reason.row = row
        return reason

    COMPLETED = "COMPLETED", Row(Cause.SCRIPT, "completed", exit_code=None)
    FAILED = "FAILED", Row(Cause.SCRIPT, "failed", exit_code=None)
    OUT_OF_MEMORY = "OUT_OF_MEMORY", Row(Cause.SCRIPT, "ran out of memory", exit_code=137)
    STOPPED = "STOPPED", Row(Cause.REQUEST, "was stopped", exit_code=143, told_to_end=True)
    TIME_LIMIT = (
        "TIME_LIMIT",
        Row(Cause.REQUEST, "was ended at its time limit", exit_code=124, told_to_end=True),
    )
    BUDGET = "BUDGET", Row(Cause.REQUEST, "was ended at its budget", exit_code=124, told_to_end=True)
    IDLE = "IDLE", Row(Cause.REQUEST, "was ended because it was idle", exit_code=124, told_to_end=True)
    INTERRUPTED = (
        "INTERRUPTED",
        Row(Cause.MACHINE, "was interrupted", exit_code=143, retried=True, told_to_end=True),
    )
    LOST = (
        "LOST",
        Row(
            Cause.MACHINE,
            "was lost: its machine was gone before it ended",
            exit_code=7,
            retried=True,
            errors=("lost",),
        ),
    )
    UNSEEN = (
        "UNSEEN",
        Row(
            Cause.UNKNOWN,
            "has ended, nobody saw how: its machine, which was to end itself then, is gone with all that was on it",
            exit_code=7,
        ),
    )
    MOVED = "MOVED", Row(Cause.REQUEST, "left its machine", exit_code=143, retried=True, told_to_end=True)
    SETUP_FAILED = (
        "SETUP_FAILED",
        Row(
            Cause.ENVIRONMENT,
            "never started: its dependencies could not be installed",
            errors=("setup-failed",),
        ),
    )
    IMAGE_FAILED = (
        "IMAGE_FAILED",
        Row(
            Cause.ENVIRONMENT,
            "never started: its image could not be made",
            errors=("image-failed", "no-docker", "no-compose"),
        ),
    )
    DATA_FAILED = (
        "DATA_FAILED",
        Row(
            Cause.ENVIRONMENT,
            "had no access to its data",
            errors=("bad-mount", "cannot-mount", "cannot-write", "cannot-restore"),
        ),
    )
    DISK_FULL = "DISK_FULL", Row(Cause.SCRIPT, "was ended by a full disk", errors=("disk-full",))
    NO_CAPACITY = "NO_CAPACITY", Row(Cause.NO_MACHINE, "found no machine", exit_code=6, retried=True)
    NOT_STARTED = "NOT_STARTED", Row(Cause.NO_MACHINE, "never reached its machine", retried=True)


def _by(cause: Cause) -> frozenset[EndReason]:
    return frozenset(reason for reason in EndReason if reason.row.cause is cause)


RETRIED = frozenset(reason for reason in EndReason if reason.row.retried)
"""After these, another attempt may follow: see `Row.retried`."""
TOLD_TO_END = frozenset(reason for reason in EndReason if reason.row.told_to_end)
"""See `Row.told_to_end`."""
REQUESTED = _by(Cause.REQUEST)
MACHINE_GONE = _by(Cause.MACHINE)
NEVER_RAN = _by(Cause.NO_MACHINE)
BY_ERROR = {code: reason for reason in EndReason for code in reason.row.errors}
"""How an attempt ends by the code of the error that ends it."""
