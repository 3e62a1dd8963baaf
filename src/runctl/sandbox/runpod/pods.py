"""One pod as the API has it: what was asked for, how far it is, and what it has cost."""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from runctl.sandbox.api.rest import Refused
from runctl.sandbox.runpod.runtimes import Door, Runtime
from runctl.sandbox.runpod.volumes import DATA_CENTRES

FIRST_DATA_CENTRE = next(iter(DATA_CENTRES))
CLOUDS = ("SECURE", "COMMUNITY")
FIELDS = frozenset(
    {
        *("name", "image", "gpu", "cpu", "cloud", "dataCenterIds", "disk", "mounts", "ports", "env", "args"),
        *("registry", "templateId", "startSsh", "startJupyter", "globalNetworking"),
    }
)
"""Of the closed body of a creation (§4)."""
NO_CAPACITY = (
    "There are no longer any instances available with the requested specifications."
    " Please refresh and try again."
)
_ACTIONS = {"RUNNING": ["stop", "restart", "terminate"], "EXITED": ["start", "terminate"]}


@dataclass
class SandboxPod:
    """One pod."""

    pod_id: str
    body: dict[str, Any]
    created_at: datetime
    status: str = "PROVISIONING"
    key: str = field(default_factory=lambda: f"rpa_pod_{secrets.token_hex(16)}", repr=False)
    """The platform puts one into each pod, as ``RUNPOD_API_KEY`` (§7)."""
    runtime: Runtime | None = None
    door: Door | None = None
    has_started: bool = False
    """Its container reports; one whose image cannot be had never does (§6)."""
    gpus: int = 0
    appears_at: float = 0.0
    """By the monotonic clock: from when on anybody sees it."""
    cost: float = 0.0
    running: list[list[datetime]] = field(default_factory=list)
    """From when until when it was billed; the last one has no end while it is."""
    changing: threading.Lock = field(default_factory=threading.Lock)
    """Held while its container is made or taken away."""

    @property
    def gpu_count(self) -> int:
        """As it was asked for."""
        return int(self.body["gpu"]["count"])

    @property
    def data_centre(self) -> str:
        """Where it is."""
        return str((self.body.get("dataCenterIds") or [FIRST_DATA_CENTRE])[0])

    def billed(self, since: datetime, until: datetime, *, by_the_minute: bool = False) -> float:
        """USD in that time (§9); a minute that has begun counts as a whole one where that is the rule (§14.9)."""
        now = datetime.now(UTC)
        seconds = 0.0
        for begin, *end in self.running:
            span = min(end[0] if end else now, until) - max(begin, since)
            seconds += max(span.total_seconds(), 0)
        if by_the_minute:
            seconds = -(-seconds // 60) * 60
        return self.cost * seconds / 3600

    def shown(self, *, empty_runtime: bool = False) -> dict[str, Any]:
        """As the API shows it; ``runtime`` of a pod that does not run is null, or ``{}`` (§6)."""
        running, door = self.status == "RUNNING", self.door
        direct = (
            {
                "host": door.host,
                "port": door.port,
                "username": "root",
                "command": f"ssh root@{door.host} -p {door.port}",
            }
            if door is not None and running
            else None
        )
        runtime: dict[str, Any] | None = {} if empty_runtime else None
        if running and self.has_started:
            up = (datetime.now(UTC) - self.running[-1][0]).total_seconds()
            runtime = {"uptime": int(up), "gpus": [{"util": 0, "memoryUtil": 0}] * self.gpus}
        return {
            "id": self.pod_id,
            "name": self.body["name"],
            "status": self.status,
            "actions": _ACTIONS.get(self.status, ["stop", "terminate"]),
            "image": self.body["image"],
            "args": self.body.get("args", ""),
            "disk": self.body["disk"],
            "mounts": self.body.get("mounts"),
            "ports": self.body.get("ports", []),
            "env": self.body.get("env", {}),
            "registry": self.body.get("registry"),
            "gpu": self.body["gpu"],
            "cloud": self.body.get("cloud", "SECURE"),
            "dataCenterId": self.data_centre,
            "ssh": {"proxy": None, "direct": direct},
            "cost": self.cost if self.status != "EXITED" else 0.0,
            "locked": False,
            "runtime": runtime,
            "createdAt": self.created_at.isoformat().replace("+00:00", "Z"),
            "startedAt": None,
        }


def mounted(body: dict[str, Any]) -> dict[str, str]:
    """Paths by the network volumes of a creation."""
    return {each["volumeId"]: each["path"] for each in (body.get("mounts") or {}).get("network") or ()}


def started_by(body: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The entry point and the command that ``args`` puts in place of the image's (§4). Raises `Refused`."""
    args = str(body.get("args") or "")
    if not args.startswith("{"):
        return (), tuple(args.split())
    try:
        found = json.loads(args)
        return tuple(found.get("entrypoint") or ()), tuple(found.get("cmd") or ())
    except ValueError:
        raise Refused(422, "Request validation failed.", "$.args: not JSON") from None


def check_creation(body: dict[str, Any]) -> None:
    """The contract of a creation. Raises `Refused`."""
    check_fields(body, FIELDS)
    missing = [name for name in ("name", "image") if not body.get(name)]
    if missing or ("gpu" in body) == ("cpu" in body):
        raise Refused(422, "Request validation failed.", f"$: missing {', '.join(missing) or 'gpu or cpu'}")
    if "disk" not in body:
        # Seen in the field (§4): the words lead nowhere.
        raise Refused(400, "You must either provide a template id or pod configuration parameters")
    mounts = body.get("mounts") or {}
    if len(mounts.get("network") or ()) > 1 or len(mounts) > 1:
        raise Refused(400, "A pod has one volume.")
    if "count" not in body["gpu"]:
        raise Refused(400, NO_CAPACITY)
    if body.get("cloud", "SECURE") not in CLOUDS:
        raise Refused(422, "Request validation failed.", "$.cloud: not one of SECURE, COMMUNITY")
    if not set(body.get("dataCenterIds", ())) <= set(DATA_CENTRES):
        raise Refused(400, f'Data center "{body["dataCenterIds"][0]}" not found')
    started_by(body)


def check_fields(body: dict[str, Any], known: frozenset[str]) -> None:
    """MachineMaker are closed (§4). Raises `Refused`."""
    unknown = sorted(set(body) - known)
    if unknown:
        raise Refused(
            422,
            "Request validation failed.",
            *(f"$: additional properties '{name}' not allowed" for name in unknown),
        )
