"""``runs`` and ``prune``: what ended runs keep on this machine, and its removal."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runctl.agent.errors import AgentError
from runctl.agent.machine.root import as_root, folder_root, root_available, state_directory
from runctl.agent.records import RUN_ID, attempts
from runctl.agent.spec import RunState
from runctl.agent.supervising.status import observe

RESULTS = ("checkpoints", "output")


def runs(_request: Mapping[str, Any]) -> dict[str, Any]:
    """Every run of this machine: ``run_id``, ``ended`` (all its attempts have), ``work_bytes`` (logs, environments and
    copies of the project) and ``result_bytes`` (checkpoints and output that are not on a volume)."""
    found = []
    for folder in sorted((state_directory() / "runs").iterdir()):
        if folder.is_dir() and RUN_ID.fullmatch(folder.name):
            results = sum(_size(folder / name) for name in RESULTS)
            found.append(
                {
                    "run_id": folder.name,
                    "ended": _has_ended(folder.name),
                    "work_bytes": _size(folder) - results,
                    "result_bytes": results,
                }
            )
    return {"runs": found}


def prune(request: Mapping[str, Any]) -> dict[str, Any]:
    """Of each of ``run_ids`` nothing is kept but checkpoints and output; those neither with ``results``.

    What is on a volume is not touched. Raises `AgentError`: ``run-goes-on`` before anything is removed, and
    ``cannot-write``.
    """
    names = request.get("run_ids")
    if not isinstance(names, list) or not all(
        isinstance(name, str) and RUN_ID.fullmatch(name) for name in names
    ):
        raise AgentError("bad-request", "the run ids cannot be read")
    living = [name for name in names if not _has_ended(name)]
    if living:
        raise AgentError("run-goes-on", "{} has not ended".format(", ".join(living)), "stop it first")
    for name in names:
        folder = state_directory() / "runs" / name
        if not folder.is_dir():
            continue
        kept: list[str] = (
            [] if request.get("results") else [result for result in RESULTS if any(_entries(folder / result))]
        )
        for path in _entries(folder):
            if path.name not in kept:
                _remove(path)
        if not kept:
            _remove(folder)
    return {}


def _has_ended(run_id: str) -> bool:
    return all(observe(attempt).state is RunState.ENDED for attempt in attempts(run_id))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _size(path: Path) -> int:
    """Bytes on the disk of everything below; what cannot be read counts nothing."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118 (there may be very many)
            except OSError:
                continue
    return total


def _remove(path: Path) -> None:
    """Nothing is there; what a container wrote as another user needs root."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()
    if os.path.lexists(path) and folder_root() is None and root_available():
        subprocess.run(as_root(["rm", "-rf", "--", str(path)]), capture_output=True, check=False)
    if os.path.lexists(path):
        raise AgentError("cannot-write", f"{path} cannot be removed", "remove it by hand, as root")
