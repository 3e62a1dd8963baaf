"""What the agent answers when it cannot do what it was asked: a stable code, a sentence and a hint."""

from __future__ import annotations

from typing import Dict


class AgentError(Exception):
    """Goes to the command line as ``{"error": {"code", "message", "hint"}}``.

    ``code`` is stable; ``message`` says what happened to what; ``hint`` what to do next, or is empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def to_json(self) -> Dict[str, str]:
        """The object under ``error``."""
        return {"code": self.code, "message": self.message, "hint": self.hint}
