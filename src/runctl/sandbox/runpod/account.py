"""One RunPod account: pods that are real machines, a catalogue and its stock; and how the API behaves."""

from __future__ import annotations

import secrets
import string
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from runctl.sandbox.api.rest import MachineMaker, Refused, RestBehaviour
from runctl.sandbox.machines.hardware import Hardware
from runctl.sandbox.machines.machine import BootFailed
from runctl.sandbox.runpod.pods import (
    NO_CAPACITY,
    SandboxPod,
    check_creation,
    check_fields,
    mounted,
    started_by,
)
from runctl.sandbox.runpod.runtimes import (
    ContainerRuntime,
    Login,
    MachineRuntime,
    NoImage,
    PodContainer,
    PodHost,
    Runtime,
)
from runctl.sandbox.runpod.volumes import DATA_CENTRES, NetworkVolumes

GPUS: tuple[tuple[str, str, int, float, float | None], ...] = (
    ("NVIDIA GeForce RTX 4090", "RTX 4090", 24, 0.44, 0.31),
    ("NVIDIA A100 80GB PCIe", "A100 PCIe", 80, 1.39, 1.19),
    ("NVIDIA RTX A5000", "RTX A5000", 24, 0.27, 0.16),
    ("NVIDIA H100 80GB HBM3", "H100 SXM", 80, 2.69, None),
)
"""Id, name, GB, and USD for a GPU's hour in the secure and the community cloud; samples of 2026 (§5)."""
MOST = 8
_LETTERS = string.ascii_lowercase + string.digits


@dataclass
class Behaviour(RestBehaviour):
    """How the API behaves: what tests, and `runctl sandbox faults`, can change."""

    stock: dict[str, int] = field(default_factory=dict)
    """Pods that there can be of a GPU's id, or of one in a data centre (``ID@EU-RO-1``); what is not in it has room."""
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
    unknown_gpu: int = 422
    """What a GPU that there is not is refused by: 422 or 400 (§14.7)."""
    empty_runtime: bool = False
    """``runtime`` of a pod that does not run is ``{}``, not null (§6)."""
    page_size: int = 1000
    """A page may be shorter than asked for (§3)."""
    unpaged: bool = False
    """Answers have no ``pagination``, as in the contract of August (§3)."""
    pod_key: str = "rest"
    """What the key that is in each pod may do with that pod: end it by ``rest``, by ``graphql`` only, or ``none``
    (§7, §14.1)."""
    fails_as: str = "EXITED"
    """What a pod is whose host has failed: ``EXITED`` or ``ERROR`` (§14.5)."""
    used_volumes: str = "kept"
    """A network volume that a pod has: its deletion is refused (``kept``), or done (``deleted``) (§14.6)."""
    by_the_minute: bool = False
    """A minute that has begun is billed as a whole (§9, §14.9)."""


