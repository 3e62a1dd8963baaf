"""What the machine can tell about the end of an attempt: memory, disks, volumes and the log's last lines."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from runctl.agent.attempt.attempt import Attempt, Outcome
from runctl.agent.attempt.children import Exited
from runctl.agent.attempt.end_decision import Facts, decide_end
from runctl.agent.attempt.log import says_no_space, says_read_only
from runctl.agent.disks.mount_watch import disk_name
from runctl.agent.machine.processes import PROC
from runctl.agent.machine.root import on_machine


def conclude(attempt: Attempt, exited: Exited, since: int, before: tuple[int, int], cpu: float) -> Outcome:
    """How the attempt ended, decided by what is found on the machine.

    ``since``: where the script's output begins in the log; ``before``: `oom_counters` when it started; ``cpu`` in
    seconds.
    """
    after = oom_counters()
    request = attempt.stop_request if exited.stop_requested else None
    spoken, last = says_no_space(attempt.log.tail(since))
    folders = [
        attempt.folder.path,
        attempt.folders.checkpoints,
        attempt.folders.output,
        Path(tempfile.gettempdir()),
    ]
    read_only = says_read_only(attempt.log.tail(since))
    troubles = attempt.volumes.at_the_end(says_read_only=read_only)
    lost = next((trouble for trouble in troubles if trouble.lost), None)
    full = full_folder([*folders, *_writable_mounts(attempt)])
    facts = Facts(
        exit_code=exited.exit_code,
        signal=exited.signal,
        requested=request.reason if request is not None else None,
        requested_message=request.message if request is not None else "",
        killed=exited.killed,
        oom_kills=after[0] - before[0],
        machine_oom_kills=after[1] - before[1],
        says_no_space=spoken or attempt.log.disk_full,
        ends_with_no_space=last,
        disk_full=disk_name(full, attempt.spec.mounts) if full else None,
        volume_lost=lost.message if lost else None,
        lost_writable=any(trouble.lost and not trouble.mount.read_only for trouble in troubles),
        volume_read_only=next((trouble.message for trouble in troubles if not trouble.lost), None),
        says_read_only=read_only,
    )
    reason, message = decide_end(facts)
    return Outcome(
        reason,
        message,
        exited.exit_code,
        exited.signal,
        exited.max_rss_bytes,
        round(cpu, 3),
        killed=exited.killed,
    )


def _writable_mounts(attempt: Attempt) -> list[Path]:
    found = []
    with contextlib.suppress(OSError):
        found = [on_machine(m.source) for m in attempt.spec.mounts if not m.read_only]
    return found


def full_folder(folders: Iterable[Path]) -> str | None:
    """The first of these whose file system is full: at most 2 % and 64 MiB are left for this user."""
    for folder in folders:
        try:
            facts = os.statvfs(folder)
        except OSError:
            continue
        size, free = facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize
        if size and (free <= min(64 << 20, size * 0.02) or (facts.f_files and not facts.f_favail)):
            return str(folder)
    return None


_COUNTER = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def oom_counters() -> tuple[int, int]:
    """Processes killed so far for want of memory: in this process's own control group, and on the machine."""
    own = 0
    for path in _memory_files():
        own += _counter(path)
    return own, _counter(PROC / "vmstat")


def _counter(path: Path) -> int:
    try:
        found = _COUNTER.search(path.read_text())
    except OSError:
        return 0
    return int(found.group(1)) if found else 0


def _memory_files() -> Iterable[Path]:
    """Where the kernel counts for our group: ``memory.events`` (v2), ``memory.oom_control`` (v1)."""
    for controllers, path in _groups().items():
        if path == "/":
            # The root group has no limit of its own; on v1 its counter is the whole machine's.
            continue
        if controllers == "":
            yield Path("/sys/fs/cgroup") / path.lstrip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            yield Path("/sys/fs/cgroup/memory") / path.lstrip("/") / "memory.oom_control"


def _groups() -> dict[str, str]:
    try:
        lines = (PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        found[controllers] = path
    return found
