"""The local state: one SQLite file. A cache and a ledger; deleting it loses history, never control."""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from runctl.core.errors import RunctlError
from runctl.core.files import make_private_file, make_private_folder

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        provider TEXT NOT NULL,
        region TEXT,
        instance_id TEXT NOT NULL,
        project TEXT NOT NULL,
        script TEXT NOT NULL,
        args TEXT NOT NULL,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        end_reason TEXT,
        exit_code INTEGER,
        message TEXT NOT NULL DEFAULT '',
        created_at TEXT NOT NULL,
        started_at TEXT,
        ended_at TEXT,
        mounts TEXT NOT NULL,
        image TEXT,
        instance_type TEXT,
        market TEXT,
        price_per_hour TEXT,
        checkpoint_dir TEXT,
        output_dir TEXT
    ) STRICT;
    CREATE INDEX runs_by_creation ON runs (created_at);
    CREATE INDEX runs_by_instance ON runs (instance_id);
    """,
    "ALTER TABLE runs ADD COLUMN clock_ahead REAL NOT NULL DEFAULT 0",
    """
    ALTER TABLE runs ADD COLUMN name TEXT;
    ALTER TABLE runs ADD COLUMN instance_name TEXT;
    ALTER TABLE runs ADD COLUMN interpreter TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE runs ADD COLUMN workdir TEXT;
    ALTER TABLE runs ADD COLUMN timeout_seconds REAL;
    ALTER TABLE runs ADD COLUMN image_digest TEXT;
    ALTER TABLE runs ADD COLUMN variables TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE runs ADD COLUMN git TEXT;
    CREATE INDEX runs_by_name ON runs (name);
    """,
    """
    ALTER TABLE runs ADD COLUMN saved_volume TEXT;
    ALTER TABLE runs ADD COLUMN saved_folder TEXT;
    ALTER TABLE runs ADD COLUMN log_bytes INTEGER;
    ALTER TABLE runs ADD COLUMN log_sha256 TEXT;
    """,
    """
    CREATE TABLE intents (
        token TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        provider TEXT NOT NULL,
        account TEXT,
        region TEXT,
        digest TEXT NOT NULL,
        name TEXT,
        project TEXT,
        created_at TEXT NOT NULL,
        state TEXT NOT NULL,
        resource_id TEXT
    ) STRICT;
    CREATE INDEX intents_by_state ON intents (state);
    CREATE INDEX intents_by_resource ON intents (resource_id);
    """,
    "ALTER TABLE runs ADD COLUMN hand_off TEXT",
    """
    ALTER TABLE runs ADD COLUMN machine_end TEXT;
    ALTER TABLE runs ADD COLUMN results TEXT;
    """,
    """
    ALTER TABLE runs ADD COLUMN zone TEXT;
    ALTER TABLE runs ADD COLUMN checkpoint TEXT;
    ALTER TABLE runs ADD COLUMN resumed TEXT;
    ALTER TABLE runs ADD COLUMN past TEXT NOT NULL DEFAULT '[]';
    CREATE TABLE recipes (
        run_id TEXT PRIMARY KEY,
        kept_at TEXT NOT NULL,
        tree TEXT,
        recipe TEXT NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE pool_events (
        id INTEGER PRIMARY KEY,
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        kind TEXT NOT NULL,
        instance_type TEXT NOT NULL,
        zone TEXT NOT NULL,
        market TEXT NOT NULL,
        at TEXT NOT NULL,
        instance_id TEXT,
        reason TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX pool_events_of_instances ON pool_events (instance_id, kind);
    CREATE INDEX pool_events_by_time ON pool_events (at);
    """,
    """
    ALTER TABLE runs ADD COLUMN store TEXT;
    """,
    """
    ALTER TABLE runs ADD COLUMN fallback TEXT;
    ALTER TABLE runs ADD COLUMN moved_volumes TEXT NOT NULL DEFAULT '[]';
    """,
    """
    CREATE TABLE ledger (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        resource_id TEXT,
        token TEXT,
        opened_at INTEGER NOT NULL,
        state TEXT NOT NULL,
        in_sandbox INTEGER NOT NULL,
        machine TEXT,
        part TEXT NOT NULL,
        zone TEXT,
        shape TEXT NOT NULL,
        market TEXT NOT NULL,
        project TEXT,
        owner TEXT,
        name TEXT,
        run_id TEXT,
        attempt INTEGER,
        minimum_seconds INTEGER NOT NULL,
        seen_at INTEGER,
        ended_at INTEGER,
        end_reason TEXT NOT NULL,
        taken_back INTEGER NOT NULL,
        estimated INTEGER NOT NULL,
        expected TEXT,
        over_budget INTEGER NOT NULL,
        began_at INTEGER,
        total INTEGER,
        list_total INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX ledger_by_resource ON ledger (provider, account, resource_id);
    CREATE UNIQUE INDEX ledger_by_part ON ledger (provider, account, machine, part) WHERE machine IS NOT NULL;
    CREATE UNIQUE INDEX ledger_by_token ON ledger (token);
    CREATE INDEX ledger_by_state ON ledger (state);
    CREATE INDEX ledger_by_end ON ledger (ended_at);
    CREATE TABLE ledger_intervals (
        entry INTEGER NOT NULL,
        number INTEGER NOT NULL,
        began INTEGER NOT NULL,
        ended INTEGER,
        usd TEXT,
        per TEXT NOT NULL,
        list_usd TEXT,
        continues INTEGER NOT NULL,
        PRIMARY KEY (entry, number)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE runs ADD COLUMN progress TEXT;
    ALTER TABLE runs ADD COLUMN deadline TEXT;
    ALTER TABLE runs ADD COLUMN lead_seconds REAL;
    """,
    """
    CREATE TABLE ledger_days (
        entry INTEGER NOT NULL,
        day TEXT NOT NULL,
        total INTEGER NOT NULL,
        list_total INTEGER NOT NULL,
        PRIMARY KEY (entry, day)
    ) STRICT, WITHOUT ROWID;
    UPDATE ledger SET total = NULL, list_total = NULL;
    CREATE INDEX ledger_by_beginning ON ledger (began_at);
    CREATE INDEX ledger_by_id ON ledger (resource_id);
    CREATE INDEX ledger_by_machine ON ledger (machine);
    CREATE INDEX ledger_by_run ON ledger (run_id);
    """,
    """
    ALTER TABLE runs ADD COLUMN unattended TEXT;
    """,
    """
    ALTER TABLE runs ADD COLUMN nodes TEXT;
    """,
    """
    CREATE INDEX ledger_by_life ON ledger (in_sandbox, ended_at, began_at, estimated, total, project, owner);
    """,
    """
    ALTER TABLE runs ADD COLUMN search_began_at TEXT;
    """,
    "ALTER TABLE runs ADD COLUMN account TEXT",
    "ALTER TABLE runs ADD COLUMN signal INTEGER",
    "ALTER TABLE runs ADD COLUMN fetched TEXT",
)
"""Each is applied once, in order; the file's ``user_version`` counts them. Never edit one that was released."""


LOCK_TIMEOUT = 10.0
"""Seconds: as long is waited for another command that has the file for itself."""


class StateError(RunctlError):
    """The state file cannot be used; the message names it."""

    code = "state"


class Database:
    """A connection that is opened when it is first needed, at the newest schema."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._one_at_a_time = threading.RLock()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it is committed, or none; threads take turns. Raises `StateError` when the file cannot be used."""
        with self._one_at_a_time, self._transaction() as connection:
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error
        try:
            yield connection
        except sqlite3.Error as error:
            connection.rollback()
            raise self._unusable(error) from error
        except BaseException:
            connection.rollback()
            raise
        try:
            connection.commit()
        except sqlite3.Error as error:
            connection.rollback()
            raise self._unusable(error) from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """What is there now; also where nothing can be written, as on a disk that is mounted read-only.

        Raises `StateError` when the file cannot be read, or is of another version and cannot be brought up to date.
        """
        try:
            connection = self._open()
        except (sqlite3.Error, OSError) as error:
            if _is_busy(error):
                raise self._unusable(error) from error
            connection = self._open_read_only(error)
        try:
            yield connection
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _open_read_only(self, why: Exception) -> sqlite3.Connection:
        try:
            if self.path.exists():
                connection = self._as_it_is()
                connection.row_factory = sqlite3.Row
                version = int(connection.execute("PRAGMA user_version").fetchone()[0])
                if version != len(MIGRATIONS):
                    connection.close()
                    raise self._unusable(why) from why
                return connection
            connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            self._migrate(connection)
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error
        return connection

    def _as_it_is(self) -> sqlite3.Connection:
        """Without a writable folder there is no room for the files of a shared WAL: the file is taken as it is.

        Where a killed command has left its WAL, the newest rows are in that; without the file that goes with it, SQLite
        opens it only where it may write.
        """
        wal, shared = (self.path.with_name(f"{self.path.name}-{kind}") for kind in ("wal", "shm"))
        if not (wal.exists() and wal.stat().st_size):
            return _connected(f"{self.path.as_uri()}?immutable=1")
        if shared.exists():
            return _connected(f"{self.path.as_uri()}?mode=ro")
        import shutil
        import tempfile

        found = _connected(":memory:")
        with tempfile.TemporaryDirectory() as folder:
            for file in (self.path, wal):
                shutil.copyfile(file, Path(folder, file.name))
            with closing(_connected(Path(folder, self.path.name).as_uri())) as copied:
                copied.backup(found)
        return found

    def close(self) -> None:
        """The file is closed; the next transaction opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            make_private_folder(self.path.parent)
            with self._alone():
                make_private_file(self.path)
                connection = sqlite3.connect(
                    self.path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False
                )
                try:
                    connection.row_factory = sqlite3.Row
                    connection.execute("PRAGMA journal_mode = WAL")
                    # What is written before something is rented must be there after a power cut, too.
                    connection.execute("PRAGMA synchronous = FULL")
                    self._migrate(connection)
                except BaseException:
                    connection.close()
                    raise
            self._connection = connection
        return self._connection

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process or thread opens the file meanwhile.

        SQLite's own waiting does not cover the change to WAL: of two that open a new file at once, one is told
        "database is locked" at once, whatever its time-out (https://www.sqlite.org/c3ref/busy_handler.html).
        """
        lock = self.path.with_name(f"{self.path.name}.lock")
        make_private_file(lock)
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _migrate(self, connection: sqlite3.Connection) -> None:
        def version() -> int:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])

        if version() > len(MIGRATIONS):
            raise StateError(
                f"{self.path} was written by a newer runctl (schema {version()}, this one knows {len(MIGRATIONS)})",
                hint="upgrade runctl, or move the file away: it holds only history",
            )
        while version() < len(MIGRATIONS):
            connection.execute("BEGIN IMMEDIATE")
            try:
                applied = version()
                if applied < len(MIGRATIONS):
                    for statement in MIGRATIONS[applied].split(";"):
                        if statement.strip():
                            connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {applied + 1}")
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    def _unusable(self, error: Exception) -> StateError:
        if _is_busy(error):
            return StateError(
                f"the state file {self.path} is in use by another command: {error}",
                hint="run the command again when that one is done",
            )
        return StateError(
            f"the state file {self.path} cannot be used: {error}",
            hint="check its permissions and the disk's free space; if it is damaged, move it away: it holds history,"
            " no control over what is rented",
        )


def _is_busy(error: Exception) -> bool:
    """Whether another process has the file for itself, which passes."""
    # The low byte is SQLite's primary code: https://www.sqlite.org/rescode.html
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _connected(address: str) -> sqlite3.Connection:
    return sqlite3.connect(address, uri=True, check_same_thread=False)
