"""The ledger: a row for each rented thing, from its first to its last second, with the price of each interval.

It is kept in the local state file and only ever says what the cloud has said, or what a plan is about to ask of it. A
thing is written down before the call that rents it; what became of it is told by whoever sees it
(`runctl.machines.ledger_record`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from runctl.core.database import Database
from runctl.costs.billing import NOTHING, QUANTUM, Interval, day_start
from runctl.costs.entries import NONE, By, ClosedShare, ClosedSum, Entry, EntryKind, EntryState
from runctl.costs.rates import Per

_SUMMED = "(ledger.total IS NOT NULL AND estimated = 0 AND began_at >= ? AND began_at < ? AND ended_at <= ?)"

_KEYS = {
    By.RUN: "run_id",
    By.PROJECT: "project",
    By.USER: "owner",
    By.PROVIDER: "provider",
    By.KIND: "kind",
    By.DAY: "day",
    By.MONTH: "substr(day, 1, 7)",
}

_WORKED = (
    "SELECT instance_id FROM runs"
    " UNION SELECT json_extract(value, '$.instance_id') FROM runs, json_each(runs.past)"
)

_WHOLE = {
    # An instance that was not rented for a run may have worked for several.
    By.RUN: f"(run_id IS NOT NULL OR coalesce(machine, resource_id, '') NOT IN ({_WORKED}))",
}
"""Which entries have one key over all of their time, or their days' sums."""

_COLUMNS = tuple(field.name for field in fields(Entry) if field.name not in {"id", "intervals"})

_TIMES = ("opened_at", "seen_at", "ended_at")

_FLAGS = ("in_sandbox", "taken_back", "estimated", "over_budget")


