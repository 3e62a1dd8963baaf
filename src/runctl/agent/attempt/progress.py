"""How far the script is: read out of its log by the run's pattern, or out of the file that its callbacks write."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from runctl.agent.attempt.log import PREFIX
from runctl.agent.deadline_spec import PROGRESS_FILE, PROGRESS_GROUPS, ProgressStatus
from runctl.agent.encoding import loads
from runctl.agent.records import AttemptFolder

POLL_SECONDS = 2.0
READ_BYTES = 256 << 10
"""Of a log that grows faster than that between two looks, only the end is read."""
LINES = 200
LINE_LENGTH = 1000
"""Of the last lines, and of each its beginning: a pattern may be slow, and the supervisor waits for it."""
LARGEST_FILE = 4096
_LINE_END = re.compile(r"[\r\n]+")


class ProgressReader:
    """Looks at what the script says, now and then. Whatever is wrong with that, the run goes on."""

    def __init__(self, folder: AttemptFolder, output: Path, pattern: str | None) -> None:
        """``output`` is the run's output folder on the machine. A file that an earlier attempt has left there goes."""
        self._folder = folder
        self._file = output / PROGRESS_FILE
        self.trouble = ""
        """Why the pattern cannot be used, in words."""
        self._pattern: re.Pattern[str] | None = None
        if pattern is not None:
            try:
                self._pattern = re.compile(pattern)
            except re.error as error:
                self.trouble = f"the progress pattern cannot be used: {error}"
        self._offset = 0
        self._rest = ""
        self._known: ProgressStatus | None = None
        self._next_poll = 0.0
        with contextlib.suppress(OSError):
            self._file.unlink()

    def poll(self) -> None:
        """At most every few seconds: what is new is remembered in the attempt's folder."""
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + POLL_SECONDS
            self.poll_now()

    def poll_now(self) -> None:
        """What is new is remembered in the attempt's folder. A full disk, or a script's nonsense, changes nothing."""
        now = time.time()
        told = self._from_file()
        if told is None and self._pattern is not None:
            told = newest_match(self._pattern, self._new_lines())
        if told is None:
            return
        found = following(self._known, told, now)
        if found is not None and found != self._known:
            self._known = found
            with contextlib.suppress(OSError):
                self._folder.write_progress(found)

    def finish(self) -> None:
        """The last word; the script's file is not part of its output."""
        self.poll_now()
        with contextlib.suppress(OSError):
            self._file.unlink()

    def _from_file(self) -> tuple[float, float | None] | None:
        try:
            with self._file.open("rb") as file:
                said = loads(file.read(LARGEST_FILE))
            step, total = said["step"], said.get("total")
            return float(step), None if total is None else float(total)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
            return None

    def _new_lines(self) -> list[str]:
        """Those that have been finished since the last look."""
        try:
            with self._folder.log.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size - self._offset > READ_BYTES:
                    self._offset, self._rest = size - READ_BYTES, ""
                file.seek(self._offset)
                data = file.read(READ_BYTES)
        except OSError:
            return []
        self._offset += len(data)
        *lines, self._rest = _LINE_END.split(self._rest + data.decode(errors="replace"))
        self._rest = self._rest[-LINE_LENGTH:]
        return [line[:LINE_LENGTH] for line in lines[-LINES:] if not line.startswith(PREFIX)]


def newest_match(pattern: re.Pattern[str], lines: Iterable[str]) -> tuple[float, float | None] | None:
    """Step and total of the last line that has a step; ``None``: no line has one. Pure."""
    for line in reversed(list(lines)):
        match = pattern.search(line)
        found = None if match is None else numbers(match)
        if found is not None:
            return found
    return None


def numbers(match: re.Match[str]) -> tuple[float, float | None] | None:
    """Step and total as a pattern's groups say them; ``None`` where they are not numbers. Pure."""
    said = {name: match.groupdict().get(name) for name in PROGRESS_GROUPS}
    try:
        if said["percent"] is not None:
            return _number(said["percent"]), 100.0
        if said["step"] is None:
            return None
        return _number(said["step"]), None if said["total"] is None else _number(said["total"])
    except ValueError:
        return None


def following(
    known: ProgressStatus | None, told: tuple[float, float | None], now: float
) -> ProgressStatus | None:
    """What is known after the script has told a step, and perhaps a total. Pure.

    A step below the one before, or another total, is another count: the pace is measured anew.
    """
    step, total = told
    if not 0 <= step < float("inf") or (total is not None and not 0 < total < float("inf")):
        return known
    if total is None and known is not None:
        total = known.total
    if known is None or step < known.step or total != known.total:
        return ProgressStatus(step, total, now, step, now)
    if step == known.step:
        return known
    return dataclasses.replace(known, step=step, seen_at=now)


def _number(text: str) -> float:
    return float(text.replace(",", "").replace("_", "").strip())
