"""``diagnose``: facts about the machine for a person who wonders why something does not work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from runctl.agent.disks import disks
from runctl.agent.environments import interpreter, script
from runctl.agent.machine import durable
from runctl.agent.machine import root as machine
from runctl.agent.machine.facts import version
from runctl.agent.spec import to_json
from runctl.agent.supervising.state import state_directory

NETWORK_SECONDS = 5.0
PACKAGE_INDEX = "https://pypi.org/simple/pip/"
OOM_LINES = 10


def diagnose(request: Mapping[str, Any]) -> dict[str, Any]:
    """What `version` says, and more; nothing here fails, it says what it could not find out.

    ``now`` in the request (seconds since the epoch) gives the clock's skew; ``network: false`` leaves that out.
    """
    began = time.time()
    env = script.login_environment(machine.login_user(), os.environ)
    given = request.get("now")
    facts = version({})
    facts.update(
        clock_skew_seconds=round(began - float(given), 3) if given is not None else None,
        uptime_seconds=_uptime(),
        memory_available_bytes=_meminfo("MemAvailable"),
        load=os.getloadavg(),
        pythons=_pythons(env),
        uv=shutil.which("uv", path=env.get("PATH")),
        ready=_ready(),
        network=_network() if request.get("network", True) else None,
        disks=_disks(),
        out_of_memory=_oom_lines(),
    )
    return facts


def _uptime() -> float | None:
    try:
        return float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError):
        return None


def _meminfo(name: str) -> int | None:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def _pythons(env: Mapping[str, str]) -> list[str]:
    paths = [path for group in interpreter.candidates(env) for path in group]
    return [one.words for one in interpreter.probe(paths, env)]


def _ready() -> Any:
    """What the machine's first boot left behind."""
    try:
        return durable.read_json(state_directory() / "ready.json")
    except (OSError, ValueError) as error:
        return {"unreadable": str(error)}


def _network() -> dict[str, Any]:
    """Whether packages can be fetched, and what the other side's clock says."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    began = time.time()
    try:
        with urlopen(Request(PACKAGE_INDEX, method="HEAD"), timeout=NETWORK_SECONDS) as answer:
            date = answer.headers.get("Date")
    except HTTPError as error:
        return {"ok": False, "url": PACKAGE_INDEX, "reason": f"HTTP {error.code}"}
    except OSError as error:
        return {"ok": False, "url": PACKAGE_INDEX, "reason": str(getattr(error, "reason", error))}
    skew = None
    if date:
        skew = round(began - parsedate_to_datetime(date).timestamp(), 1)
    return {
        "ok": True,
        "url": PACKAGE_INDEX,
        "seconds": round(time.time() - began, 3),
        "clock_skew_seconds": skew,
    }


def _disks() -> dict[str, Any]:
    here = disks()
    return {"mounts": to_json(here.mounts()), "unmounted": to_json(here.unmounted())}


def _oom_lines() -> list[str]:
    """What the kernel says about processes that it killed for want of memory; empty where it may not be asked."""
    argv = ["dmesg", "--time-format", "iso"]
    command = machine.as_root(argv) if machine.folder_root() is None and machine.root_available() else argv
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=10.0
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in done.stdout.splitlines() if re.search(r"Out of memory|oom-kill", line)][
        -OOM_LINES:
    ]
