"""What AWS's machines do at their first boot, done over SSH where a provider takes no user data; and what ends them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from runctl.agent.guard.limits import Limits
from runctl.core import tags as tag
from runctl.core.clock import parse_rfc3339
from runctl.core.errors import MachineError
from runctl.core.machine_models import Instance
from runctl.core.progress import Progress
from runctl.providers.first_boot import READY_FILE, parse_ready
from runctl.providers.registry import command, has_verb
from runctl.transport.interface import Transport

_COMMAND_TIMEOUT = timedelta(seconds=45)
_PREPARING = timedelta(minutes=10)
"""An image without Docker may have it installed."""
LEAST_SECONDS = 60.0
"""So long a machine runs whose time to live is over when it starts: for somebody to see why it ends."""
_SCRIPT = PurePosixPath("/tmp/runctl-first-boot.sh")  # noqa: S108 (on the machine, and read by root at once)


def prepare(instance: Instance, transport: Transport, script: Callable[[], str], progress: Progress) -> None:
    """The machine has run `first_boot.user_data`, once. Raises `MachineError` where it could not be prepared."""
    done = transport.run(["cat", READY_FILE], timeout=_COMMAND_TIMEOUT)
    if done.exit_code != 0:
        progress.step("preparing the machine")
        transport.put(script().encode(), _SCRIPT, mode=0o600)
        transport.run(["sh", str(_SCRIPT)], timeout=_PREPARING, as_root=True)
        done = transport.run(["cat", READY_FILE], timeout=_COMMAND_TIMEOUT)
    ready = parse_ready(done.stdout)
    if not ready.ok:
        look = "ssh" if has_verb(instance.provider, "ssh") else "status"
        raise MachineError(
            f"{instance.id} could not be prepared: {'; '.join(ready.failures)}",
            hint=f"investigate: {command(instance.provider, look, instance.id)};"
            f" undo: {command(instance.provider, 'terminate', instance.id)}",
            code="user-data",
        )
    for failure in ready.failures:
        progress.warn(f"preparing the machine: {failure}")


def limits_of(tags: Mapping[str, str], now: datetime) -> Limits:
    """What ends a machine by itself, as its tags say: the time that is left of what it may run. Pure."""
    expires, idle, unused = (tags.get(each) for each in (tag.EXPIRES_AT, tag.IDLE_TIMEOUT, tag.UNUSED_FOR))
    left = (parse_rfc3339(expires) - now).total_seconds() if expires else None
    return Limits(
        ttl_seconds=None if left is None else max(left, LEAST_SECONDS),
        idle_seconds=float(idle) if idle else None,
        unused_seconds=float(unused) if unused else None,
    )
