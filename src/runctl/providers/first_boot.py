"""What a new machine does at its first boot, as a script, and what it reported afterwards."""

from __future__ import annotations

import base64
import gzip
import shlex
from datetime import timedelta
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent import package
from runctl.agent.encoding import dumps, loads
from runctl.agent.guard.limits import Limits
from runctl.core.errors import MachineError
from runctl.core.money import usd

LIMIT_BYTES = 16 * 1024
"""EC2's limit for user data, before its base64 and as `compressed`."""
UNLIMITED = Limits()
READY_FILE = "/var/lib/runctl/ready.json"


@dataclass(frozen=True)
class Ready:
    """What the first boot reported in `READY_FILE`."""

    ok: bool
    docker: str | None
    """The engine's version."""
    failures: tuple[str, ...]
    """In words, also those that do not keep the machine from being used."""


def user_data(*, login_user: str, limits: Limits = UNLIMITED, docker: bool = True) -> str:
    """The script. Every value is quoted; the program itself never changes."""
    seconds = [each for each in (limits.ttl_seconds, limits.budget_seconds) if each is not None]
    values = {
        "RUNCTL_USER": login_user,
        "RUNCTL_LIMITS": dumps(limits),
        "RUNCTL_MINUTES": str(int(min(seconds) // 60)) if seconds else "",
        "RUNCTL_DOCKER": "1" if docker else "0",
        "RUNCTL_GUARD": _guard(),
    }
    assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    return f"#!/bin/sh\n{assignments}{_program()}"


def compressed(script: str) -> bytes:
    """As EC2 is given it: cloud-init unpacks it, and there is room for little otherwise."""
    return gzip.compress(script.encode(), mtime=0)


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


def machine_limits(
    *,
    ttl: timedelta | None,
    budget: Decimal | None,
    budget_time: timedelta | None,
    idle_timeout: timedelta | None,
    unused_for: timedelta | None,
) -> Limits:
    """What the machine's guard is told."""
    return Limits(
        ttl_seconds=_seconds(ttl),
        budget_seconds=_seconds(budget_time),
        budget=usd(budget) if budget is not None else "",
        idle_seconds=_seconds(idle_timeout),
        unused_seconds=_seconds(unused_for),
    )


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


@cache
def _guard() -> str:
    return base64.b85encode(package.guard()).decode()


@cache
def _program() -> str:
    return resources.files("runctl.providers").joinpath("first_boot.sh").read_text(encoding="utf-8")
