"""What the running command has changed outside this process, so that whoever ends it early can be told.

Whoever makes a call that changes something writes it here: before the call as under way, after it as done or refused.
A provider has one journal. The command line reads it when a command ends by Ctrl-C or with an error; the intents
(`runctl.machines.intents`) listen to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import MachineError, OutcomeUnknown, RunctlError
from runctl.core.waiting import attempts

SETTLE_TIMEOUT = timedelta(seconds=4)
"""How long `Journal.settle` looks for what an unanswered call may have made."""


class Effect(StrEnum):
    """What a change does."""

    CREATED = "made"
    """Something exists that did not: a volume, an attachment, a mount."""
    GONE = "gone"
    """Something does not exist any more."""
    CHANGED = "changed"
    """Something is different from before."""


class Standing(StrEnum):
    """How sure it is."""

    UNDER_WAY = "under-way"
    """The call was made and not answered: it may have been carried out."""
    DONE = "done"
    REFUSED = "refused"
    """The call was answered: nothing was changed."""


@dataclass(frozen=True)
class Change:
    """One change, as a person is told about it."""

    kind: str
    """``instance``, ``volume``, ``snapshot``, ``attachment``, ``mount``, …"""
    subject: tuple[str, ...]
    """The ids that it is about; empty while the provider has not named what it makes."""
    effect: Effect
    fact: str
    """A sentence without a full stop: "volume vol-0abc exists and is billed"."""
    check: str = ""
    """A command that shows whether it is so, where that is not certain."""
    go_on: str = ""
    """A command that finishes what was begun, where that is not the same command."""
    undo: str = ""
    """A command that takes it back; empty where nothing does."""
    token: str = ""
    """The client token of the call that makes it."""
    standing: Standing = Standing.DONE


Find = Callable[[], Change | None]
Listener = Callable[[Change], None]


class Entry:
    """A change that is under way. Only the journal makes one."""

    def __init__(self, journal: Journal, change: Change, find: Find | None) -> None:
        self.change = replace(change, standing=Standing.UNDER_WAY)
        self.find = find
        self._journal = journal

    def done(self, change: Change | None = None) -> None:
        """It was carried out; ``change`` is what is known now, such as the id."""
        self.change = replace(change or self.change, standing=Standing.DONE)
        self._journal.tell(self.change)

    def refused(self) -> None:
        """Nothing was changed."""
        self.change = replace(self.change, standing=Standing.REFUSED)
        self._journal.tell(self.change)


class Journal:
    """The changes of one command, in their order. Safe to write from several threads."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._listeners: list[Listener] = []
        self.reached_machines = False
        """A way to a machine was opened: what was done there is not all in here."""

    def begin(self, change: Change, find: Find | None = None) -> Entry:
        """The change is under way. ``find`` looks whether it was carried out, where no answer came."""
        entry = Entry(self, change, find)
        self._entries.append(entry)
        self.tell(entry.change)
        return entry

    def record(self, change: Change) -> None:
        """It is so."""
        self.begin(change).done()

    @contextmanager
    def changing(self, under_way: Change, done: Change) -> Iterator[None]:
        """Around one call to a machine: ``done`` after it, nothing where the machine refused it (`MachineError`).

        ``under_way`` stays where it ends by Ctrl-C or without an answer.
        """
        entry = self.begin(under_way)
        try:
            yield
        except MachineError:
            entry.refused()
            raise
        entry.done(done)

    @contextmanager
    def unfinished(self, change: Change) -> Iterator[None]:
        """The change is told of only where the block does not come to its end."""
        entry = self.begin(change)
        entry.change = replace(change, standing=Standing.DONE)
        yield
        self._entries.remove(entry)

    @contextmanager
    def calling(self, change: Change) -> Iterator[None]:
        """Around the one call that makes the change: made at the end of the block, not made where it was refused."""
        entry = self.begin(change)
        try:
            yield
        except OutcomeUnknown:
            raise
        except RunctlError:
            entry.refused()
            raise
        entry.done()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """``listener`` hears of every change from now on, as it begins and as it ends; the result stops that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, change: Change) -> None:
        """Every listener has heard of it."""
        for listener in tuple(self._listeners):
            listener(change)

    def changes(self) -> tuple[Change, ...]:
        """What is different now from before; see `net`."""
        return net([entry.change for entry in tuple(self._entries)])

    def settle(self, timeout: timedelta = SETTLE_TIMEOUT, clock: Clock | None = None) -> tuple[Change, ...]:
        """As `changes`, after looking for what unanswered calls have made; Ctrl-C and errors end the looking."""
        # Where the looking fails, or is interrupted, it stays "may exist", which is true.
        with suppress(KeyboardInterrupt, Exception):
            for _ in attempts(clock or SystemClock(), timeout):
                for entry in self._unanswered():
                    found = entry.find() if entry.find is not None else None
                    if found is not None:
                        entry.done(found)
                if not self._unanswered():
                    break
        return self.changes()

    def _unanswered(self) -> list[Entry]:
        return [e for e in self._entries if e.find is not None and e.change.standing is Standing.UNDER_WAY]


def net(changes: Sequence[Change]) -> tuple[Change, ...]:
    """What is left of them all: what was made and is gone again is not told, nor what hung on it. Pure."""
    left: list[Change] = []
    for change in changes:
        if change.standing is Standing.REFUSED:
            continue
        same = [c for c in left if change.subject and (c.kind, c.subject) == (change.kind, change.subject)]
        if change.standing is Standing.DONE:
            # Whatever was not certain before is settled by this.
            left = [c for c in left if c not in same or c.standing is Standing.DONE]
            same = [c for c in same if c.standing is Standing.DONE]
        if change.effect is Effect.CREATED and any(c.effect is Effect.CREATED for c in same):
            continue
        opposite = any({c.effect, change.effect} == {Effect.CREATED, Effect.GONE} for c in same)
        left = [c for c in left if c not in same]
        if change.effect is Effect.GONE and change.standing is Standing.DONE and len(change.subject) == 1:
            left = [c for c in left if change.subject[0] not in c.subject]
        if not opposite or change.standing is Standing.UNDER_WAY:
            left.append(change)
    return tuple(left)
