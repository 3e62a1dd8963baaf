"""The verbs about the machine's volumes, done as root where that is needed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from runctl.agent.disks import disks, provided
from runctl.agent.disks.freezing import checked_hold, checked_holder
from runctl.agent.disks.interface import attach_request, volume_id
from runctl.agent.encoding import to_json
from runctl.agent.errors import AgentError
from runctl.agent.machine import durable, processes
from runctl.agent.machine.root import call_as_root, folder_root, state_path
from runctl.agent.records import attempts


def mounts(request: Mapping[str, Any]) -> dict[str, Any]:
    """``mounts``: what is mounted; ``unmounted``: disks that are attached and not.

    ``provided`` says, by mount point, which volumes the provider has mounted itself: there is no serial to read.
    """
    here = disks()
    if "provided" in request:
        provided.remember(request["provided"])
    return {"mounts": here.mounts(), "unmounted": here.unmounted()}


def attach(request: Mapping[str, Any]) -> Any:
    """The volume is mounted. See `disks.interface.AttachRequest` for the request and `Attached` for the answer."""
    wanted = attach_request(request)
    if _needs_root():
        return call_as_root("attach", request)
    with _alone():
        return to_json(disks().attach(wanted))


def detach(request: Mapping[str, Any]) -> Any:
    """The volume is flushed and unmounted; the provider may take it away.

    Raises `AgentError` (``disk-busy``) while a run has it, though none of its processes holds a file there just now.
    ``force`` takes it all the same.
    """
    volume = _volume_in(request, "detach")
    if not request.get("force"):
        _check_no_run_has(volume)
    if _needs_root():
        return call_as_root("detach", request)
    with _alone():
        return to_json(disks().detach(volume, force=bool(request.get("force"))))


def grow(request: Mapping[str, Any]) -> Any:
    """Partition and file system are as large as the volume. See `disks.growth.Grown` for the answer."""
    volume = _volume_in(request, "grow")
    if _needs_root():
        return call_as_root("grow", request)
    size, wait = request.get("size_bytes"), request.get("wait_seconds")
    seconds = 60.0 if wait is None else float(wait)
    with _alone():
        return to_json(disks().grow(volume, size_bytes=int(size or 0), wait_seconds=seconds))


def freeze(request: Mapping[str, Any]) -> Any:
    """The volume holds still for ``holder``, for ``hold_seconds`` at the most.

    See `disks.freezing.Frozen` for the answer.
    """
    volume, hold = _volume_in(request, "freeze"), checked_hold(request.get("hold_seconds", 30.0))
    holder = checked_holder(request.get("holder", ""))
    if _needs_root():
        return call_as_root("freeze", request)
    return to_json(disks().freeze(volume, hold_seconds=hold, holder=holder))


def thaw(request: Mapping[str, Any]) -> dict[str, bool]:
    """``was_frozen``: whether it held still for this ``holder`` until now."""
    volume, holder = _volume_in(request, "thaw"), checked_holder(request.get("holder", ""))
    if _needs_root():
        found: dict[str, bool] = call_as_root("thaw", request)
        return found
    return {"was_frozen": disks().thaw(volume, holder=holder)}


def _check_no_run_has(volume: str) -> None:
    # As root, nothing may be made here: the folder is the login user's.
    if not os.access(state_path() / "runs", os.R_OK | os.W_OK | os.X_OK):
        return
    for folder in attempts():
        spec, live = folder.spec(), folder.live()
        if (
            spec is None
            or all(mount.volume_id != volume for mount in spec.mounts)
            or folder.end() is not None
            or live.let_go
        ):
            continue
        if any(map(processes.alive, (live.supervisor, live.script, live.follower))):
            raise AgentError(
                "disk-busy",
                f"volume {volume} is in use by {folder.run_id}",
                "stop the run first, or detach with --force",
            )


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No other call changes disks meanwhile: one whose caller has died may still be making a file system."""
    # As root, nothing may be made here but the lock: the folder is the login user's.
    state = state_path()
    with durable.locked(state / "disks.lock") if state.is_dir() else contextlib.nullcontext():
        yield


def _volume_in(request: Mapping[str, Any], verb: str) -> str:
    given = request.get("volume_id")
    if not isinstance(given, str):
        raise AgentError("bad-request", f"{verb} needs a volume_id")
    return volume_id(given)


def _needs_root() -> bool:
    return folder_root() is None and os.geteuid() != 0
