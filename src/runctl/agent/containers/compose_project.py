"""Everything that Compose has made for one attempt: known by its label, whichever Compose it was."""

from __future__ import annotations

import json
from dataclasses import dataclass

from runctl.agent.containers import docker

LABEL = "com.docker.compose.project"
STOP_SECONDS = 5
"""For side-cars; the run itself has had its grace by then."""


@dataclass(frozen=True)
class Member:
    """One container of the project."""

    container_id: str
    service: str
    state: str
    """``created``, ``running``, ``exited``, …"""
    exit_code: int


def members(engine: docker.Engine, project: str) -> list[Member]:
    """All of them, as they are now; none when the engine cannot be asked."""
    ids = _ids(engine, "ps", "--all", project)
    if not ids:
        return []
    done = engine.call("container", "inspect", *ids)
    try:
        facts = json.loads(done.stdout)
    except ValueError:
        return []
    return [
        Member(
            one["Id"],
            str(((one.get("Config") or {}).get("Labels") or {}).get("com.docker.compose.service", "")),
            str((one.get("State") or {}).get("Status", "")),
            int((one.get("State") or {}).get("ExitCode") or 0),
        )
        for one in facts
    ]


def remove_project(engine: docker.Engine, project: str) -> None:
    """No container, network or volume of the project is left; volumes that the file calls external are not its own."""
    containers = _ids(engine, "ps", "--all", project)
    if containers:
        patience = 60.0 + STOP_SECONDS * len(containers)
        engine.call("stop", "--time", str(STOP_SECONDS), *containers, timeout=patience)
        engine.call("rm", "--force", "--volumes", *containers, timeout=patience)
    for kind in ("network", "volume"):
        found = _ids(engine, kind, "ls", project)
        if found:
            engine.call(kind, "rm", *found)


def _ids(engine: docker.Engine, first: str, second: str, project: str) -> list[str]:
    done = engine.call(first, second, "--quiet", "--filter", f"label={LABEL}={project}")
    return docker.words(done.stdout).split() if done.returncode == 0 else []
