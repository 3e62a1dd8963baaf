"""What is about to be rented or made is written down before the call, so that the same command can finish it.

One row for each thing, durable before AWS hears of it: who wants what, where, and the client token of the call. The
thing itself carries the token in the tag `runctl.core.tags.INTENT`, set in the call that makes it. After a crash, a
kill or Ctrl-C the row is still open: the same request, made again, takes it up with the same token and so gets the
same thing. While the command that opened it still runs, it holds a lock on it, and the same request from a second shell
is a new intent: somebody who starts a command twice at a time wants two things.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, is_dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from runctl._dataclasses import dataclass
from runctl.core.clock import parse_rfc3339
from runctl.core.database import Database, StateError
from runctl.core.journal import Change, Effect, Standing

LIVES_UNSEEN = timedelta(hours=1)
"""How long a call that has left nothing to be seen may still be answered by something; then its token is given up."""
LIVES_AS_A_COPY = timedelta(minutes=10)
"""How long a snapshot or a clone that was begun is what the same command means: it has the data of its own moment."""


class Kind(StrEnum):
    """What is made, or deleted: see `runctl.machines.deletion`."""

    INSTANCE = "instance"
    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    CLONE = "clone"
    """A volume that is a copy of another one, as that is at this moment."""
    MOVE = "move"
    """A volume that takes another one's data to another zone."""
    NODES = "nodes"
    """Several machines for one run, rented by one call; ``resource_id`` is one of them."""
    GROUP = "group"
    """What rents the machines of a run that nobody watches."""
    VOLUME_DELETION = "volume-deletion"
    SNAPSHOT_DELETION = "snapshot-deletion"
    TERMINATION = "termination"

    @property
    def is_deletion(self) -> bool:
        """Whether something is deleted, not made."""
        return self in {Kind.VOLUME_DELETION, Kind.SNAPSHOT_DELETION, Kind.TERMINATION}


class IntentState(StrEnum):
    """What has become of an intent."""

    OPEN = "open"
    """The thing may exist; the same command finishes it."""
    DONE = "done"
    """The command has done all that was asked."""
    NOTHING = "nothing"
    """The provider refused: nothing was made."""
    GONE = "gone"
    """The thing was made, and does not exist any more."""


@dataclass(frozen=True)
class Intent:
    """One thing that is to be made."""

    token: str
    """The client token of the call, and the value of the tag on the thing."""
    kind: Kind
    provider: str
    account: str | None
    region: str | None
    digest: str
    """Of the request; the same command has the same one."""
    name: str | None
    project: str | None
    created_at: datetime
    state: IntentState = IntentState.OPEN
    resource_id: str | None = None
    """What the provider calls the thing; ``None`` while that is not known."""


_COLUMNS = tuple(field.name for field in fields(Intent))