class Account:
    """Everything at RunPod, for one key."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.pods: dict[str, SandboxPod] = {}
        self.volumes = NetworkVolumes(self._users_of)
        self.logins: dict[str, Login] = {}
        """To image registries, by id."""
        self.host: PodHost | None = None
        """Where pods are containers; ``None``: without Docker they are machines."""
        self._lock = threading.RLock()

    def _users_of(self, volume_id: str) -> list[str]:
        if self.behaviour.used_volumes == "deleted":
            return []
        with self._lock:
            return [
                pod.pod_id
                for pod in self.pods.values()
                if pod.status != "TERMINATED" and volume_id in mounted(pod.body)
            ]

    def create(
        self, machines: MachineMaker, body: dict[str, Any], environment: Mapping[str, str], api_url: str
    ) -> SandboxPod:
        """A pod that is being placed; ``environment`` is that of logins to machines, and ``api_url`` this API's own in
        a pod. Raises `Refused` as the API does."""
        check_creation(body)
        if self.funds()["clientBalance"] <= 0:
            raise Refused(402, "Your balance is too low to create a pod.")
        gpu = next((each for each in GPUS if each[0] == body["gpu"]["id"]), None)
        if gpu is None:
            raise Refused(
                self.behaviour.unknown_gpu, "Request validation failed.", "$.gpu.id: not a known GPU type"
            )
        login_id = body.get("registry")
        if login_id is not None and login_id not in self.logins:
            raise Refused(400, "Registry auth not found")
        count, cloud = int(body["gpu"]["count"]), str(body.get("cloud", "SECURE"))
        price = gpu[3] if cloud == "SECURE" else gpu[4]
        with self._lock:
            for volume_id in mounted(body):
                volume = self.volumes.find(volume_id)
                if cloud != "SECURE" or body.get("dataCenterIds", [volume.data_centre]) != [
                    volume.data_centre
                ]:
                    raise Refused(400, NO_CAPACITY)
                # The volume decides where the pod is (§4).
                body = {**body, "dataCenterIds": [volume.data_centre]}
            centres = [each for each in body.get("dataCenterIds") or DATA_CENTRES if self._room(gpu[0], each)]
            if price is None or count > MOST or not centres:
                raise Refused(400, NO_CAPACITY)
            body = {**body, "dataCenterIds": centres[:1]}
            pod_id = "".join(secrets.choice(_LETTERS) for _ in range(14))
            pod = SandboxPod(pod_id, body, datetime.now(UTC), gpus=count, cost=price * count)
            pod.runtime = self._runtime(machines, pod, environment, api_url)
            pod.appears_at = time.monotonic() + self.behaviour.list_lag
            self.pods[pod_id] = pod
        threading.Thread(target=self._boot, args=(pod,), daemon=True).start()
        return pod

    def _room(self, gpu_id: str, data_centre: str) -> bool:
        """Whether one more pod can be had there (§5): in all of RunPod, and in that data centre."""
        alive = [
            pod
            for pod in self.pods.values()
            if pod.body["gpu"]["id"] == gpu_id and pod.status not in {"EXITED", "TERMINATED"}
        ]
        there = [pod for pod in alive if pod.data_centre == data_centre]
        stock = self.behaviour.stock
        return len(alive) < stock.get(gpu_id, len(alive) + 1) and len(there) < stock.get(
            f"{gpu_id}@{data_centre}", len(there) + 1
        )

    def _runtime(
        self, machines: MachineMaker, pod: SandboxPod, environment: Mapping[str, str], api_url: str
    ) -> Runtime:
        body = pod.body
        # The platform's own variables of a pod (§7), which the API does not show.
        env = {
            **body.get("env", {}),
            "RUNPOD_POD_ID": pod.pod_id,
            "RUNPOD_API_KEY": pod.key,
            "RUNPOD_DC_ID": pod.data_centre,
            "RUNPOD_GPU_COUNT": str(pod.gpu_count),
            # Of the sandbox: at RunPod its address is known.
            "RUNPOD_API_URL": api_url,
        }
        folders = {path: self.volumes.folder_of(volume_id) for volume_id, path in mounted(body).items()}
        if self.host is not None:
            entrypoint, command = started_by(body)
            login = self.logins.get(str(body.get("registry")))
            return ContainerRuntime(
                self.host,
                PodContainer(pod.pod_id, body["image"], env, folders, entrypoint, command, login),
            )
        hardware = Hardware(
            instance_id=f"runpod-{pod.pod_id}",
            login_user="root",
            docker=False,
            authorized_key=str(env.get("PUBLIC_KEY", "")) or None,
            user_data=None,
            environment={**environment, **{name: env[name] for name in env if name.startswith("RUNPOD_")}},
            shares=tuple((folder, path) for path, folder in folders.items()),
        )
        return MachineRuntime(machines, hardware)

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
                usd = pod.billed(day, following, by_the_minute=self.behaviour.by_the_minute)
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

    def act(self, pod_id: str, action: str) -> SandboxPod:
        """``start``, ``stop`` or ``terminate``. Raises `Refused`."""
        pod = self.find(pod_id)
        if action == "terminate":
            self._end(pod, "TERMINATED")
        elif action == "stop":
            if pod.status not in {"RUNNING", "STARTING", "PROVISIONING"}:
                raise Refused(409, f"The pod is {pod.status}.")
            self._end(pod, "EXITED")
        elif action == "start":
            if pod.status != "EXITED":
                raise Refused(409, f"The pod is {pod.status}.")
            if self.behaviour.host_full:
                raise Refused(400, "There are not enough free GPUs on the host machine to start this pod.")
            pod.status = "PROVISIONING"
            pod.gpus = 0 if self.behaviour.zero_gpus else pod.gpu_count
            threading.Thread(target=self._boot, args=(pod,), daemon=True).start()
        else:
            raise Refused(422, "Request validation failed.", "$.action: not a known action")
        return pod

    def fail_host(self, pod_id: str) -> None:
        """The host of the pod is gone, without notice (§11)."""
        pod = self.pods.get(pod_id)
        if pod is None or pod.status != "RUNNING":
            raise KeyError(f"{pod_id} is not a pod that runs")
        self._end(pod, self.behaviour.fails_as)

    def add_login(self, body: dict[str, Any]) -> Login:
        """A login to a registry that RunPod keeps. Its fields are those of the API before (§12). Raises `Refused`."""
        check_fields(body, frozenset({"name", "username", "password"}))
        missing = [name for name in ("name", "username", "password") if not body.get(name)]
        if missing:
            raise Refused(422, "Request validation failed.", *(f"$.{name}: missing" for name in missing))
        login = Login(f"reg{secrets.token_hex(6)}", body["name"], body["username"], body["password"])
        self.logins[login.login_id] = login
        return login

    def remove_login(self, login_id: str) -> None:
        """It is forgotten. Raises `Refused`: by 400, not 404 (§10)."""
        if self.logins.pop(login_id, None) is None:
            raise Refused(400, "Registry auth not found")

    def catalogue(self) -> list[dict[str, Any]]:
        """GPU types with their stock (§5)."""
        return [self._type(*gpu) for gpu in GPUS]

    def _type(
        self, gpu_id: str, name: str, memory: int, secure: float, community: float | None
    ) -> dict[str, Any]:
        stock = {each: "HIGH" if self._room(gpu_id, each) else "NONE" for each in DATA_CENTRES}
        return {
            "id": gpu_id,
            "name": name,
            "memory": memory,
            "secure": True,
            "community": community is not None,
            "price": {"secure": secure, **({"community": community} if community is not None else {})},
            "maxCount": {"secure": MOST, "community": 4},
            "availability": "HIGH" if "HIGH" in stock.values() else "NONE",
            "dataCenters": [{"id": each, "name": each, "availability": stock[each]} for each in stock],
        }

    def _boot(self, pod: SandboxPod) -> None:
        time.sleep(self.behaviour.start_seconds)
        with pod.changing:
            if not self._reach(pod, "PROVISIONING", "STARTING") or pod.runtime is None:
                return
            if pod.running:
                # What is left of its last start may not be gone yet.
                pod.runtime.end()
            try:
                door = pod.runtime.start()
            except BootFailed:
                self._reach(pod, "STARTING", "ERROR")
                return
            except NoImage:
                # It is said to run, and never reports (§6).
                door = None
            if not self._reach(pod, "STARTING", "RUNNING"):
                pod.runtime.end()
                return
            pod.has_started = door is not None
        time.sleep(self.behaviour.no_port_seconds)
        with self._lock:
            if pod.status == "RUNNING" and "22/tcp" in pod.body.get("ports", ()):
                pod.door = door

    def _reach(self, pod: SandboxPod, before: str, after: str) -> bool:
        """Whether it goes on from there; one that was stopped or ended meanwhile does not."""
        with self._lock:
            if pod.status != before:
                return False
            pod.status = after
            if after == "RUNNING":
                pod.running.append([datetime.now(UTC)])
            return True

    def _end(self, pod: SandboxPod, status: str) -> None:
        """Its processes and its own disk are gone (§8)."""
        with self._lock:
            was_placed = pod.status in {"STARTING", "RUNNING"}
            if pod.status == "RUNNING":
                pod.running[-1].append(datetime.now(UTC))
            pod.status, pod.door, pod.has_started = status, None, False
        if was_placed:
            threading.Thread(target=self._take_away, args=(pod,), daemon=True).start()

    @staticmethod
    def _take_away(pod: SandboxPod) -> None:
        with pod.changing:
            if pod.runtime is not None and pod.status not in {"RUNNING", "STARTING"}:
                pod.runtime.end()
