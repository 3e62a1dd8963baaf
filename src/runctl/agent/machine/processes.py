"""Processes of this machine: which is which, who descends from whom, what they use, how to signal them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.machine.root import as_root, root_available

PROC = Path("/proc")
LINUX = sys.platform.startswith("linux")

PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Identity:
    """One process for ever: its number alone is given to others after it has gone."""

    pid: int
    started: str
    """When it started, in the kernel's own words (clock ticks since boot)."""
    boot: str
    """The boot that it belongs to."""


@dataclass(frozen=True)
class Process:
    """A line of the process table."""

    pid: int
    parent: int
    session: int
    name: str
    state: str
    started: str
    cpu_seconds: float
    rss_bytes: int


def boot_id() -> str:
    """Changes with every boot."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        done = subprocess.run(["sysctl", "-n", "kern.boottime"], capture_output=True, text=True, check=False)
        return done.stdout.strip()


def parse_stat(text: str) -> Process:
    """A line of ``/proc/PID/stat``; the name may hold spaces and parentheses (proc(5))."""
    opening, closing = text.index("("), text.rindex(")")
    fields = text[closing + 2 :].split()
    tick = os.sysconf("SC_CLK_TCK")
    return Process(
        pid=int(text[:opening]),
        parent=int(fields[1]),
        session=int(fields[3]),
        name=text[opening + 1 : closing],
        state=fields[0],
        started=fields[19],
        cpu_seconds=(int(fields[11]) + int(fields[12])) / tick,
        rss_bytes=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
    )


def process(pid: int) -> Process | None:
    """The process with this number now, zombies included; ``None`` when there is none."""
    if not LINUX:
        return _table_by_ps().get(pid)
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text(errors="replace"))
    except (OSError, ValueError, IndexError):
        return None


def table() -> dict[int, Process]:
    """Every process that can be seen."""
    if not LINUX:
        return _table_by_ps()
    found = {}
    for name in os.listdir(PROC):  # noqa: PTH208 (a Path each for thousands of processes is slow)
        if name.isdigit():
            listed = process(int(name))
            if listed is not None:
                found[listed.pid] = listed
    return found


def _table_by_ps() -> dict[int, Process]:
    # lstart is five fields long, so it stands in the middle, and the name, which may hold spaces, at the end.
    fields = "pid=,ppid=,sess=,state=,rss=,time=,lstart=,comm="
    done = subprocess.run(["ps", "-axo", fields], capture_output=True, text=True, check=False)
    found = {}
    for line in done.stdout.splitlines():
        row = line.split(None, 11)
        if len(row) < 12:
            continue
        pid = int(row[0])
        found[pid] = Process(
            pid=pid,
            parent=int(row[1]),
            session=0,
            name=Path(row[11]).name,
            state=row[3][:1],
            started=" ".join(row[6:11]),
            cpu_seconds=_ps_seconds(row[5]),
            rss_bytes=int(row[4]) * 1024,
        )
    return found


def _ps_seconds(text: str) -> float:
    seconds = 0.0
    for part in text.replace("-", ":").split(":"):
        seconds = seconds * 60 + float(part.replace(",", "."))
    return seconds


def identity(pid: int) -> Identity | None:
    """Who has this number now."""
    found = process(pid)
    return None if found is None else Identity(pid, found.started, boot_id())


def alive(who: Identity | None) -> bool:
    """Whether this very process still runs. A zombie does not."""
    if who is None:
        return False
    found = process(who.pid)
    return (
        found is not None
        and found.started == who.started
        and found.state not in "ZX"
        and boot_id() == who.boot
    )


def is_first_of(pid: int, container_id: str) -> bool:
    """Whether this number, which the engine gave, is the container's first process here as well."""
    folder = PROC / str(pid)
    try:
        status, groups = (folder / "status").read_text(errors="replace"), (folder / "cgroup").read_text()
    except OSError:
        return False
    numbers = re.search(r"^NSpid:\s*(\d+(?:\s+\d+)*)$", status, re.MULTILINE)
    inner = numbers.group(1).split() if numbers else []
    return container_id in groups or (len(inner) > 1 and inner[-1] == "1")


def descendants(root: int, processes: dict[int, Process]) -> list[Process]:
    """Children, their children and so on, nearest first, without zombies."""
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    queue = [root]
    while queue:
        for child in children.get(queue.pop(0), []):
            queue.append(child.pid)
            if child.state not in "ZX":
                found.append(child)
    return found


def with_environment(wanted: dict[str, str]) -> list[Process]:
    """Processes that were started with these variables, wherever they have gone since."""
    needles = {f"{name}={value}".encode() for name, value in wanted.items()}
    found = []
    for pid, candidate in table().items():
        if candidate.state in "ZX" or pid == os.getpid():
            continue
        try:
            variables: set[bytes] = set((PROC / str(pid) / "environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        if needles <= variables:
            found.append(candidate)
    return found


def send(pids: Iterable[int], signal_number: int) -> None:
    """Signal each of them, as root where they are another user's (sudo, a container) and this one may become root;
    those that have gone meanwhile are passed over."""
    others = []
    for pid in pids:
        try:
            os.kill(pid, signal_number)
        except ProcessLookupError:
            continue
        except PermissionError:
            others.append(str(pid))
    if others and root_available():
        argv = as_root(["kill", f"-{int(signal_number)}", *others])
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def usage(roots: Iterable[int], interval: float = 0.0) -> tuple[float | None, int]:
    """CPU in percent of one core over the interval (``None`` without one) and resident bytes of these trees."""
    roots = list(roots)

    def sample() -> tuple[dict[tuple[int, str], float], int]:
        processes = table()
        members = {pid: processes[pid] for pid in roots if pid in processes}
        for pid in roots:
            members.update((descendant.pid, descendant) for descendant in descendants(pid, processes))
        seconds = {(member.pid, member.started): member.cpu_seconds for member in members.values()}
        return seconds, sum(member.rss_bytes for member in members.values())

    before, rss = sample()
    if not interval:
        return None, rss
    import time

    began = time.monotonic()
    time.sleep(interval)
    after, rss = sample()
    spent = sum(max(0.0, value - before.get(key, 0.0)) for key, value in after.items())
    return round(100 * spent / (time.monotonic() - began), 1), rss


def become_subreaper() -> bool:
    """Orphans below this process become its children, so that daemons do not get away. False off Linux."""
    if not LINUX:
        return False
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0
