"""What a command that ended early has left behind, and how to go on or take it back: for people and for programs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core.journal import Change, Effect, Journal, Standing

DELETED = frozenset({"volume", "snapshot", "images"})


@dataclass(frozen=True)
class Left:
    """The changes of one invocation."""

    changes: tuple[Change, ...] = ()
    nothing: bool = False
    """It is certain that nothing was changed."""

    @classmethod
    def of(cls, journals: Sequence[tuple[Journal, Sequence[str]]]) -> Left:
        """From each provider's journal, and the options that a command about the same account and region needs.

        Looks for a moment after what unanswered calls have made.
        """
        changes = tuple(
            _complete(change, options) for journal, options in journals for change in journal.settle()
        )
        asked_only = bool(journals) and not any(journal.reached_machines for journal, _ in journals)
        return cls(changes, nothing=asked_only and not changes)

    @property
    def goes_on(self) -> bool:
        """Whether giving the command again has a meaning: what was deleted cannot be named any more."""
        return not all(
            change.effect is Effect.GONE and change.standing is Standing.DONE and change.kind in DELETED
            for change in self.changes
        )

    def untold(self, text: str) -> tuple[Change, ...]:
        """Those that an error's own text says nothing of."""
        return tuple(
            change
            for change in self.changes
            if change.fact not in text and not (change.undo and change.undo in text)
        )

    def documents(self) -> list[dict[str, Any]]:
        """For the JSON error."""
        return [
            {
                "kind": change.kind,
                "ids": list(change.subject),
                "effect": change.effect.value,
                "certain": change.standing is Standing.DONE,
                "fact": change.fact,
                "look": change.check or None,
                "go_on": change.go_on or None,
                "undo": change.undo or None,
            }
            for change in self.changes
        ]


def _complete(change: Change, options: Sequence[str]) -> Change:
    more = " " + shlex.join(options) if options else ""
    commands = {name: getattr(change, name) for name in ("check", "go_on", "undo")}
    return replace(change, **{name: text + more for name, text in commands.items() if text})


def line_of(change: Change) -> str:
    """One change as a line for a person."""
    parts = [change.fact]
    if change.check:
        parts.append(f"check: {change.check}")
    if change.go_on:
        parts.append(f"go on: {change.go_on}")
    if change.undo:
        parts.append(f"undo: {change.undo}")
    return "so far: " + "; ".join(parts)
