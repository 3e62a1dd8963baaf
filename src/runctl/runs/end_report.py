"""What the end of a run is to the shell, and to a person. Pure functions of the record."""

from __future__ import annotations

from runctl.agent.end_reason import Cause, EndReason
from runctl.agent.spec import EndRecord


def exit_code(end: EndRecord) -> int:
    """The code that ``--wait`` exits with; documented in docs/exit-codes.md.

    The script's own when it ended by itself; ``128 + N`` when signal N ended it; 124 for a limit, as in
    ``timeout(1)``; else the reason's.
    """
    if end.reason.row.exit_code is not None:
        return end.reason.row.exit_code
    if end.exit_code is not None:
        return end.exit_code
    if end.signal is not None:
        return 128 + end.signal
    return 0 if end.reason is EndReason.COMPLETED else 1


_ON_REQUEST = "stopped on request"
"""The agent's message for what `runs stop` did: it says no more than the reason."""


def sentence(run_id: str, end: EndRecord, *, log_was_shown: bool = False) -> str:
    """For a person: what became of the run, and why.

    Why a script could not be started stands at the end of the log: where that was shown, it is not told again.
    """
    text = f"{run_id} {end.reason.row.sentence}"
    if end.reason is EndReason.COMPLETED:
        return text
    if end.reason is EndReason.FAILED:
        if end.exit_code is not None:
            # "The script failed with exit code 7" says nothing new; that its program is missing does.
            why = "" if end.message.startswith("the script ") or not end.message else f" ({end.message})"
            return f"{text} with exit code {end.exit_code}{why}"
        if end.signal is not None:
            return f"{text}, ended by signal {end.signal}"
    told = log_was_shown and bool(end.log_sha256) and end.reason.row.cause is Cause.ENVIRONMENT
    told = told or end.message == _ON_REQUEST
    return f"{text} ({end.message})" if end.message and not told else text
