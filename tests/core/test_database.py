from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runctl.core.database import MIGRATIONS, Database, StateError
from runctl.core.files import make_private_file


def test_a_new_file_gets_the_newest_schema(tmp_path: Path) -> None:
    database = Database(tmp_path / "deep" / "state.db")

    with database.transaction() as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
    database.close()


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db")

    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        connection.execute("CREATE TABLE half (x)")
        _ = 1 / 0

    with database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone()[0] == 0
    database.close()


def test_a_file_of_a_newer_version_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    database = Database(path)

    with pytest.raises(StateError, match="newer runctl"), database.transaction():
        pass


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database" * 100)
    database = Database(path)

    with pytest.raises(StateError, match=r"state\.db") as caught, database.transaction():
        pass

    assert caught.value.hint


def test_two_writers_at_once_both_get_their_turn(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    def write() -> None:
        database = Database(path)
        for _ in range(50):
            with database.transaction() as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
                connection.execute("INSERT INTO t VALUES (1)")
        database.close()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    database = Database(path)
    with database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone()[0] == 200
    database.close()


def test_a_second_opener_waits_for_the_first(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first_is_inside, may_go_on = threading.Event(), threading.Event()

    class Slow(Database):
        def _migrate(self, connection: sqlite3.Connection) -> None:
            first_is_inside.set()
            may_go_on.wait(30)
            super()._migrate(connection)

    def open_and_close(database: Database) -> None:
        with database.transaction():
            pass
        database.close()

    first = threading.Thread(target=open_and_close, args=[Slow(path)])
    second = threading.Thread(target=open_and_close, args=[Database(path)])
    first.start()
    assert first_is_inside.wait(30)
    second.start()
    second.join(0.3)

    assert second.is_alive()

    may_go_on.set()
    first.join(30)
    second.join(30)
    assert not second.is_alive()


def test_a_private_file_that_is_there_keeps_the_locks_on_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(mode=0o644)
    with file.open("wb") as locked:
        fcntl.lockf(locked, fcntl.LOCK_EX)

        make_private_file(file)

        probe = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        refused = subprocess.run([sys.executable, "-c", probe, str(file)], capture_output=True, check=False)
    assert b"BlockingIOError" in refused.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.fixture
def read_only_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere but on such a disk, so that the refusal is put in the place where it comes from."""

    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("runctl.core.database.make_private_file", refuse)


def test_what_is_there_can_be_read_where_nothing_can_be_written(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    written = Database(tmp_path / "state.db")
    with written.transaction() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    written.close()
    request.getfixturevalue("read_only_disk")
    database = Database(tmp_path / "state.db")

    with database.reading() as connection:
        assert connection.execute("SELECT n FROM kept").fetchone()[0] == 7
    with pytest.raises(StateError, match="Read-only"), database.transaction():
        pass


@pytest.mark.parametrize("has_shared_file", [True, False])
def test_what_a_killed_command_wrote_can_be_read_where_nothing_can_be_written(
    tmp_path: Path, request: pytest.FixtureRequest, has_shared_file: bool
) -> None:
    written = Database(tmp_path / "state" / "state.db")
    with written.transaction() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    killed = shutil.copytree(tmp_path / "state", tmp_path / "killed")
    written.close()
    if not has_shared_file:
        (killed / "state.db-shm").unlink()
    request.getfixturevalue("read_only_disk")

    with Database(killed / "state.db").reading() as connection:
        assert connection.execute("SELECT n FROM kept").fetchone()[0] == 7


def test_a_file_that_another_has_for_itself_is_not_read_past_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runctl.core.database.LOCK_TIMEOUT", 0.1)
    path = tmp_path / "state.db"
    first = Database(path)
    with first.transaction():
        pass
    first.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(StateError, match="in use by another command") as refused, Database(path).reading():
        pass
    assert refused.value.hint == "run the command again when that one is done"
    other.close()


@pytest.mark.usefixtures("read_only_disk")
def test_without_a_file_there_is_nothing_to_read(tmp_path: Path) -> None:
    with Database(tmp_path / "state.db").reading() as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_that_cannot_be_brought_up_to_date_is_refused(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    request.getfixturevalue("read_only_disk")

    with pytest.raises(StateError, match="Read-only"), Database(tmp_path / "state.db").reading():
        pass