class Ledger:
    """The rows in the local state file. Every method raises `StateError`."""

    def __init__(self, database: Database, connection: sqlite3.Connection | None = None) -> None:
        self._database = database
        self._connection = connection

    @contextmanager
    def changing(self) -> Iterator[Ledger]:
        """The same ledger, in which nobody else changes anything meanwhile; an error undoes all of the block."""
        with self._database.transaction() as connection:
            yield Ledger(self._database, connection)

    def put(self, *entries: Entry) -> tuple[Entry, ...]:
        """The ledger has these as they are given: all of them, or none."""
        with self._writing() as connection:
            return tuple(_write(connection, entry) for entry in entries)

    def drop(self, token: str) -> None:
        """Nothing came of that intent."""
        with self._writing() as connection:
            connection.execute(
                "DELETE FROM ledger_intervals WHERE entry IN (SELECT id FROM ledger WHERE token = ? AND state = ?)",
                (token, EntryState.INTENDED.value),
            )
            connection.execute(
                "DELETE FROM ledger WHERE token = ? AND state = ?", (token, EntryState.INTENDED.value)
            )

    def of_token(self, token: str) -> Entry | None:
        """What an intent was to rent."""
        return next(iter(self.select("token = ?", (token,))), None)

    def of_resource(self, provider: str, account: str, resource_id: str) -> Entry | None:
        """The thing of that id."""
        found = self.select(
            "provider = ? AND account = ? AND resource_id = ?", (provider, account, resource_id)
        )
        return next(iter(found), None)

    def of_resources(self, provider: str, account: str, resource_ids: Iterable[str]) -> list[Entry]:
        """The things of these ids."""
        return self.select(
            "provider = ? AND account = ? AND resource_id IN (SELECT value FROM json_each(?))",
            (provider, account, json.dumps(list(resource_ids))),
        )

    def of_runs(self, run_ids: Sequence[str], instance_ids: Sequence[str]) -> list[Entry]:
        """What was rented for these runs, and these instances with what came with them."""
        ids = json.dumps(list(instance_ids))
        within = "IN (SELECT value FROM json_each(?))"
        return self.select(
            f"run_id {within} OR machine {within} OR resource_id {within}",
            (json.dumps(list(run_ids)), ids, ids),
        )

    def unfinished(self, provider: str, account: str, region: str) -> list[Entry]:
        """What may exist there."""
        return self.select(
            "provider = ? AND account = ? AND region = ? AND state != 'closed'", (provider, account, region)
        )

    def unpriced(self, provider: str, account: str, region: str, kind: EntryKind) -> list[Entry]:
        """What of a kind there has a time of which no price is known, also where it has ended."""
        return self.select(
            "provider = ? AND account = ? AND region = ? AND kind = ? AND total IS NULL"
            " AND id IN (SELECT entry FROM ledger_intervals WHERE usd IS NULL)",
            (provider, account, region, kind.value),
        )

    def touching(
        self, since: datetime, until: datetime, *, in_sandbox: bool, beyond: By | None = None
    ) -> list[Entry]:
        """What existed at some time in between, the oldest first; ``beyond`` what `closed_sums` sums by that, where it
        is given."""
        # The plus keeps SQLite from the index of beginnings: far fewer things end after than begin before a moment.
        condition = "in_sandbox = ? AND +began_at < ? AND (ended_at IS NULL OR ended_at >= ?)"
        first, last = _seconds(since), _seconds(until)
        if beyond is None:
            return self.select(condition, (int(in_sandbox), last, first))
        summed = f"{_SUMMED} AND {_WHOLE.get(beyond, 'TRUE')}"
        return self.select(
            f"{condition} AND NOT coalesce({summed}, FALSE)",
            (int(in_sandbox), last, first, first, last, last),
        )

    def cut_by(
        self, since: datetime, until: datetime, *, in_sandbox: bool, ahead: timedelta = timedelta(0)
    ) -> list[Entry]:
        """What existed at some time in between and is not in `closed_shares`, the oldest first; also what begins up to
        ``ahead`` later."""
        # Two searches of one index, which has all that is asked, instead of a look at each row.
        where = "in_sandbox = ? AND began_at < ? AND"
        sandbox, first, last, latest = (
            int(in_sandbox),
            _seconds(since),
            _seconds(until),
            _seconds(until + ahead),
        )
        return self.select(
            f"id IN (SELECT id FROM ledger WHERE {where} ended_at IS NULL UNION ALL"  # noqa: S608 (constants)
            f" SELECT id FROM ledger WHERE {where} ended_at >= ? AND NOT {_SUMMED})",
            (sandbox, latest, sandbox, latest, first, first, last, last),
        )

    def closed_shares(self, since: datetime, until: datetime, *, in_sandbox: bool) -> list[ClosedShare]:
        """The sums of closed entries all of whose time lies in between."""
        query = (
            "SELECT project, owner, sum(total) FROM ledger"  # noqa: S608 (constants)
            f" WHERE in_sandbox = ? AND ended_at >= ? AND {_SUMMED} GROUP BY project, owner"
        )
        first, last = _seconds(since), _seconds(until)
        with self._reading() as connection:
            rows = connection.execute(query, (int(in_sandbox), first, first, last, last)).fetchall()
        return [ClosedShare(project, owner, total * QUANTUM) for project, owner, total in rows]

    def about_to_be(self, since: datetime, *, in_sandbox: bool) -> list[Entry]:
        """What was written down since then and may not exist yet."""
        return self.select(
            "in_sandbox = ? AND state = 'intended' AND opened_at >= ?", (int(in_sandbox), _seconds(since))
        )

    def closed_sums(self, by: By, since: datetime, until: datetime, *, in_sandbox: bool) -> list[ClosedSum]:
        """The sums of entries that need not be cut: closed, all of their time in between and of one key."""
        days = by in {By.DAY, By.MONTH}
        whole = _WHOLE.get(by, "TRUE")
        table = "ledger_days JOIN ledger ON ledger.id = ledger_days.entry" if days else "ledger"
        of = "ledger_days" if days else "ledger"
        query = (
            f"SELECT coalesce({_KEYS[by]}, '{NONE}'), sum({of}.total), sum({of}.list_total), count(DISTINCT id)"  # noqa: S608 (constants)
            f" FROM {table} WHERE in_sandbox = ? AND {_SUMMED} AND {whole} GROUP BY 1"
        )
        values = (int(in_sandbox), _seconds(since), _seconds(until), _seconds(until))
        with self._reading() as connection:
            rows = connection.execute(query, values).fetchall()
        return [
            ClosedSum(key, usd * QUANTUM, list_usd * QUANTUM, things) for key, usd, list_usd, things in rows
        ]

    def select(self, condition: str, values: Sequence[object]) -> list[Entry]:
        """The entries for which the SQL condition holds, the oldest first."""
        with self._reading() as connection:
            return _read(connection, condition, values)

    def _writing(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._database.transaction() if self._connection is None else nullcontext(self._connection)

    def _reading(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._database.reading() if self._connection is None else nullcontext(self._connection)


def note_run(connection: sqlite3.Connection, instance_id: str, run_id: str, attempt: int) -> None:
    """Within a transaction: the instance was rented for that attempt of the run, with all that came with it."""
    connection.execute(
        "UPDATE ledger SET run_id = ?, attempt = ? WHERE (resource_id = ? OR machine = ?) AND run_id IS NULL",
        (run_id, attempt, instance_id, instance_id),
    )


def _read(connection: sqlite3.Connection, condition: str, values: Sequence[object]) -> list[Entry]:
    rows = connection.execute(
        f"SELECT * FROM ledger WHERE {condition} ORDER BY opened_at, id",  # noqa: S608 (conditions are constants)
        values,
    ).fetchall()
    intervals: dict[int, list[Interval]] = {}
    found = connection.execute(
        "SELECT * FROM ledger_intervals WHERE entry IN (SELECT value FROM json_each(?)) ORDER BY entry, number",
        (json.dumps([row["id"] for row in rows]),),
    )
    for entry, _, began, ended, usd, per, list_usd, continues in found:
        intervals.setdefault(entry, []).append(
            Interval(
                _moment(began),
                None if ended is None else _moment(ended),
                None if usd is None else Decimal(usd),
                Per(per),
                None if list_usd is None else Decimal(list_usd),
                bool(continues),
            )
        )
    return [_entry(row, intervals.get(row["id"], ())) for row in rows]


def _write(connection: sqlite3.Connection, entry: Entry) -> Entry:
    values = {name: getattr(entry, name) for name in _COLUMNS}
    values |= {name: _seconds(values[name]) for name in _TIMES if values[name] is not None}
    values |= {name: int(values[name]) for name in _FLAGS}
    values |= {"kind": entry.kind.value, "state": entry.state.value}
    values["expected"] = None if entry.expected is None else str(entry.expected)
    values["id"] = entry.id
    values["began_at"] = None if entry.began_at is None else _seconds(entry.began_at)
    end = entry.ended_at if entry.state is EntryState.CLOSED and entry.is_priced else None
    # What is billed beyond a short life's end is in it.
    end = None if end is None else end + entry.minimum
    values["total"] = None if end is None else _millionths(entry.cost(end))
    values["list_total"] = None if end is None else _millionths(entry.list_cost(end))
    names = ("id", *_COLUMNS, "began_at", "total", "list_total")
    cursor = connection.execute(
        f"INSERT OR REPLACE INTO ledger ({', '.join(names)})"  # noqa: S608 (names are constants)
        f" VALUES ({', '.join(f':{name}' for name in names)})",
        values,
    )
    number = cursor.lastrowid
    assert number is not None  # noqa: S101 - it was inserted
    for table in ("ledger_intervals", "ledger_days"):
        connection.execute(f"DELETE FROM {table} WHERE entry = ?", (number,))  # noqa: S608 (constants)
    if end is not None:
        connection.executemany(
            "INSERT INTO ledger_days VALUES (?, ?, ?, ?)",
            [(number, day, _millionths(usd), _millionths(listed)) for day, usd, listed in _days(entry)],
        )
    connection.executemany(
        "INSERT INTO ledger_intervals VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                number,
                index,
                _seconds(each.start),
                None if each.end is None else _seconds(each.end),
                None if each.usd is None else str(each.usd),
                each.per.value,
                None if each.list_usd is None else str(each.list_usd),
                int(each.continues),
            )
            for index, each in enumerate(entry.intervals)
        ],
    )
    return replace(entry, id=number)


