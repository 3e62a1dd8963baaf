"""The guard itself: it counts how long the machine has run, sees what uses it, and shuts it down at a limit."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from runctl.agent.guard import activity
from runctl.agent.guard.boot import replace_file, start_at_boot
from runctl.agent.guard.limits import (
    WARNINGS,
    Limits,
    MachineLimit,
    Seen,
    ends_now,
    next_limit,
    notice,
    warning,
)

NAME = "runctl-guard"
FOLDER = Path("/var/lib/runctl-guard")
"""Root's own: the limits, and how long the machine has run. What a boot writes here outlives it."""
LIMITS, COUNT = "limits.json", "count.json"
STATUS = Path("/run/runctl-guard.json")
"""What it has found last; gone with each boot."""
NOTICE = Path("/run/runctl-limits")
PROFILE = Path("/etc/profile.d/runctl-limits.sh")
TELL = f"case $- in *i*) [ ! -s {NOTICE} ] || cat {NOTICE} ;; esac\n"
STATE = Path("/var/lib/runctl")
TICK_SECONDS = 10.0
LEAST_TICK = 0.5
CHANGE_SECONDS = 1.0
"""So often it looks whether the limits were changed."""
SAMPLE_SECONDS = 60.0
RETRY_SECONDS = 30.0
"""After a shutdown that was refused, or that has not ended the machine."""


@dataclass
class Count:
    """How long the machine has run. What is written down survives a reboot, and a stop and a start."""

    before: float
    """In earlier boots."""
    began: float
    """When this boot did, on its own clock."""
    boot: str

    def ran(self, now: float) -> float:
        """In seconds, since the machine was created."""
        return self.before + max(0.0, now - self.began)


def read_count(folder: Path, boot: str, began: float) -> Count:
    """What was counted so far, in this boot or in the ones before."""
    known = activity.read_object(folder / COUNT)
    before = number(known.get("before")) or 0.0
    if known.get("boot") != boot:
        before = max(before, number(known.get("ran")) or 0.0)
    return Count(before, began, boot)


def read_limits(folder: Path) -> Limits:
    """What was asked for last."""
    known = activity.read_object(folder / LIMITS)
    return Limits(
        ttl_seconds=number(known.get("ttl_seconds")),
        budget_seconds=number(known.get("budget_seconds")),
        budget=str(known.get("budget") or ""),
        idle_seconds=number(known.get("idle_seconds")),
        unused_seconds=number(known.get("unused_seconds")),
    )


def write_limits(folder: Path, limits: Limits) -> None:
    """The guard has them within a few seconds. Raises `OSError`."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    replace_file(folder / LIMITS, json.dumps(dataclasses.asdict(limits)), 0o644)


def ran_seconds(at: float, status: dict[str, Any]) -> float:
    """How long the machine has run now, by what the guard found at ``at``."""
    return (number(status.get("ran_seconds")) or 0.0) + max(0.0, activity.now() - at)


def number(value: Any) -> float | None:
    """A value that is one."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


