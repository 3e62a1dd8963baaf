"""``mounts``, ``attach`` and ``detach``: the machine's volumes, as root where that is needed."""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping

from runctl.agent.disks import disks
from runctl.agent.disks.interface import attach_request, volume_id
from runctl.agent.errors import AgentError
from runctl.agent.machine import call_as_root, folder_root
from runctl.agent.spec import to_json


def mounts(_request: Mapping[str, Any]) -> Dict[str, Any]:
    """``mounts``: what is mounted; ``unmounted``: disks that are attached and not."""
    here = disks()
    return {"mounts": here.mounts(), "unmounted": here.unmounted()}


def attach(request: Mapping[str, Any]) -> Any:
    """The volume is mounted. See `disks.interface.AttachRequest` for the request and `Attached` for the answer."""
    wanted = attach_request(request)
    if _needs_root():
        return call_as_root("attach", request)
    return to_json(disks().attach(wanted))


def detach(request: Mapping[str, Any]) -> Any:
    """The volume is flushed and unmounted; the provider may take it away."""
    given = request.get("volume_id")
    if not isinstance(given, str):
        raise AgentError("bad-request", "detach needs a volume_id")
    volume = volume_id(given)
    if _needs_root():
        return call_as_root("detach", request)
    return to_json(disks().detach(volume, force=bool(request.get("force"))))


def _needs_root() -> bool:
    return folder_root() is None and os.geteuid() != 0
