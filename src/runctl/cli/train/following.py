"""Showing a run's log, and finding runs that this computer or another one started."""

from __future__ import annotations

import sys

from runctl.agent.spec import AttemptStatus
from runctl.cli.context import Cli
from runctl.core.clock import SystemClock
from runctl.core.errors import Interrupted, NotFound, UsageError
from runctl.core.ids import RunId
from runctl.core.models import RunPhase
from runctl.core.money import usd
from runctl.core.names import LATEST
from runctl.machines.machine import Machine
from runctl.render.json import line
from runctl.render.progress import LogOutput, finish
from runctl.runs.end_reason import exit_code, sentence
from runctl.runs.logs.follow import Followed, follow
from runctl.runs.refresh import from_status
from runctl.runs.store import RunRecord

_BYTES_A_LINE = 256


def show_log(
    cli: Cli,
    machine: Machine,
    record: RunRecord,
    *,
    follow: bool,
    tail: int | None = None,
    document: bool = False,
) -> int:
    """Print the log, then say how the run ended; the exit code that ``--wait`` promises (0 while it goes on).

    The log is data: it goes to stdout as it is, or as JSON lines. With ``document`` (``train --wait``) the run is the
    result: under ``--output json`` the log goes to stderr and the run to stdout.
    """
    finish(cli.progress)
    offset = _tail_offset(machine, record, tail) if tail is not None else 0
    stream = sys.stderr if cli.settings.json and document else sys.stdout
    try:
        with LogOutput(cli.progress, stream) as output:
            sink = LogSink(cli, output, offset, document=document)
            followed = _follow(cli, machine, record, sink, offset, to_the_end=follow)
            intact = followed.intact is not False
            sink.finish()
            cut_off = output.mid_line
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped watching; {record.id} goes on on {record.instance_id}",
            hint=f"runctl runs logs {record.id} --follow takes it up again, runctl runs stop {record.id} ends it",
        ) from None
    if cut_off and sys.stderr.isatty() and stream.isatty():
        stream.write("\n")
        stream.flush()
    if document and cli.settings.json:
        cli.emit(followed.record.as_run(SystemClock().now()), text=str)
    if followed.end is None:
        return 0
    if not intact:
        cli.progress.warn(
            f"the log of {record.id} is not the one that its machine wrote: its length or its SHA-256 is another one;"
            " something has changed it there while it was read"
        )
    _say_end(cli, followed, log_was_shown=not sink.silent)
    return exit_code(followed.end)


def find_on_machine(cli: Cli, machine: Machine, reference: str | None) -> RunRecord:
    """The run of that id (or beginning of it) or name, or the machine's newest. Raises `NotFound`, `UsageError`.

    The machine is asked, so that runs which another computer started are found as well; what it says is remembered.
    """
    attempts = machine.agent.attempts()
    wanted = None if reference == LATEST else reference
    called = [] if wanted is None else cli.store.list(instance=machine.instance.id, name=wanted)
    ids = {record.id for record in called}
    matching = [
        status
        for status in attempts
        if wanted is None or status.run_id in ids or (not ids and status.run_id.startswith(wanted))
    ]
    if wanted is not None and len({status.run_id for status in matching}) > 1:
        several = ", ".join(sorted({status.run_id for status in matching}))
        raise UsageError(
            f"{wanted} is several runs: {several}", hint="use the id of one of them", code="ambiguous"
        )
    if not matching:
        asked = f"no run {reference}" if reference else "no run"
        raise NotFound(
            f"there is {asked} on {machine.instance.id}",
            hint="runctl runs list shows the runs that this computer has started",
            code="run-not-found",
        )
    newest = max(matching, key=lambda status: (status.created_at or 0.0, status.attempt))
    record = adopt(cli, machine, newest)
    cli.store.put(record)
    return record


def adopt(cli: Cli, machine: Machine, status: AttemptStatus) -> RunRecord:
    """What is known here of the run, or a new record made of what the machine knows."""
    known = cli.store.find(status.run_id)
    if known is None:
        known = RunRecord(
            id=RunId(status.run_id),
            provider=machine.instance.provider,
            region=machine.provider.region,
            instance_id=machine.instance.id,
            project=status.project,
            script=status.script,
            args=status.args,
            state=RunPhase.UNKNOWN,
            attempt=status.attempt,
            created_at=SystemClock().now(),
            instance_type=machine.instance.instance_type,
            market=machine.instance.market.value,
            price_per_hour=machine.instance.price_per_hour,
        )
    return from_status(known, status, SystemClock().now())


def _follow(
    cli: Cli, machine: Machine, record: RunRecord, sink: LogSink, offset: int, *, to_the_end: bool
) -> Followed:
    # The log of a run on this computer is here already.
    here = record.provider == "local"
    keep = None if here else cli.logs.writer(record.id, record.attempt, cli.progress.warn)
    try:
        return follow(
            record,
            machine,
            cli.store,
            clock=SystemClock(),
            on_log=sink.write,
            offset=offset,
            to_the_end=to_the_end,
            keep=keep,
        )
    finally:
        if keep is not None:
            keep.close()


def _tail_offset(machine: Machine, record: RunRecord, lines: int) -> int:
    """Where the last ``lines`` lines of the log begin, in bytes."""
    size = machine.agent.status(record.id, record.attempt).log_bytes
    reach = max(lines * _BYTES_A_LINE, 1 << 14)
    while True:
        start = max(0, size - reach)
        piece = bytearray()
        machine.agent.logs(record.id, record.attempt, offset=start, follow=False, on_bytes=piece.extend)
        rows = bytes(piece).splitlines(keepends=True)
        if start == 0 or len(rows) > lines:
            kept = rows[len(rows) - lines :] if lines < len(rows) else rows
            return start + len(piece) - sum(len(row) for row in kept)
        reach *= 4


def _say_end(cli: Cli, followed: Followed, *, log_was_shown: bool) -> None:
    record, end = followed.record, followed.end
    assert end is not None  # noqa: S101 - the caller has looked
    lines = [sentence(record.id, end, log_was_shown=log_was_shown)]
    if record.checkpoint_dir and record.started_at is not None:
        lines.append(f"checkpoints: {record.checkpoint_dir} on {record.instance_id}")
    cost = record.cost(SystemClock().now())
    if cost and record.price_per_hour is not None and record.ended_at is not None:
        span = record.ended_at - record.created_at
        lines.append(
            f"cost: {usd(cost)} ({span.total_seconds():.0f} s at {usd(record.price_per_hour)} an hour, {record.market}"
            f"{'' if followed.machine_ended else '; the instance is billed until it is terminated'})"
        )
    cli.say("\n".join(lines))


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
