"""Passwords that open something for a while: what GetAuthorizationToken hands out, and the links to layers."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

PASSWORD_BYTES = 1200
"""As long as ECR's: what breaks on long passwords should break here."""


class UnknownToken(Exception):
    """This password was never issued."""


class ExpiredToken(Exception):
    """It has expired."""


class Tokens(Generic[T]):
    """Passwords, and what each of them stands for."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: dict[str, tuple[T, float]] = {}
        self._lock = threading.Lock()

    def issue(self, meaning: T, seconds: float) -> tuple[str, float]:
        """A new password for ``meaning``, and when it ends, in seconds since the epoch."""
        password, until = secrets.token_urlsafe(PASSWORD_BYTES), self._clock() + seconds
        with self._lock:
            self._known[password] = (meaning, until)
        return password, until

    def meaning(self, password: str) -> T:
        """What it was issued for. Raises `UnknownToken`, `ExpiredToken`."""
        with self._lock:
            known = self._known.get(password)
        if known is None:
            raise UnknownToken
        if known[1] <= self._clock():
            raise ExpiredToken
        return known[0]