def _days(entry: Entry) -> Iterator[tuple[str, Decimal, Decimal]]:
    """What a closed entry came to on each of its days, as paid and on demand; see `runctl.costs.report`."""
    moment, end = entry.began_at, entry.ended_at
    before = listed_before = NOTHING
    while moment is not None and end is not None:
        until = day_start(moment) + timedelta(days=1)
        # What is billed beyond a short life's end is its last day's.
        at = until if until < end else end + entry.minimum
        usd, listed = entry.cost(at), entry.list_cost(at)
        yield f"{moment:%Y-%m-%d}", usd - before, listed - listed_before
        before, listed_before = usd, listed
        moment = until if until < end else None


def _entry(row: sqlite3.Row, intervals: Iterable[Interval]) -> Entry:
    values: dict[str, Any] = {name: row[name] for name in _COLUMNS}
    values |= {name: _moment(values[name]) for name in _TIMES if values[name] is not None}
    values |= {name: bool(values[name]) for name in _FLAGS}
    values |= {"kind": EntryKind(row["kind"]), "state": EntryState(row["state"])}
    values["expected"] = None if row["expected"] is None else Decimal(row["expected"])
    return Entry(**values, id=row["id"], intervals=tuple(intervals))


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _millionths(usd: Decimal) -> int:
    return int(usd / QUANTUM)
