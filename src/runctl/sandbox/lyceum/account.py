"""One Lyceum account: VMs that are real machines, block volumes, stock and balance; and how its API behaves."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from runctl.sandbox.api.rest import MachineMaker, Refused, RestBehaviour
from runctl.sandbox.lyceum.storage import ObjectStorage
from runctl.sandbox.machines.hardware import Hardware
from runctl.sandbox.machines.machine import BootFailed

PRICES: dict[str, tuple[str, str]] = {
    "l40s": ("1.19", "0.55"),
    "a100": ("1.59", "0.80"),
    "h100": ("2.79", "1.10"),
    "h200": ("4.29", "1.60"),
    "b200": ("6.49", "2.40"),
    "b300": ("7.99", "2.99"),
}
"""USD for a GPU's hour, on demand and spot, as captured on 2026-07-31 (§10)."""
NOT_SOLD = {("l40s", "spot")}
"""Priced, and not among the variants (§10)."""
COUNTS = (1, 2, 4, 8)
LOGIN_USER = "lyceum"
LOGIN_UID = 1000
"""Of that user on the sandbox's machines."""
SHUTDOWN_SECONDS = 5.0


@dataclass
class Behaviour(RestBehaviour):
    """How the API behaves: what tests, and `runctl sandbox faults`, can change."""

    stock: dict[tuple[str, str], int] = field(default_factory=dict)
    """VMs that there can be of a profile in a market; what is not in it has room."""
    late_creations: float = 0.0
    """After so many seconds only does a VM appear in the list whose creation was not answered (§12)."""
    create_seconds: float = 0.2
    """Until a VM runs."""
    no_address_seconds: float = 0.2
    """How long a VM is ready without an address (§4)."""
    address_with_port: bool = False
    """``198.51.100.20:22`` (§4)."""
    reclaimed_as: str = "terminated"
    """What a VM is that was taken back: ``terminated`` or ``failed`` (§14.1)."""
    balance: Decimal = Decimal(500)
    storage_seconds: int = 3600
    """How long keys of the account's bucket are good; Lyceum does not say (§8)."""
    storage_end_told: bool = True
    """Whether they say when they end (§8)."""
    ended_answer: int = 404
    """What the end of a VM that has ended is answered by: 404, or 200 as the first time (§6, §13)."""
    running_state: str = "ready"
    """What a VM is that is up: ``ready``, or ``running`` (§4, §14.9)."""
    list_lag: float = 0.0
    """For so many seconds a new VM is not in the list (§14.10)."""
    late_volumes: float = 0.0
    """For so many seconds a volume that is made with a VM has no id yet (§3)."""
    shutdown_ends: bool = False
    """Whether a VM that is shut down from inside has ended, and is billed no longer (§6, §14.6)."""
    bills_at_the_end: bool = False
    """Whether amounts are written down when a VM has ended, and not while it runs (§14.5)."""
    debits_are_negative: bool = False
    """Whether an amount that is taken from the balance has a minus (§11 does not say)."""


