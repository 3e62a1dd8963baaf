"""What can go wrong while a volume is filled, with a stable code and what to do next."""

from __future__ import annotations


class FillError(Exception):
    """Something a person must know of; ends the program with exit code 1."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
