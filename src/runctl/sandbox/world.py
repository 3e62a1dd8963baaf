"""What the server process knows of machines: its folder, its network, and which machine is behind which instance."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from runctl.sandbox.amis import MadeImage
from runctl.sandbox.autoscaling.groups import Group
from runctl.sandbox.capacity import Pool
from runctl.sandbox.ebs.disks import Disks
from runctl.sandbox.layout import Layout
from runctl.sandbox.lyceum.account import Account as LyceumAccount
from runctl.sandbox.machines.hardware import Hardware
from runctl.sandbox.machines.machine import Machine
from runctl.sandbox.machines.network import Network
from runctl.sandbox.prices.meter import Meter
from runctl.sandbox.record import Keys
from runctl.sandbox.runpod.account import Account as RunPodAccount
from runctl.sandbox.store_trouble import WELL, StoreTrouble

ACCOUNT = "123456789012"
"""moto's own; every call of a sandbox belongs to it."""

NO_SSH = (
    "This sandbox has no such machines: they are reached by SSH, which machines that are folders have not."
)
"""Not the API's own words: on this computer a machine would be waited for in vain."""


@dataclass
class Faults:
    """The faults that tests have requested."""

    capacity: dict[Pool, int] = field(default_factory=dict)
    """The most instances that there can be at once; what is not in it has room."""
    quotas: dict[str, int] = field(default_factory=dict)
    """vCPUs by a quota's code, where they are not `runctl.sandbox.quotas.QUOTAS`' own."""
    throttled: dict[str, int] = field(default_factory=dict)
    """How many more calls of an action are refused."""
    denied: set[str] = field(default_factory=set)
    """Actions that the caller may not do, such as ``ec2:RunInstances``."""
    boot_delay: float = 0.2
    """Seconds that an instance is pending."""
    never_boots: bool = False
    ssm_offline: set[str] = field(default_factory=set)
    """Instances whose SSM agent does not answer."""
    modifying_seconds: float = 0.2
    """How long a volume is ``modifying`` before its new size is there."""
    optimizing_seconds: float = 0.4
    snapshot_seconds: float = 0.3
    """How long a snapshot is ``pending``."""
    initializing_seconds: float = 0.4
    """How long a volume that is a copy, or from a snapshot and not lazy, is ``initializing``."""
    lazy_seconds: float = 0.0
    """What the first read of a block takes of volumes from snapshots; 0 for volumes that are not lazy."""
    background_mibps: float = 0.0
    """How fast lazy blocks come by themselves where no rate was paid for."""
    ecr_token_seconds: float = 12 * 3600
    """How long a password for ECR's registry is good."""
    schedule_late: float = 0.0
    """How late scheduled actions of Auto Scaling groups are; on AWS up to two minutes."""
    store: StoreTrouble = WELL
    """How S3 is doing."""


@dataclass
class Notices:
    """What an instance's metadata says of its future, as JSON texts; ``None`` is a 404."""

    instance_action: str | None = None
    rebalance: str | None = None


@dataclass
class World:
    """Shared by the back-ends, the metadata service and the control requests. `lock` guards the dictionaries."""

    layout: Layout
    region: str
    port: int
    """Where the server listens, on 127.0.0.1 of this computer and of every machine."""
    network: Network | None
    """``None`` with folder machines."""
    docker: bool
    """Whether machines can have Docker."""
    disks: Disks
    """The files of volumes."""
    systemd: bool = False
    """Whether the first process of EC2's machines is systemd."""
    keys: Keys = field(default_factory=Keys.new)
    machines: dict[str, Machine] = field(default_factory=dict)
    """By instance id, those that have a machine, running or stopped."""
    notices: dict[str, Notices] = field(default_factory=dict)
    providers: list[Callable[[World, Machine, Any], Callable[[], None]]] = field(default_factory=list)
    """Called for every machine that has booted (with moto's instance); each returns what ends its service."""
    services: dict[str, list[Callable[[], None]]] = field(default_factory=dict)
    made_images: dict[str, MadeImage] = field(default_factory=dict)
    """By image id, those that were made of instances, and copies."""
    groups: dict[str, Group] = field(default_factory=dict)
    """Auto Scaling groups by name."""
    deleted_groups: list[Group] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    meter: Meter = field(default_factory=Meter)
    """What is billed."""
    lyceum: LyceumAccount = field(default_factory=LyceumAccount)
    runpod: RunPodAccount = field(default_factory=RunPodAccount)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.lyceum.folder = self.home / "lyceum-volumes"
        self.runpod.volumes.folder = self.home / "runpod-volumes"

    @property
    def home(self) -> Path:
        """The sandbox's folder."""
        return self.layout.home

    @property
    def endpoint_in_machines(self) -> str:
        """The API's address for machines and for containers in them; it works on this computer, too."""
        host = self.network.gateway if self.network is not None else "127.0.0.1"
        return f"http://{host}:{self.port}"

    def new_machine(self, hardware: Hardware) -> Machine:
        """A machine that has an address and has not booted."""
        if self.network is not None:
            machine = Machine(self.layout, self.network, hardware)
        else:
            from runctl.sandbox.folders.instance import FolderInstance

            machine = cast(Machine, FolderInstance(self.layout, hardware))
        with self.lock:
            self.machines[hardware.instance_id] = machine
            self.notices[hardware.instance_id] = Notices()
        return machine

    def forget_machine(self, instance_id: str) -> None:
        """The machine is removed, and so is what answers it."""
        self.end_services(instance_id)
        with self.lock:
            machine = self.machines.pop(instance_id, None)
            self.notices.pop(instance_id, None)
        if machine is not None:
            machine.remove()

    def begin_services(self, machine: Machine, instance: Any) -> None:
        """What the machine finds beside it: metadata, and this server's own address."""
        self.end_services(instance.id)
        begun = self.services.setdefault(instance.id, [])
        for begin in self.providers:
            begun.append(begin(self, machine, instance))

    def end_services(self, instance_id: str) -> None:
        """They no longer answer."""
        for end in self.services.pop(instance_id, []):
            with contextlib.suppress(OSError):
                end()

    def machine(self, instance_id: str) -> Machine | None:
        """The machine of an instance."""
        with self.lock:
            return self.machines.get(instance_id)


_current: list[World] = []


def become(world: World) -> None:
    """From now on this process serves that world; none of its back-ends may run before."""
    _current[:] = [world]


def current() -> World:
    """The world of this process."""
    return _current[0]