class Guard:
    """Looks every few seconds, for as long as the machine runs."""

    def __init__(self, shut_down: Callable[[str], None], tell: Callable[[str], None]) -> None:
        began = activity.boot_began()
        self._count = read_count(FOLDER, f"{_boot_id()} {began}", activity.now() if began is None else began)
        self._shut_down, self._tell = shut_down, tell
        self._sample = activity.sample()
        # Of this boot: an earlier guard was killed.
        known = activity.read_object(STATUS)
        self._busy_at = number(known.get("busy_at")) or self._sample.at
        self._needed_at = number(known.get("needed_at")) or self._sample.at
        self._touched_at, self._changed = self._sample.at, activity.newest_change(STATE)
        self._told: dict[float, bool] = {}
        self._tried_at: float | None = None

    def poll(self) -> float:
        """Look once; returns after how many seconds it is time for the next."""
        limits, taken = read_limits(FOLDER), activity.sample()
        seen = self._see(limits, taken)
        limit = next_limit(limits, seen)
        self._write(limits, seen, limit, taken.at)
        if limit is None:
            return TICK_SECONDS
        self._warn(limits, limit)
        waited = self._tried_at is None or taken.at - self._tried_at >= RETRY_SECONDS
        if ends_now(limit, seen) and waited:
            self._tried_at = taken.at
            self._shut_down(warning(limits, limit))
        return max(LEAST_TICK, min(TICK_SECONDS, limit.seconds))

    def _see(self, limits: Limits, taken: activity.Sample) -> Seen:
        runs = activity.runs_of(STATE / "runs", taken.processes)
        every = min(SAMPLE_SECONDS, (limits.idle_seconds or SAMPLE_SECONDS) / 4)
        if taken.at - self._sample.at >= every:
            if activity.busy_with(self._sample, taken) or activity.gpu_percent() >= activity.BUSY_GPU:
                self._busy_at = taken.at
            self._sample = taken
        if runs.going or activity.is_anybody_logged_in(taken.processes):
            self._needed_at = taken.at
        changed = 0.0 if runs.any else activity.newest_change(STATE)
        if changed != self._changed:
            self._changed, self._touched_at = changed, taken.at
        return Seen(
            ran_seconds=self._count.ran(taken.at),
            idle_seconds=taken.at - max(self._busy_at, self._needed_at),
            runs=runs.going,
            supervised=runs.supervised,
            had_run=runs.any,
            untouched_seconds=taken.at - self._touched_at,
        )

    def _write(self, limits: Limits, seen: Seen, limit: MachineLimit | None, at: float) -> None:
        """What the agent, a login and the next boot read. A full disk keeps nothing from ending."""
        status = {
            "at": at,
            "limits": dataclasses.asdict(limits),
            "ran_seconds": seen.ran_seconds,
            "idle_seconds": seen.idle_seconds,
            "busy_at": self._busy_at,
            "needed_at": self._needed_at,
            "cause": None if limit is None else limit.cause.value,
            "ends_at": None if limit is None else at + limit.seconds,
        }
        count = {"before": self._count.before, "ran": seen.ran_seconds, "boot": self._count.boot}
        with contextlib.suppress(OSError):
            replace_file(STATUS, json.dumps(status), 0o644, durable=False)
            replace_file(NOTICE, notice(limits, seen) + "\n" if limits.any else "", 0o644, durable=False)
        with contextlib.suppress(OSError):
            FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
            replace_file(FOLDER / COUNT, json.dumps(count), 0o644)

    def _warn(self, limits: Limits, limit: MachineLimit) -> None:
        """Who is logged in is told, once for each of `WARNINGS`, and anew when the end has moved away meanwhile."""
        for before in WARNINGS:
            told = self._told.get(before, False)
            if limit.seconds > before:
                self._told[before] = False
            elif not told:
                self._told[before] = True
                if limit.seconds > 0:
                    self._tell(warning(limits, limit))


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def shut_down(why: str) -> None:
    """The machine goes down in order; its provider ends it for good, as it was told when the machine was rented."""
    tell(why)
    done = subprocess.run(
        [shutil.which("shutdown") or "/sbin/shutdown", "-h", "now", f"runctl: {why}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(f"shutdown: exit code {done.returncode}: {done.stderr}\n")


def tell(text: str) -> None:
    """Everybody who is logged in reads it."""
    sys.stderr.write(text + "\n")
    wall = shutil.which("wall")
    if wall is not None:
        subprocess.run([wall, f"runctl: {text}"], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def install(limits: Limits, argv: list[str]) -> None:
    """The guard runs, and will after every boot, with these limits. As root. Raises `OSError`, `RuntimeError`."""
    write_limits(FOLDER, limits)
    start_at_boot(NAME, "End this machine at the limits that runctl was given", argv, {})
    if PROFILE.parent.is_dir():
        replace_file(PROFILE, TELL, 0o644)


def run() -> int:
    """Guard the machine for as long as it runs."""
    guard = Guard(shut_down, tell)
    told = ""
    while True:
        pause = TICK_SECONDS
        try:
            pause = guard.poll()
        except Exception as error:  # noqa: BLE001 (without the guard the machine would go on for good)
            if told != repr(error):
                told = repr(error)
                sys.stderr.write(f"{told}\n")
        _wait(pause)


def _wait(seconds: float) -> None:
    """So long, or until somebody has changed the limits."""
    changed, until = _changed_at(FOLDER / LIMITS), activity.now() + seconds
    while (left := until - activity.now()) > 0 and _changed_at(FOLDER / LIMITS) == changed:
        time.sleep(min(left, CHANGE_SECONDS))


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def main(arguments: list[str]) -> int:
    """``install LIMITS PROGRAM...`` (once, with the limits as JSON), or ``run``."""
    if arguments[:1] == ["install"]:
        install(Limits(**json.loads(arguments[1])), arguments[2:])
        return 0
    return run()
