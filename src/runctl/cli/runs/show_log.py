"""A run's log, shown: from its machine, from one machine after the other, or what is kept when they are gone."""

from __future__ import annotations

import sys

from runctl.cli.context import Cli
from runctl.cli.runs.node_logs import show_node_logs
from runctl.core.clock import SystemClock
from runctl.core.errors import Conflict, Interrupted, MachineError, NotFound, RunctlError, passes_by_itself
from runctl.core.money import hourly, usd
from runctl.machines.machine import Machine
from runctl.render.json import line
from runctl.render.progress import LogOutput, finish
from runctl.runs.asking import machine_of, refresh_group
from runctl.runs.end_report import exit_code, sentence
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.shown_run import as_run
from runctl.runs.run_logs.follow import Followed, tail_offset
from runctl.runs.run_logs.reading import find_kept, follow_run
from runctl.runs.run_logs.sources import KeptLog
from runctl.runs.stored.recipe import Recipes
from runctl.runs.unattended.state import goes_on, group_text


def show_log(
    cli: Cli,
    machine: Machine,
    record: RunRecord,
    *,
    follow: bool,
    tail: int | None = None,
    document: bool = False,
    emits: bool = True,
) -> int:
    """Print the log, then say how the run ended; the exit code that ``--wait`` promises (0 while it goes on).

    The log is data: it goes to stdout as it is, or as JSON lines. With ``document`` (``train --wait``) the run is the
    result: under ``--output json`` the log goes to stderr and the run to stdout, unless the caller ``emits`` it.
    """
    finish(cli.progress)
    offset = tail_offset(machine, record, tail) if tail is not None else 0
    stream = sys.stderr if cli.settings.json and document else sys.stdout
    try:
        with LogOutput(cli.progress, stream) as output:
            sink = LogSink(cli, output, offset, document=document)
            followed = follow_run(cli.session, machine, record, sink.write, offset=offset, to_the_end=follow)
            intact = followed.intact is not False
            sink.finish()
            cut_off = output.mid_line
    except KeyboardInterrupt:
        raise _stopped_watching(cli, record) from None
    if cut_off and sys.stderr.isatty() and stream.isatty():
        stream.write("\n")
        stream.flush()
    if document and emits and cli.settings.json:
        cli.emit(as_run(followed.record, SystemClock().now()), text=str)
    if followed.end is None:
        return 0
    if not intact:
        cli.progress.warn(
            f"the log of {record.id} is not the one that its machine wrote: its length or its SHA-256 is another one;"
            " something has changed it there while it was read"
        )
    _say_end(cli, followed, log_was_shown=not sink.silent)
    return exit_code(followed.end)


def _stopped_watching(cli: Cli, record: RunRecord) -> Interrupted:
    hint = f"runctl runs logs {record.id} --follow follows it again, runctl runs stop {record.id} ends it"
    if record.results is not None:
        hint += f", runctl runs results {record.id} fetches its results"
    recipe = Recipes(cli.session.database).find(record.id)
    if recipe is not None and recipe.auto_resume:
        hint += f", runctl runs watch {record.id} starts it again elsewhere when its machine is taken back"
    ends = record.machine_end is not None and not record.machine_end.keep
    afterwards = ", which ends itself after it" if ends else ""
    return Interrupted(
        f"stopped watching; {record.id} continues on {record.instance_id}{afterwards}", hint=hint
    )


def show_kept_log(cli: Cli, record: RunRecord, why: RunctlError, *, tail: int | None) -> int:
    """Print what is kept of a run's log, and say what is missing; the exit code that ``--wait`` promises.

    Raises ``why`` (the machine's own error) where nothing is kept, with where else the log may be.
    """
    record, kept = find_kept(cli.session, record)
    finish(cli.progress)
    spans = cli.logs.spans(record.id, record.attempt)
    if not spans:
        raise NotFound(
            f"{why.message}; nothing of its log was followed here",
            hint=kept.elsewhere or "the log was on the machine's own disk, and went with it",
            code="log-gone",
        )
    came = f"from {kept.read_from}" if kept.read_from else "what was followed here"
    cli.progress.note(f"{why.message}; this is its log, {came}")
    with LogOutput(cli.progress, sys.stdout) as output:
        _print(cli, output, record, tail)
    more = f"; {kept.elsewhere}" if kept.elsewhere else ""
    if kept.holes:
        cli.progress.warn(f"not all of the log is here: {_holes(kept)}{more}")
    elif kept.end is None:
        cli.progress.warn(f"the log ends here at byte {spans[-1].stop}; whether more came is not known{more}")
    if kept.end is None:
        return 1 if record.has_ended else 0
    cli.say(sentence(record.id, kept.end))
    return exit_code(kept.end)


