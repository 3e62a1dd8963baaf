"""One RunPod account: pods with bodies, a catalogue and its stock; and how the API behaves."""

from __future__ import annotations

import secrets
import string
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from runctl.sandbox.api.rest import Bodies, Refused, RestBehaviour
from runctl.sandbox.machines.machine import BootFailed, Hardware
from runctl.sandbox.runpod.forwarding import MappedPort
from runctl.sandbox.runpod.volumes import DATA_CENTRES, NetworkVolumes

HOST = "127.0.0.1"
FIRST_DATA_CENTRE = next(iter(DATA_CENTRES))
GPUS: tuple[tuple[str, str, int, float, float | None], ...] = (
    ("NVIDIA GeForce RTX 4090", "RTX 4090", 24, 0.44, 0.31),
    ("NVIDIA A100 80GB PCIe", "A100 PCIe", 80, 1.39, 1.19),
    ("NVIDIA RTX A5000", "RTX A5000", 24, 0.27, 0.16),
    ("NVIDIA H100 80GB HBM3", "H100 SXM", 80, 2.69, None),
)
"""Id, name, GB, and USD for a GPU's hour in the secure and the community cloud; samples of 2026 (§5)."""
MOST = 8
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
_LETTERS = string.ascii_lowercase + string.digits


@dataclass
class Behaviour(RestBehaviour):
    """How the API behaves: what tests, and `runctl sandbox faults`, can change."""

    stock: dict[str, int] = field(default_factory=dict)
    """Pods that there can be of a GPU's id; what is not in it has room."""
    list_lag: float = 0.0
    """For so many seconds a new pod is not in the list, and is not found (§6)."""
    start_seconds: float = 0.2
    """Until a pod runs."""
    no_port_seconds: float = 0.2
    """How long a pod runs before its SSH port is told (§6)."""
    zero_gpus: bool = False
    """A pod that is started again has no GPUs (§6)."""
    host_full: bool = False
    """A pod cannot be started again (§6)."""
    balance: float = 100.0
    """USD that were paid in; what pods and volumes have come to is taken off it (§9)."""
    spend_limit: float = 80.0
    """USD an hour."""
    balance_untold: bool = False
    """The older API answers 410, as it will from early 2027 on (§1)."""


@dataclass
class SandboxPod:
    """One pod."""

    pod_id: str
    body: dict[str, Any]
    created_at: datetime
    hardware: Hardware
    status: str = "PROVISIONING"
    door: MappedPort | None = None
    gpus: int = 0
    appears_at: float = 0.0
    """By the monotonic clock: from when on anybody sees it."""
    cost: float = 0.0
    running: list[list[datetime]] = field(default_factory=list)
    """From when until when it was billed; the last one has no end while it is."""

    def billed(self, since: datetime, until: datetime) -> float:
        """USD in that time (§9)."""
        now = datetime.now(UTC)
        seconds = 0.0
        for begin, *end in self.running:
            span = min(end[0] if end else now, until) - max(begin, since)
            seconds += max(span.total_seconds(), 0)
        return self.cost * seconds / 3600

    def shown(self) -> dict[str, Any]:
        """As the API shows it (§6)."""
        running = self.status == "RUNNING"
        door = self.door
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
        runtime = {"uptime": 1, "gpus": [{"util": 0, "memoryUtil": 0}] * self.gpus} if running else None
        return {
            "id": self.pod_id,
            "name": self.body["name"],
            "status": self.status,
            "actions": {"RUNNING": ["stop", "restart", "terminate"], "EXITED": ["start", "terminate"]}.get(
                self.status, ["stop", "terminate"]
            ),
            "image": self.body["image"],
            "disk": self.body["disk"],
            "mounts": self.body.get("mounts"),
            "ports": self.body.get("ports", []),
            "env": self.body.get("env", {}),
            "gpu": self.body["gpu"],
            "cloud": self.body.get("cloud", "SECURE"),
            "dataCenterId": (self.body.get("dataCenterIds") or [FIRST_DATA_CENTRE])[0],
            "ssh": {"proxy": None, "direct": direct},
            "cost": self.cost if self.status != "EXITED" else 0.0,
            "locked": False,
            "runtime": runtime,
            "createdAt": self.created_at.isoformat().replace("+00:00", "Z"),
            "startedAt": None,
        }


