"""How library code reports what it is doing without printing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a person sees of work in progress. The command line writes it to stderr; the default is silent."""

    def step(self, message: str) -> None:
        """A new step begins: "waiting for i-0abc to run". Ends the one before."""
        ...

    def update(self, message: str = "", *, done: int | None = None, total: int | None = None) -> None:
        """The current step goes on; ``done`` of ``total`` where there is a count (bytes or files)."""
        ...

    def note(self, message: str) -> None:
        """A fact worth a line of its own, shown unless ``--quiet``."""
        ...

    def detail(self, message: str) -> None:
        """A fact shown under ``--verbose``."""
        ...

    def warn(self, message: str) -> None:
        """Something a person should know; always shown."""
        ...


class Silent:
    """Reports nothing."""

    def step(self, message: str) -> None:
        """Ignored."""

    def update(self, message: str = "", *, done: int | None = None, total: int | None = None) -> None:
        """Ignored."""

    def note(self, message: str) -> None:
        """Ignored."""

    def detail(self, message: str) -> None:
        """Ignored."""

    def warn(self, message: str) -> None:
        """Ignored."""


SILENT: Progress = Silent()
