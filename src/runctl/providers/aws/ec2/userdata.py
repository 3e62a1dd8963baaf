"""What a new machine does at its first boot, as a script, and what it reported afterwards."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib import resources
from typing import Any

from runctl.agent.encoding import loads
from runctl.core.errors import MachineError

LIMIT_BYTES = 16 * 1024
"""EC2's limit for user-data before its encoding."""
READY_FILE = "/var/lib/runctl/ready.json"


@dataclass(frozen=True)
class Ready:
    """What the first boot reported in `READY_FILE`."""

    ok: bool
    docker: str | None
    """The engine's version."""
    failures: tuple[str, ...]
    """In words, also those that do not keep the machine from being used."""


def user_data(
    *, login_user: str, deadline: datetime | None, docker: bool = True, unused_for: timedelta | None = None
) -> str:
    """The script, below `LIMIT_BYTES`. Every value is quoted; the program itself never changes."""
    values = {
        "RUNCTL_USER": login_user,
        "RUNCTL_DEADLINE": str(int(deadline.timestamp())) if deadline else "",
        "RUNCTL_DOCKER": "1" if docker else "0",
        "RUNCTL_UNUSED": str(int(unused_for.total_seconds())) if unused_for else "",
    }
    assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    return f"#!/bin/sh\n{assignments}{_program()}"


def parse_ready(text: bytes) -> Ready:
    """Raises `MachineError` for what no first boot of ours has written."""
    try:
        content: Any = loads(text)
        steps = content["steps"]
        failures = tuple(f"{step['name']}: {step['detail']}".rstrip() for step in steps if not step["ok"])
        return Ready(bool(content["ok"]), content.get("docker"), failures)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MachineError(
            f"{READY_FILE} on the machine cannot be read: {error}",
            hint="check that runctl wrote it, and read /var/log/cloud-init-output.log on the machine",
            code="user-data",
        ) from error


@cache
def _program() -> str:
    return resources.files("runctl.providers.aws.ec2").joinpath("bootstrap.sh").read_text(encoding="utf-8")