class Account:
    """What there is at RunPod, for one key."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.pods: dict[str, SandboxPod] = {}
        self.volumes = NetworkVolumes(self._users_of)
        self._lock = threading.RLock()

    def _users_of(self, volume_id: str) -> list[str]:
        with self._lock:
            return [
                pod.pod_id
                for pod in self.pods.values()
                if pod.status != "TERMINATED" and volume_id in _mounted(pod.body)
            ]

    def create(self, bodies: Bodies, body: dict[str, Any], environment: Mapping[str, str]) -> SandboxPod:
        """A pod that is being placed. Raises `Refused` as the API does."""
        _check(body)
        if self.funds()["clientBalance"] <= 0:
            raise Refused(402, "Your balance is too low to create a pod.")
        gpu = next((each for each in GPUS if each[0] == body["gpu"]["id"]), None)
        if gpu is None:
            raise Refused(422, "Request validation failed.", "$.gpu.id: not a known GPU type")
        count, cloud = int(body["gpu"]["count"]), str(body.get("cloud", "SECURE"))
        price = gpu[3] if cloud == "SECURE" else gpu[4]
        with self._lock:
            alive = sum(
                pod.body["gpu"]["id"] == gpu[0] and pod.status not in {"EXITED", "TERMINATED"}
                for pod in self.pods.values()
            )
            room = self.behaviour.stock.get(gpu[0])
            if price is None or count > MOST or (room is not None and alive >= room):
                raise Refused(400, NO_CAPACITY)
            for volume_id in _mounted(body):
                volume = self.volumes.find(volume_id)
                if cloud != "SECURE" or body.get("dataCenterIds", [volume.data_centre]) != [
                    volume.data_centre
                ]:
                    raise Refused(400, NO_CAPACITY)
                # The volume decides where the pod is (§4).
                body = {**body, "dataCenterIds": [volume.data_centre]}
            pod_id = "".join(secrets.choice(_LETTERS) for _ in range(14))
            hardware = Hardware(
                instance_id=f"runpod-{pod_id}",
                login_user="root",
                docker=False,
                authorized_key=str(body.get("env", {}).get("PUBLIC_KEY", "")) or None,
                user_data=None,
                environment=environment,
                shares=tuple(
                    (self.volumes.folder_of(volume_id), path) for volume_id, path in _mounted(body).items()
                ),
            )
            pod = SandboxPod(pod_id, body, datetime.now(UTC), hardware, gpus=count, cost=price * count)
            pod.appears_at = time.monotonic() + self.behaviour.list_lag
            self.pods[pod_id] = pod
        threading.Thread(target=self._boot, args=(bodies, pod), daemon=True).start()
        return pod

    def funds(self) -> dict[str, float]:
        """What the account has and spends (§9)."""
        with self._lock:
            first = datetime.fromtimestamp(0, UTC)
            spent = sum(pod.billed(first, datetime.now(UTC)) for pod in self.pods.values())
            spending = sum(pod.cost for pod in self.pods.values() if pod.status == "RUNNING")
        return {
            "clientBalance": self.behaviour.balance - spent,
            "currentSpendPerHr": spending,
            "spendLimit": self.behaviour.spend_limit,
        }

    def bill(self, since: datetime, until: datetime) -> list[dict[str, Any]]:
        """A record for each pod and day (§9)."""
        found = []
        day = since
        while day < until:
            following = min(day + timedelta(days=1), until)
            for pod in list(self.pods.values()):
                usd = pod.billed(day, following)
                if usd:
                    found.append(
                        {
                            "startTime": f"{day:%Y-%m-%dT%H:%M:%SZ}",
                            "endTime": f"{following:%Y-%m-%dT%H:%M:%SZ}",
                            "podId": pod.pod_id,
                            "totalAmount": usd,
                            "gpuAmount": usd,
                            "cpuAmount": 0,
                            "diskAmount": 0,
                        }
                    )
            day = following
        return found

    def visible(self) -> list[SandboxPod]:
        """Those that anybody sees by now; ended ones are not there (§6)."""
        now = time.monotonic()
        with self._lock:
            return [pod for pod in self.pods.values() if pod.appears_at <= now and pod.status != "TERMINATED"]

    def find(self, pod_id: str) -> SandboxPod:
        """One that is visible. Raises `Refused`."""
        found = next((pod for pod in self.visible() if pod.pod_id == pod_id), None)
        if found is None:
            raise Refused(404, "resource not found")
        return found

    def act(self, bodies: Bodies, pod_id: str, action: str) -> SandboxPod:
        """``start``, ``stop`` or ``terminate``. Raises `Refused`."""
        pod = self.find(pod_id)
        if action == "terminate":
            self._end(bodies, pod, "TERMINATED")
        elif action == "stop":
            if pod.status not in {"RUNNING", "STARTING", "PROVISIONING"}:
                raise Refused(409, f"The pod is {pod.status}.")
            self._end(bodies, pod, "EXITED")
        elif action == "start":
            if pod.status != "EXITED":
                raise Refused(409, f"The pod is {pod.status}.")
            if self.behaviour.host_full:
                raise Refused(400, "There are not enough free GPUs on the host machine to start this pod.")
            pod.status = "PROVISIONING"
            pod.gpus = 0 if self.behaviour.zero_gpus else int(pod.body["gpu"]["count"])
            threading.Thread(target=self._boot, args=(bodies, pod), daemon=True).start()
        else:
            raise Refused(422, "Request validation failed.", "$.action: not a known action")
        return pod

    def catalogue(self) -> list[dict[str, Any]]:
        """GPU types with their stock (§5)."""
        return [self._type(*gpu) for gpu in GPUS]

    def _type(
        self, gpu_id: str, name: str, memory: int, secure: float, community: float | None
    ) -> dict[str, Any]:
        alive = sum(pod.body["gpu"]["id"] == gpu_id for pod in self.visible())
        room = self.behaviour.stock.get(gpu_id)
        stock = "HIGH" if room is None or room > alive else "NONE"
        return {
            "id": gpu_id,
            "name": name,
            "memory": memory,
            "secure": True,
            "community": community is not None,
            "price": {"secure": secure, **({"community": community} if community is not None else {})},
            "maxCount": {"secure": MOST, "community": 4},
            "availability": stock,
            "dataCenters": [{"id": each, "name": each, "availability": stock} for each in DATA_CENTRES],
        }

    def _boot(self, bodies: Bodies, pod: SandboxPod) -> None:
        time.sleep(self.behaviour.start_seconds)
        with self._lock:
            if pod.status != "PROVISIONING":
                return
            pod.status = "STARTING"
        machine = bodies.new_machine(pod.hardware)

        def main_process_ended(_action: str) -> None:
            # A container whose main process has ended is started again, and billed on (§6).
            if pod.status == "RUNNING":
                machine.boot(first=False)

        machine.on_power_off = main_process_ended
        try:
            machine.boot(first=True)
        except BootFailed:
            pod.status = "ERROR" if pod.status == "STARTING" else pod.status
            return
        with self._lock:
            if pod.status != "STARTING":
                bodies.forget_machine(pod.hardware.instance_id)
                return
            pod.status = "RUNNING"
            pod.running.append([datetime.now(UTC)])
        time.sleep(self.behaviour.no_port_seconds)
        with self._lock:
            if pod.status == "RUNNING" and "22/tcp" in pod.body.get("ports", ()):
                pod.door = MappedPort(HOST, (machine.address, 22))

    def _end(self, bodies: Bodies, pod: SandboxPod, status: str) -> None:
        """Its processes and its own disk are gone (§8)."""
        with self._lock:
            if pod.status == "RUNNING":
                pod.running[-1].append(datetime.now(UTC))
            pod.status = status
            door, pod.door = pod.door, None
        if door is not None:
            door.close()
        bodies.forget_machine(pod.hardware.instance_id)


def _mounted(body: dict[str, Any]) -> dict[str, str]:
    """Paths by the network volumes of a creation."""
    return {each["volumeId"]: each["path"] for each in (body.get("mounts") or {}).get("network") or ()}


def _check(body: dict[str, Any]) -> None:
    """The contract of a creation. Raises `Refused`."""
    unknown = sorted(set(body) - FIELDS)
    if unknown:
        raise Refused(
            422,
            "Request validation failed.",
            *(f"$: additional properties '{name}' not allowed" for name in unknown),
        )
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