def digest_of(kind: Kind, scope: Mapping[str, Any], request: Any) -> str:
    """The same for the same request at the same provider, account and region with the same configuration. Pure."""
    values = asdict(request) if is_dataclass(request) and not isinstance(request, type) else request
    if isinstance(values, dict):
        values = {key: value for key, value in values.items() if key != "token"}
    text = json.dumps([kind.value, type(request).__name__, scope, values], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def is_worth_taking_up(intent: Intent, now: datetime, *, seen: bool) -> bool:
    """Whether the same command means this open intent; ``seen``: its thing exists. Pure."""
    age = now - intent.created_at
    if intent.kind in {Kind.SNAPSHOT, Kind.CLONE} and age > LIVES_AS_A_COPY:
        return False
    return seen or (intent.resource_id is None and age <= LIVES_UNSEEN)


class Lock:
    """The right to carry an intent out. It ends with the process, however that ends."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file

    def release(self, *, for_good: bool) -> None:
        """Somebody else may take it up; ``for_good``: there is nothing left to take up."""
        if for_good:
            self._path.unlink(missing_ok=True)
        self._file.close()


class IntentStore:
    """The intents in the local state file."""

    def __init__(self, database: Database, folder: Path) -> None:
        """``folder`` is for the locks of those that are being carried out."""
        self._database = database
        self._folder = folder
        self._listeners: list[Callable[[Intent], None]] = []

    def listen(self, listener: Callable[[Intent], None]) -> None:
        """``listener`` hears of every intent after each time it was written: a ledger, say."""
        self._listeners.append(listener)

    def put(self, intent: Intent) -> None:
        """The intent is in the file, whatever happens to this computer. Raises `StateError`."""
        row = {name: getattr(intent, name) for name in _COLUMNS} | {
            "created_at": intent.created_at.isoformat()
        }
        names, marks = ", ".join(_COLUMNS), ", ".join(f":{name}" for name in _COLUMNS)
        with self._database.transaction() as connection:
            connection.execute(f"INSERT OR REPLACE INTO intents ({names}) VALUES ({marks})", row)  # noqa: S608
        for listener in self._listeners:
            listener(intent)

    def get(self, token: str) -> Intent | None:
        """One intent by its token."""
        return next(iter(self._select("token = ?", token)), None)

    def unfinished(self) -> Sequence[Intent]:
        """Every open one, newest first: what a cleanup looks through."""
        return self._select("state = ?", IntentState.OPEN.value)

    def open_with(self, digest: str) -> Sequence[Intent]:
        """The open ones of the same request, newest first."""
        return [intent for intent in self.unfinished() if intent.digest == digest]

    def about(self, kind: Kind, reference: str) -> Sequence[Intent]:
        """Those of a kind whose resource has, or had, exactly this name or id, newest first."""
        return [
            intent
            for intent in self._select("kind = ?", kind.value)
            if reference in {intent.name, intent.resource_id}
        ]

    def close(self, state: IntentState, resource_id: str, token: str | None = None) -> None:
        """The open intents that made this thing are over: those that know its id, and the one whose token it carries.

        A command that was killed has not heard the id.
        """
        for intent in self._select("resource_id = ?", resource_id) + self._select("token = ?", token or ""):
            # What is finished being made says nothing about an unfinished deletion of it.
            kept = intent.kind.is_deletion and state is IntentState.DONE
            if intent.state is IntentState.OPEN and not kept:
                self.put(replace(intent, state=state, resource_id=resource_id))
                self._lock_path(intent.token).unlink(missing_ok=True)

    def heard(self, change: Change) -> None:
        """For a provider's journal: what an intent has made is known by its id; what is gone, nobody has to finish.

        A state file that cannot be written changes nothing about that: the next look finds it out.
        """
        if (
            change.standing is Standing.DONE
            and change.effect is Effect.CREATED
            and change.token
            and change.subject
        ):
            with suppress(StateError):
                intent = self.get(change.token)
                if intent is not None and intent.resource_id is None and intent.state is IntentState.OPEN:
                    self.put(replace(intent, resource_id=change.subject[0]))
        # A machine that was stopped is GONE too, as one that runs: it is still there.
        if (
            change.standing is Standing.DONE
            and change.effect is Effect.GONE
            and change.kind in {"instance", "volume", "snapshot"}
        ):
            with suppress(StateError):
                for identifier in change.subject if len(change.subject) == 1 else ():
                    self.close(IntentState.GONE, identifier)

    def end(self, token: str, state: IntentState) -> None:
        """The intent of that token is over, where it was open. Raises `StateError`."""
        intent = self.get(token)
        if intent is not None and intent.state is IntentState.OPEN:
            self.put(replace(intent, state=state))
            self._lock_path(token).unlink(missing_ok=True)

    def lock(self, token: str) -> Lock | None:
        """The right to carry it out; ``None`` while somebody else has it. Raises `StateError`."""
        path = self._lock_path(token)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = path.open("ab")
        except OSError as error:
            raise StateError(
                f"the intent to create cannot be written to {path.parent}: {error.strerror}",
                hint="check its permissions and the disk's free space; nothing was created",
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return Lock(path, file)

    def _lock_path(self, token: str) -> Path:
        return self._folder / f"{token}.lock"

    def _select(self, condition: str, value: str) -> list[Intent]:
        query = f"SELECT * FROM intents WHERE {condition} ORDER BY created_at DESC, token"  # noqa: S608
        with self._database.transaction() as connection:
            return [_from_row(row) for row in connection.execute(query, (value,)).fetchall()]


def _from_row(row: sqlite3.Row) -> Intent:
    values = {name: row[name] for name in _COLUMNS}
    values |= {"kind": Kind(row["kind"]), "state": IntentState(row["state"])}
    values["created_at"] = parse_rfc3339(row["created_at"])
    return Intent(**values)


@dataclass(frozen=True)
class Sighting:
    """What the provider shows of an intent's thing."""

    resource_id: str | None = None
    """``None``: there is none that can still be used."""
    ended: bool = False
    """It was there, and has ended."""


See = Callable[[Intent], Sighting]
"""Looks for an intent's thing."""


@contextmanager
def taken_up(
    store: IntentStore, digest: str, now: datetime, see: See
) -> Iterator[tuple[Intent | None, Lock | None]]:
    """The open intent of the same request that is to be finished, with its lock; ``None`` where there is none.

    Those that cannot be finished any more are closed. After the block the lock is free, whatever happened.
    """
    try:
        candidates = store.open_with(digest)
    except StateError:
        # A file that cannot be read has nothing to take up; what is to be made new says that it cannot be written.
        candidates = []
    for intent in candidates:
        lock = store.lock(intent.token)
        if lock is None:
            continue
        try:
            current = store.get(intent.token)
            if current is not None and current.state is IntentState.OPEN:
                sighting = see(current)
                identifier = sighting.resource_id
                if not sighting.ended and is_worth_taking_up(current, now, seen=identifier is not None):
                    yield replace(current, resource_id=identifier), lock
                    return
                store.put(replace(current, state=_given_up(current, sighting), resource_id=identifier))
        finally:
            lock.release(for_good=False)
    yield None, None


def _given_up(intent: Intent, sighting: Sighting) -> IntentState:
    """What has become of an intent that nobody will finish. Pure."""
    if sighting.resource_id is not None:
        return IntentState.DONE
    was_there = sighting.ended or intent.resource_id is not None
    return IntentState.GONE if was_there else IntentState.NOTHING
