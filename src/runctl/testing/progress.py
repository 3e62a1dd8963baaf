"""A progress that remembers what it was told."""

from __future__ import annotations

from dataclasses import field

from runctl._dataclasses import dataclass


@dataclass
class RecordedProgress:
    """Implements `runctl.core.progress.Progress`."""

    steps: list[str] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def step(self, message: str) -> None:
        """Remembered in `steps`."""
        self.steps.append(message)

    def update(self, message: str = "", *, done: int | None = None, total: int | None = None) -> None:
        """Remembered in `updates`, counts as ``done/total``."""
        self.updates.append(message or f"{done}/{total}")

    def note(self, message: str) -> None:
        """Remembered in `notes`."""
        self.notes.append(message)

    def detail(self, message: str) -> None:
        """Remembered in `details`."""
        self.details.append(message)

    def warn(self, message: str) -> None:
        """Remembered in `warnings`."""
        self.warnings.append(message)
