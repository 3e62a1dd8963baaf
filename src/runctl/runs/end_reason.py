"""What the end of an attempt means for the shell. Pure functions of the record."""

from __future__ import annotations

from runctl.agent.spec import EndReason, EndRecord

_REASON_CODES = {
    EndReason.OUT_OF_MEMORY: 137,
    EndReason.STOPPED: 143,
    EndReason.INTERRUPTED: 143,
    EndReason.MOVED: 143,
    EndReason.TIME_LIMIT: 124,
    EndReason.BUDGET: 124,
    EndReason.IDLE: 124,
    EndReason.NO_CAPACITY: 6,
    EndReason.LOST: 7,
}


def exit_code(end: EndRecord) -> int:
    """The code that ``--wait`` exits with; documented in docs/exit-codes.md.

    The script's own when it ended by itself; ``128 + N`` when signal N ended it; 124 for a limit, as in
    ``timeout(1)``; else the reason's.
    """
    if end.reason in {EndReason.COMPLETED, EndReason.FAILED}:
        if end.exit_code is not None:
            return end.exit_code
        if end.signal is not None:
            return 128 + end.signal
        return 0 if end.reason is EndReason.COMPLETED else 1
    return _REASON_CODES.get(end.reason, 1)


_SENTENCES = {
    EndReason.COMPLETED: "completed",
    EndReason.FAILED: "failed",
    EndReason.OUT_OF_MEMORY: "ran out of memory",
    EndReason.STOPPED: "was stopped",
    EndReason.TIME_LIMIT: "was ended at its time limit",
    EndReason.BUDGET: "was ended at its budget",
    EndReason.IDLE: "was ended because it was idle",
    EndReason.INTERRUPTED: "was interrupted",
    EndReason.MOVED: "left its machine",
    EndReason.LOST: "was lost: its machine was gone before it ended",
    EndReason.SETUP_FAILED: "never started: its dependencies could not be installed",
    EndReason.IMAGE_FAILED: "never started: its image could not be made",
    EndReason.DATA_FAILED: "had no access to its data",
    EndReason.DISK_FULL: "was ended by a full disk",
    EndReason.NO_CAPACITY: "found no machine",
    EndReason.NOT_STARTED: "never reached its machine",
}


_ON_REQUEST = "stopped on request"
"""The agent's message for what `runs stop` did: it says no more than the reason."""
_IN_THE_LOG = frozenset({EndReason.SETUP_FAILED, EndReason.IMAGE_FAILED, EndReason.DATA_FAILED})
"""Reasons that the agent itself gives, after what the failing program has said."""


def sentence(run_id: str, end: EndRecord, *, log_was_shown: bool = False) -> str:
    """For a person: what became of the run, and why.

    Why a script could not be started stands at the end of the log: where that was shown, it is not told again.
    """
    text = f"{run_id} {_SENTENCES[end.reason]}"
    if end.reason is EndReason.COMPLETED:
        return text
    if end.reason is EndReason.FAILED:
        if end.exit_code is not None:
            # "The script failed with exit code 7" says nothing new; that its program is missing does.
            why = "" if end.message.startswith("the script ") or not end.message else f" ({end.message})"
            return f"{text} with exit code {end.exit_code}{why}"
        if end.signal is not None:
            return f"{text}, ended by signal {end.signal}"
    told = log_was_shown and bool(end.log_sha256) and end.reason in _IN_THE_LOG
    told = told or end.message == _ON_REQUEST
    return f"{text} ({end.message})" if end.message and not told else text