def _say_end(cli: Cli, followed: Followed, *, log_was_shown: bool) -> None:
    record, end = followed.record, followed.end
    assert end is not None  # noqa: S101 - the caller has looked
    lines = [sentence(record.id, end, log_was_shown=log_was_shown)]
    if record.machine_end is not None and not record.machine_end.keep and record.hand_off is None:
        # Whoever brings the results home and gives the machine back says what became of both.
        cli.say(lines[0])
        return
    if record.checkpoint_dir and record.started_at is not None:
        lines.append(f"checkpoints: {_where_saved(followed)}")
    cost = record.cost(SystemClock().now())
    if cost and record.price_per_hour is not None and record.ended_at is not None:
        span = record.ended_at - record.created_at
        lines.append(
            f"cost: {usd(cost)} ({span.total_seconds():.0f} s at {hourly(record.price_per_hour)}, {record.market}"
            f"{'' if _machine_ends(followed) else '; the instance is billed until it is terminated'})"
        )
    cli.say("\n".join(lines))


def _machine_ends(followed: Followed) -> bool:
    """Nobody need end the machine: it has ended, or its provider is taking it back."""
    given = followed.record.hand_off
    return followed.machine_ended or (given is not None and not given.is_rehearsal)


def _where_saved(followed: Followed) -> str:
    """Where the run's checkpoints can be found from now on, and which the newest is if the run was interrupted."""
    record = followed.record
    where = f"{record.checkpoint_dir} on {record.instance_id}"
    if record.saved_volume is not None and _machine_ends(followed):
        where = f"{record.saved_folder}/checkpoints on {record.saved_volume}"
    newest = record.hand_off.checkpoint if record.hand_off is not None else None
    return f"{where}; the newest is {newest}" if newest else where


def _print(cli: Cli, output: LogOutput, record: RunRecord, tail: int | None) -> None:
    pieces = list(cli.logs.read(record.id, record.attempt)) if tail is not None else None
    if pieces is not None:
        last = b"".join(data for _, data in pieces)
        rows = last.splitlines(keepends=True)
        shown = b"".join(rows[max(0, len(rows) - (tail or 0)) :]) if tail else b""
        stop = pieces[-1][0] + len(pieces[-1][1])
        sink = LogSink(cli, output, stop - len(shown), document=False)
        sink.write(shown)
        sink.finish()
        return
    before = 0
    sink = LogSink(cli, output, 0, document=False)
    for offset, data in cli.logs.read(record.id, record.attempt):
        if offset != before:
            sink.finish()
            cli.progress.warn(f"bytes {before} to {offset} of the log are missing here")
            sink = LogSink(cli, output, offset, document=False)
        sink.write(data)
        before = offset + len(data)
    sink.finish()


def _holes(kept: KeptLog) -> str:
    return ", ".join(f"bytes {hole.start} to {hole.stop} are missing" for hole in kept.holes)


class LogSink:
    """Where a log's bytes go."""

    def __init__(self, cli: Cli, output: LogOutput, offset: int, *, document: bool) -> None:
        self._json_lines = cli.settings.json and not document
        self._output = output
        self.silent = cli.settings.quiet and document
        self._offset = offset
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Pass on; nothing is held back but the unfinished last line of JSON lines."""
        if self.silent:
            return
        if not self._json_lines:
            self._output.write(data)
            return
        *whole, self._rest = (self._rest + data).split(b"\n")
        for row in whole:
            self._row(row, b"\n")

    def finish(self) -> None:
        """The last line, where it had no newline."""
        if self._rest:
            self._row(self._rest, b"")
            self._rest = b""

    def _row(self, row: bytes, newline: bytes) -> None:
        shown = line({"offset": self._offset, "line": row.decode("utf-8", "replace")})
        self._output.write(f"{shown}\n".encode())
        self._offset += len(row) + len(newline)


ASK_EVERY = 3.0
"""Seconds between two questions for the next machine."""


def follow_to_the_end(cli: Cli, record: RunRecord, *, tail: int | None, rank: int | None = None) -> int:
    """Every attempt's log is shown as it is written, until the run has ended for good; the exit code of its end."""
    shown, code, told = 0, 0, ""
    try:
        while True:
            record = refresh_group(cli.session, record) if record.needs_refresh else record
            if record.attempt > shown and record.instance_id:
                try:
                    if record.nodes is not None:
                        code = show_node_logs(cli, record, follow=True, rank=rank, tail=tail)
                    else:
                        code = show_log(cli, machine_of(cli.session, record), record, follow=True, tail=tail)
                except RunctlError as error:
                    if record.end_reason is not None and not goes_on(record):
                        if record.nodes is not None:
                            raise
                        return show_kept_log(cli, record, error, tail=tail)
                    if not _is_under_way(error):
                        raise
                else:
                    shown, tail, record = record.attempt, None, cli.store.get(record.id)
                    continue
            if record.end_reason is not None and not goes_on(record):
                return code
            if record.needs_refresh and told != group_text(record):
                told = group_text(record)
                cli.progress.note(f"{record.id} {told}")
            cli.progress.step(f"waiting for the next machine of {record.id}")
            SystemClock().sleep(ASK_EVERY)
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped watching; {record.id} goes on without",
            hint=f"runctl runs logs {record.id} --follow follows it again, runctl runs stop {record.id} ends it",
        ) from None


def _is_under_way(error: RunctlError) -> bool:
    """The machine is going, or another one is coming and has nothing of the attempt yet."""
    knows_nothing = isinstance(error, MachineError) and error.code == "no-such-run"
    return isinstance(error, NotFound | Conflict) or passes_by_itself(error) or knows_nothing