@dataclass
class SandboxVm:
    """One VM."""

    vm_id: str
    profile: str
    gpus: int
    market: str
    display_name: str | None
    created_at: datetime
    status: str = "pending"
    address: str | None = None
    appears_at: float = 0.0
    """By the monotonic clock: from when on the list has it."""
    up_at: datetime | None = None
    ended_at: datetime | None = None
    """It is billed from the one to the other (§10)."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.status in {"terminated", "failed", "error"}

    def billed(self, now: datetime) -> Decimal:
        """USD, by the second."""
        if self.up_at is None:
            return Decimal(0)
        on_demand, spot = PRICES[self.profile]
        per_hour = Decimal(spot if self.market == "spot" else on_demand) * self.gpus
        return per_hour * int(((self.ended_at or now) - self.up_at).total_seconds()) / 3600

    def shown(self, *, created: bool = False) -> dict[str, Any]:
        """As the API shows it; the answer of its creation leaves the top level empty, and its time has no zone (§3)."""
        return {
            "vm_id": self.vm_id,
            "status": self.status,
            "ip_address": self.address,
            "created_at": self.created_at.replace(tzinfo=None).isoformat()
            if created
            else self.created_at.isoformat().replace("+00:00", "Z"),
            "instance_specs": {"gpu_type": self.profile, "gpu_count": self.gpus},
            "hardware_profile": None if created else self.profile,
            "gpu_count": None if created else self.gpus,
            "instance_type": self.market,
            "name": f"hyd-sandbox-vm-{self.vm_id[:8]}",
            "display_name": self.display_name,
            "billed": None,
            "uptime_seconds": 0,
            "volumes": [],
        }


@dataclass
class BlockVolume:
    """One block volume: a folder, which its VM has mounted from its first moment to its last (§8)."""

    volume_id: str
    size_gb: int
    vm_id: str | None = None
    appears_at: float = 0.0
    """By the monotonic clock: from when on anybody sees its id."""

    @property
    def mount_path(self) -> str:
        """The same at each attachment."""
        return f"/mnt/{self.volume_id}"

    def shown(self) -> dict[str, Any]:
        """As the list of volumes shows it."""
        return {
            **self.on_vm(),
            "status": "in-use" if self.vm_id else "available",
            "location": "eu-north",
            "attached_vm_id": self.vm_id,
        }

    def on_vm(self) -> dict[str, Any]:
        """As its VM shows it."""
        return {"volume_id": self.volume_id, "size_gb": self.size_gb, "mount_path": self.mount_path}


class Account:
    """Everything at Lyceum, for one key."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.vms: dict[str, SandboxVm] = {}
        self.volumes: dict[str, BlockVolume] = {}
        self.storage = ObjectStorage()
        self.folder: Path | None = None
        """Where the data of the volumes is, a folder for each."""
        self._lock = threading.RLock()

    def create(self, world: MachineMaker, body: dict[str, Any], environment: Mapping[str, str]) -> SandboxVm:
        """A VM that is pending. Raises `Refused` as the API does."""
        profile, market = str(body["hardware_profile"]), str(body.get("instance_type", "on-demand"))
        if profile not in PRICES:
            raise Refused(
                400, f"Unknown hardware_profile '{profile}'. Valid options: {', '.join(sorted(PRICES))}"
            )
        # A count at the top level is ignored, and 0 counts as 1 (§3).
        gpus = int((body.get("instance_specs") or {}).get("gpu_count") or 1)
        if gpus not in COUNTS or market not in {"on-demand", "spot"}:
            raise Refused(
                400, "The instance request was invalid. Please check your parameters and try again."
            )
        if self.behaviour.balance <= 0:
            raise Refused(402, "Insufficient credits.")
        with self._lock:
            alive = sum(
                (vm.profile, vm.market) == (profile, market) and not vm.is_over for vm in self.vms.values()
            )
            room = self.behaviour.stock.get((profile, market))
            if (profile, market) in NOT_SOLD or (room is not None and alive >= room):
                raise Refused(
                    500, "The instance could not be provisioned right now. Please try again in a moment."
                )
            # Ids are plain hexadecimal digits, or a UUID with dashes (§3).
            vm_id = str(uuid.uuid4()) if len(self.vms) % 2 else secrets.token_hex(16)
            vm = SandboxVm(vm_id, profile, gpus, market, body.get("display_name"), datetime.now(UTC))
            vm.appears_at = time.monotonic() + self.behaviour.list_lag
            self.vms[vm_id] = vm
            shares = tuple(
                (self._folder_of(volume), volume.mount_path) for volume in self._storage(body, vm_id)
            )
        hardware = Hardware(
            instance_id=f"lyceum-{vm_id}",
            login_user=LOGIN_USER,
            docker=world.docker,
            authorized_key=str(body["user_public_key"]),
            user_data=None,
            environment=environment,
            shares=shares,
        )
        threading.Thread(target=self._boot, args=(world, vm, hardware), daemon=True).start()
        return vm

    def _storage(self, body: dict[str, Any], vm_id: str) -> list[BlockVolume]:
        """The volumes of a creation, attached. Raises `Refused`."""
        found = []
        for volume_id in body.get("volume_ids") or ():
            volume = self.volumes.get(volume_id)
            if volume is None or volume.vm_id is not None:
                del self.vms[vm_id]
                raise Refused(400, "The volume does not exist or is attached.")
            found.append(volume)
        if body.get("new_volume"):
            block = BlockVolume(f"vol-{secrets.token_hex(6)}", int(body["new_volume"]["size_gb"]))
            block.appears_at = time.monotonic() + self.behaviour.late_volumes
            folder = self._folder_of(block)
            folder.mkdir(parents=True)
            os.chown(folder, LOGIN_UID, LOGIN_UID)
            self.volumes[block.volume_id] = block
            found.append(block)
        for volume in found:
            volume.vm_id = vm_id
        return found

    def volumes_of(self, vm_id: str) -> list[BlockVolume]:
        """Those that a VM has."""
        return [volume for volume in self.volumes.values() if volume.vm_id == vm_id]

    def listed_volumes(self) -> list[BlockVolume]:
        """Those that have an id by now."""
        now = time.monotonic()
        return [volume for volume in self.volumes.values() if volume.appears_at <= now]

    def delete_volume(self, volume_id: str) -> None:
        """A detached one is gone, with its data. Raises `Refused`."""
        volume = self.volumes.get(volume_id)
        if volume is None:
            raise Refused(404, "Volume not found")
        if volume.vm_id is not None:
            raise Refused(409, "The volume is attached.")
        shutil.rmtree(self._folder_of(volume), ignore_errors=True)
        del self.volumes[volume_id]

    def _folder_of(self, volume: BlockVolume) -> Path:
        if self.folder is None:
            raise AssertionError("the account has no folder yet")
        return self.folder / volume.volume_id

    def terminate(self, world: MachineMaker, vm_id: str, status: str = "terminated") -> SandboxVm:
        """It has ended, and nothing is left of its machine. Raises `Refused` for one that is not there."""
        with self._lock:
            vm = self.vms.get(vm_id)
            if vm is not None and vm.is_over and self.behaviour.ended_answer == 200:
                return vm
            if vm is None or vm.is_over:
                raise Refused(404, "VM not found")
            vm.status, vm.ended_at = status, datetime.now(UTC)
            for volume in self.volumes_of(vm_id):
                volume.vm_id = None
        threading.Thread(target=world.forget_machine, args=(f"lyceum-{vm_id}",), daemon=True).start()
        return vm

    def reclaim(self, world: MachineMaker, vm_id: str) -> SandboxVm:
        """A spot VM is taken back, without notice (§7)."""
        vm = self.vms.get(vm_id)
        if vm is None or vm.is_over or vm.market != "spot":
            raise KeyError(f"{vm_id} is not a spot VM that runs")
        return self.terminate(world, vm_id, self.behaviour.reclaimed_as)

    def listed(self) -> list[SandboxVm]:
        """Those that the list has by now, ended ones included (§4)."""
        now = time.monotonic()
        with self._lock:
            return [vm for vm in self.vms.values() if vm.appears_at <= now]

    def billed_vms(self) -> list[dict[str, Any]]:
        """What each VM came to, over all of its time: amounts are texts (§11)."""
        now = datetime.now(UTC)
        found = []
        with self._lock:
            for vm in self.vms.values():
                if vm.up_at is None or (self.behaviour.bills_at_the_end and vm.ended_at is None):
                    continue
                last = vm.ended_at or now
                first = last if self.behaviour.bills_at_the_end else vm.up_at
                amount = vm.billed(now).quantize(Decimal("0.000001"))
                found.append(
                    {
                        "group_by_value": vm.vm_id,
                        "count": 1,
                        "total_amount": str(-amount if self.behaviour.debits_are_negative else amount),
                        "first_created_at": first.isoformat(),
                        "last_created_at": last.isoformat(),
                    }
                )
        return found

    def variants(self) -> list[dict[str, Any]]:
        """What is offered, its counts in no order (§10)."""
        found = []
        for profile, prices in PRICES.items():
            for market, price in zip(("on-demand", "spot"), prices, strict=True):
                if (profile, market) in NOT_SOLD:
                    continue
                alive = sum(
                    (vm.profile, vm.market) == (profile, market) and not vm.is_over for vm in self.listed()
                )
                room = self.behaviour.stock.get((profile, market))
                found.append(
                    {
                        "hardware_profile": profile,
                        "instance_type": market,
                        "price_per_hour": float(price),
                        "allowed_gpus_per_instance": list(COUNTS),
                        "available_gpus_per_instance": [8, 1, 2, 4] if room is None or room > alive else [],
                    }
                )
        return found

    def _boot(self, world: MachineMaker, vm: SandboxVm, hardware: Hardware) -> None:
        if not self._reach(vm, "provisioning"):
            return
        time.sleep(self.behaviour.create_seconds)
        machine = world.new_machine(hardware)

        def powered_off(action: str) -> None:
            # A VM that is shut down from inside is still there (§6): it can be booted only by itself.
            if action == "reboot" and not vm.is_over:
                machine.boot(first=False)
            elif self.behaviour.shutdown_ends and not vm.is_over:
                self.terminate(world, vm.vm_id)

        machine.on_power_off = powered_off
        try:
            machine.boot(first=True)
            status = self.behaviour.running_state
        except BootFailed:
            status = "error"
        if not self._reach(vm, status):
            world.forget_machine(hardware.instance_id)
            return
        if status == "error":
            return
        time.sleep(self.behaviour.no_address_seconds)
        vm.address = machine.address + (":22" if self.behaviour.address_with_port else "")

    def _reach(self, vm: SandboxVm, status: str) -> bool:
        """Whether it has come to this; one that has ended meanwhile does not."""
        with self._lock:
            if vm.is_over:
                return False
            vm.status = status
            vm.up_at = datetime.now(UTC) if status == self.behaviour.running_state else None
            return True
