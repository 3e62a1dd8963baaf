"""What the agent answers when it cannot do what it was asked: a stable code, a sentence and a hint."""

from __future__ import annotations


class AgentError(Exception):
    """Goes to the command line as ``{"error": {"code", "message", "hint"}}``.

    ``code`` is stable; ``message`` says what happened to what; ``hint`` what to do next, or is empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def to_json(self) -> dict[str, str]:
        """The object under ``error``."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


def unexpected(verb: str, error: Exception) -> dict[str, str]:
    """The object under ``error`` for what is no `AgentError`: a full disk, or a mistake of ours."""
    import errno
    import traceback

    where = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return {
            "code": "disk-full",
            "message": f"the machine's disk is full: {error}",
            "hint": "free some space",
        }
    message = "the agent's {} failed: {}: {} ({}:{})".format(
        verb, type(error).__name__, error, where.filename.rpartition("/")[2], where.lineno
    )
    return {"code": "agent-failed", "message": message, "hint": "please report this"}


def counted(number: int, thing: str) -> str:
    """``1 file``, ``1,200 files``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
