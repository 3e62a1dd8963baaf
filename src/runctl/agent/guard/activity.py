"""Whether anything uses the machine: processor, disks, network, GPUs, somebody logged in, a run that goes on.

All of it is read from the processes and the network of this machine alone, which also holds where several machines
share a kernel. What processes that have ended used is in the count of whoever waited for them.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUSY_CORES = 0.2
BUSY_DISK = 256 * 1024.0
"""Bytes a second, as for the network; less is what an idle system writes and says anyway."""
BUSY_NETWORK = 32 * 1024.0
BUSY_GPU = 5
"""Per cent, of any GPU."""
GPU_SECONDS = 10.0
LOGIN_SERVERS = frozenset({"sshd", "sshd-session", "dropbear", "login", "ssm-session-wor", "ssm-document-wo"})
"""What they start is a session of somebody; the kernel keeps 15 characters of a name."""
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One process, and all that it has used."""

    parent: int
    name: str
    started: str
    """In the kernel's words: a number is given to another process later."""
    cpu_seconds: float
    """With that of its children that have ended."""
    disk_bytes: int = 0


@dataclass(frozen=True)
class Sample:
    """What the machine has used until a moment."""

    at: float
    """On the boot's clock."""
    processes: Mapping[int, Process] = field(default_factory=dict)
    network_bytes: int = 0


@dataclass(frozen=True)
class Runs:
    """What is known of runs on the machine."""

    any: bool = False
    """There was one at some time."""
    going: bool = False
    supervised: bool = False


def now() -> float:
    """Seconds since the boot, with those for which the machine slept. Nobody can set this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def parse_stat(text: str) -> tuple[int, Process]:
    """A line of ``/proc/PID/stat`` (proc(5))."""
    opening, closing = text.index("("), text.rindex(")")
    fields = text[closing + 2 :].split()
    cpu = sum(int(value) for value in fields[11:15]) / TICK
    return int(text[:opening]), Process(int(fields[1]), text[opening + 1 : closing], fields[19], cpu)


def sample(proc: Path = Path("/proc")) -> Sample:
    """What has been used until now."""
    found: dict[int, Process] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            pid, process = parse_stat((entry / "stat").read_text(errors="replace"))
        except (OSError, ValueError, IndexError):
            continue  # it has ended meanwhile
        found[pid] = Process(
            process.parent, process.name, process.started, process.cpu_seconds, _disk_bytes(entry)
        )
    return Sample(now(), found, _network_bytes(proc))


def _disk_bytes(entry: Path) -> int:
    try:
        lines = (entry / "io").read_text().splitlines()
        values = dict(line.split(": ") for line in lines)
        return int(values["read_bytes"]) + int(values["write_bytes"])
    except (OSError, ValueError, KeyError):
        return 0


def _network_bytes(proc: Path) -> int:
    total = 0
    try:
        lines = (proc / "net/dev").read_text().splitlines()[2:]
    except OSError:
        return 0
    for line in lines:
        name, _, counts = line.partition(":")
        fields = counts.split()
        if name.strip() != "lo" and len(fields) > 8:
            total += int(fields[0]) + int(fields[8])
    return total


def busy_with(before: Sample, after: Sample) -> str:
    """What has used the machine between two samples; empty: nothing. Pure."""
    seconds = after.at - before.at
    if seconds <= 0:
        return ""
    if total_cpu(after) - total_cpu(before) >= BUSY_CORES * seconds:
        return "cpu"
    if _disk_between(before, after) >= BUSY_DISK * seconds:
        return "disk"
    if after.network_bytes - before.network_bytes >= BUSY_NETWORK * seconds:
        return "network"
    return ""


def total_cpu(taken: Sample) -> float:
    """Seconds of all processes that are there."""
    return sum(process.cpu_seconds for process in taken.processes.values())


def _disk_between(before: Sample, after: Sample) -> int:
    total = 0
    for pid, process in after.processes.items():
        old = before.processes.get(pid)
        known = old.disk_bytes if old is not None and old.started == process.started else 0
        total += process.disk_bytes - known
    return total


def is_anybody_logged_in(processes: Mapping[int, Process]) -> bool:
    """Whether a login's own shell, or whatever it runs, is there. Pure.

    A terminal that somebody has detached from, as tmux leaves it behind, is nobody's.
    """
    for process in processes.values():
        parent = processes.get(process.parent)
        if parent is not None and parent.name in LOGIN_SERVERS and process.name not in LOGIN_SERVERS:
            return True
    return False


def gpu_percent() -> int:
    """Of the GPU that is used most; 0 without one."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=GPU_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return max((int(line) for line in done.stdout.split() if line.isdigit()), default=0)


def runs_of(folder: Path, processes: Mapping[int, Process]) -> Runs:
    """What the agent's folder of runs says, and which of their processes are there."""
    found, going, supervised = False, False, False
    for spec in folder.glob("*/*/spec.json"):
        found = True
        if (spec.parent / "end.json").exists():
            continue
        live = read_object(spec.parent / "status.json")
        if _lives(live.get("supervisor"), processes):
            going = supervised = True
        going = going or _lives(live.get("script"), processes)
    return Runs(found, going, supervised)


def _lives(identity: Any, processes: Mapping[int, Process]) -> bool:
    if not isinstance(identity, dict):
        return False
    process = processes.get(identity.get("pid", 0))
    return process is not None and process.started == identity.get("started")


def newest_change(folder: Path) -> float:
    """When the latest name below a folder was changed, by whatever clock: it only matters that it differs."""
    latest = 0.0
    for path in _some(folder):
        try:
            latest = max(latest, path.lstat().st_ctime)
        except OSError:
            continue
    return latest


def _some(folder: Path) -> Iterable[Path]:
    """The upper levels, which change with what is put below them."""
    for pattern in ("*", "*/*", "*/*/*"):
        yield from folder.glob(pattern)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def boot_began(proc: Path = Path("/proc")) -> float | None:
    """When the machine's first process started, on the boot's clock."""
    try:
        return int(parse_stat((proc / "1/stat").read_text(errors="replace"))[1].started) / TICK
    except (OSError, ValueError, IndexError):
        return None
