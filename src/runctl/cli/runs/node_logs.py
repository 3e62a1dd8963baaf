"""Showing the log of a run on several machines: all of them as one, with the rank before each line, or one of them."""

from __future__ import annotations

import sys

from runctl.cli.context import Cli
from runctl.core.errors import Interrupted, NotFound, RunctlError, UsageError
from runctl.render.json import line as json_line
from runctl.render.progress import LogOutput, finish
from runctl.runs.end_report import exit_code, sentence
from runctl.runs.nodes.following import OnLine, check_rank, lines_of, merged_line
from runctl.runs.records.run_record import RunRecord


def show_node_logs(
    cli: Cli,
    record: RunRecord,
    *,
    follow: bool,
    rank: int | None = None,
    tail: int | None = None,
    document: bool = False,
) -> int:
    """Print the logs, then say how the run ended; the exit code that ``--wait`` promises (0 while it goes on).

    With ``document`` (``launch --wait``) the run is the result, and the log goes to stderr under ``--output json``.
    """
    if rank is not None:
        check_rank(record, rank)
    finish(cli.progress)
    stream = sys.stderr if cli.settings.json and document else sys.stdout
    ranks = None if rank is None else (rank,)
    with LogOutput(cli.progress, stream) as output:
        lines = _Lines(_printer(cli, output, one=rank is not None, document=document), tail)
        try:
            followed = lines_of(cli.session, record, lines.take, to_the_end=follow, ranks=ranks)
        except KeyboardInterrupt:
            raise _stopped_watching(record) from None
        except RunctlError as error:
            if not record.has_ended:
                raise
            raise NotFound(
                f"{error.message}; nothing of its log was followed here", hint=error.hint, code="log-gone"
            ) from error
        lines.finish()
    for damaged in followed.damaged:
        cli.progress.warn(
            f"the log of node {damaged} is not the one that its machine wrote: its length or its SHA-256 is another one"
        )
    for short in followed.cut_short:
        cli.progress.warn(
            f"the log of node {short} is not complete: its machine cannot be asked, and was not followed to the end"
        )
    return _say_end(cli, followed.record)


def check_several(record: RunRecord, node: int | None) -> None:
    """Raises `UsageError` for a node of a run that has one machine, as far as is known here."""
    if node is not None and record.nodes is None:
        raise UsageError(f"{record.id} has one machine", hint="leave --node out")


def _stopped_watching(record: RunRecord) -> Interrupted:
    nodes = record.nodes.nodes if record.nodes is not None else ()
    return Interrupted(
        f"stopped watching; {record.id} continues on {len(nodes)} machines",
        hint=f"runctl runs logs {record.id} --follow follows it again, runctl runs stop {record.id} ends it",
    )


def _say_end(cli: Cli, record: RunRecord) -> int:
    if not record.has_ended or record.nodes is None:
        return 0
    end = record.nodes.end
    cli.say(sentence(record.id, end))
    return exit_code(end)


class _Lines:
    """All lines, or the last of each machine."""

    def __init__(self, show: OnLine, tail: int | None) -> None:
        self._show = show
        self._tail = tail
        self._last: dict[int, list[tuple[int, bytes]]] = {}

    def take(self, rank: int, offset: int, line: bytes) -> None:
        """Shown at once, but for a tail."""
        if self._tail is None:
            self._show(rank, offset, line)
            return
        last = self._last.setdefault(rank, [])
        last.append((offset, line))
        del last[: max(0, len(last) - self._tail)]

    def finish(self) -> None:
        """A tail is shown, machine after machine."""
        for rank in sorted(self._last):
            for offset, line in self._last[rank]:
                self._show(rank, offset, line)


def _printer(cli: Cli, output: LogOutput, *, one: bool, document: bool) -> OnLine:
    def plain(rank: int, offset: int, line: bytes) -> None:
        del offset
        whole = line if line.endswith(b"\n") else line + b"\n"
        output.write(line if one else merged_line(rank, whole))

    def as_json(rank: int, offset: int, line: bytes) -> None:
        text = line.removesuffix(b"\n").decode("utf-8", "replace")
        output.write(f"{json_line({'node': rank, 'offset': offset, 'line': text})}\n".encode())

    def silent(rank: int, offset: int, line: bytes) -> None:
        del rank, offset, line

    if cli.settings.quiet and document:
        return silent
    return as_json if cli.settings.json and not document else plain
