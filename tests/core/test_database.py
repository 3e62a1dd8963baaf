from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from runctl.core.database import MIGRATIONS, Database, StateError


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
