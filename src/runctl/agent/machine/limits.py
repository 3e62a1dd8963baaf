"""The verb ``limits``: what ends this machine by itself, and how that is changed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from runctl.agent.errors import AgentError
from runctl.agent.guard import activity, daemon
from runctl.agent.guard.limits import Limits
from runctl.agent.machine.root import call_as_root, on_machine

SILENT_SECONDS = 60.0
"""A guard that has found nothing for so long does not run."""


def limits(request: Mapping[str, Any]) -> dict[str, Any]:
    """``limits``, ``ran_seconds``, ``idle_seconds``, and with ``cause`` and ``ends_in_seconds`` which one is next.

    They are changed where the request names some: ``ttl_seconds`` from now on, ``budget_seconds`` since the machine was
    created, with the amount as ``budget``, and ``idle_seconds``; ``limits_off`` names, joined by commas, those that are
    to go. Raises `AgentError` (``no-guard``, ``needs-root``).
    """
    status = activity.read_object(on_machine(str(daemon.STATUS)))
    at = daemon.number(status.get("at"))
    if at is None or activity.now() - at > SILENT_SECONDS:
        raise AgentError(
            "no-guard",
            "nothing on this machine ends it at a limit",
            "it was created by an older runctl, or its guard was stopped: systemctl status runctl-guard",
        )
    changes = {name: request[name] for name in _NAMES if request.get(name) is not None}
    off = [name for name in str(request.get("limits_off") or "").split(",") if name]
    if changes or off:
        if os.geteuid() != 0:
            return dict(call_as_root("limits", request))
        ran = daemon.ran_seconds(at, status)
        daemon.write_limits(daemon.FOLDER, changed(daemon.read_limits(daemon.FOLDER), changes, off, ran))
    ends_at = daemon.number(status.get("ends_at"))
    return {
        "limits": dataclasses.asdict(daemon.read_limits(daemon.FOLDER)),
        "ran_seconds": daemon.ran_seconds(at, status),
        "idle_seconds": status.get("idle_seconds"),
        "cause": status.get("cause"),
        "ends_in_seconds": None if ends_at is None else ends_at - activity.now(),
    }


_NAMES = ("ttl_seconds", "budget_seconds", "budget", "idle_seconds")


def changed(known: Limits, changes: Mapping[str, Any], off: list[str], ran: float) -> Limits:
    """The limits after a change, on a machine that has run for ``ran`` seconds. Pure."""
    values: dict[str, Any] = {**changes, **dict.fromkeys(name for name in off if name in _NAMES)}
    if "budget_seconds" in off:
        values["budget"] = ""
    if changes.get("ttl_seconds") is not None:
        values["ttl_seconds"] = ran + float(changes["ttl_seconds"])
    return dataclasses.replace(known, **values)
