"""A provider that answers what a test scripted, and fails on everything else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, BinaryIO, ClassVar

from runctl.agent.spec import AttemptStatus, MachineMount
from runctl.core.ids import InstanceId, SnapshotId, VolumeId
from runctl.core.journal import Journal
from runctl.core.machine_models import (
    AttachedVolume,
    Instance,
    InstanceState,
    Market,
    Snapshot,
    SnapshotState,
    Volume,
    VolumeState,
)
from runctl.core.progress import SILENT, Progress
from runctl.core.tags import OWNED, OWNED_VALUE, SHAPE
from runctl.providers.abilities.volume_plans import (
    ClonePlan,
    CloneRequest,
    DiskShape,
    InitializationStatus,
    Modification,
    ResizePlan,
    ResizeRequest,
    SnapshotPlan,
    SnapshotRequest,
    Suggestion,
    VolumePlan,
    VolumeRequest,
)
from runctl.providers.abilities.volumes import Clones, Resizing, Snapshots, Volumes
from runctl.providers.aws.ebs.purposes import suggest
from runctl.providers.aws.ebs.types import shape_from_text
from runctl.providers.aws.prices.shipped import shipped_rates
from runctl.providers.capacity import RefusalListener, no_listener
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.providers.interface import Check, Provider, Renting, StopAndStart
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Completed, PortForward, Transport
from tests.rates import hourly, monthly

INSTANCE_ID = InstanceId("i-0123456789abcdef0")
OTHER_ID = InstanceId("i-0fedcba9876543210")
VOLUME_ID = VolumeId("vol-0123456789abcdef0")


def an_instance(identifier: str = INSTANCE_ID, **changes: Any) -> Instance:
    values: dict[str, Any] = {
        "id": InstanceId(identifier),
        "provider": "aws",
        "state": InstanceState.RUNNING,
        "instance_type": "g4dn.xlarge",
        "market": Market.SPOT,
        "zone": "us-east-1a",
        "public_ip": "198.51.100.7",
        "private_ip": "10.0.0.7",
        "price_per_hour": Decimal("0.15780"),
        "project": "digits",
        "owner": "ada",
        "created_at": datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC),
        "volumes": (AttachedVolume(VOLUME_ID, "/dev/sdf", "/mnt/data"),),
        "tags": {OWNED: OWNED_VALUE},
    }
    return Instance(**{**values, **changes})


def a_volume(identifier: str = VOLUME_ID, **changes: Any) -> Volume:
    values: dict[str, Any] = {
        "id": VolumeId(identifier),
        "name": "datasets",
        "state": VolumeState.AVAILABLE,
        "size_gib": 100,
        "type": "gp3",
        "iops": 3000,
        "throughput": 125,
        "zone": "us-east-1a",
        "encrypted": True,
        "attached_to": None,
        "device": None,
        "mount_point": None,
        "persistent": False,
        "price_per_month": Decimal(8),
        "tags": {OWNED: OWNED_VALUE},
    }
    return Volume(**{**values, **changes})


def a_snapshot(identifier: str = "snap-0123456789abcdef0", **changes: Any) -> Snapshot:
    values: dict[str, Any] = {
        "id": SnapshotId(identifier),
        "name": "before-cleaning",
        "state": SnapshotState.COMPLETED,
        "progress": 100,
        "volume_id": VOLUME_ID,
        "volume_size_gib": 100,
        "data_gib": Decimal("42.5"),
        "encrypted": True,
        "persistent": False,
        "price_per_month": Decimal("2.125"),
        "description": "runctl: datasets",
        "created_at": datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC),
        "tags": {OWNED: OWNED_VALUE},
    }
    return Snapshot(**{**values, **changes})


def a_plan(request: InstanceRequest, **changes: Any) -> CreatePlan:
    values: dict[str, Any] = {
        "provider": "aws",
        "instance_type": request.instance_type or "g4dn.xlarge",
        "market": request.market,
        "region": "us-east-1",
        "zone": "us-east-1a",
        "zone_reason": "the volume is there",
        "image": "ami-0123",
        "image_reason": "Deep Learning AMI",
        "login_user": "ubuntu",
        "price": hourly("0.1578", "spot price history"),
        "on_demand_price": hourly("0.526", "price list"),
        "volumes": request.volumes,
        "volume_prices": {"root": monthly("2.40", "public gp3 price")},
        "data_volume_size_gib": request.data_volume_size_gib,
        "data_mount_point": request.data_mount_point,
        "root_volume_size_gib": 30,
        "key_name": None,
        "security_groups": (),
        "instance_profile": "runctl-instance",
        "subnet": "subnet-1",
        "project": "digits",
        "owner": "ada",
        "name": None,
        "ttl": request.ttl,
        "tags": dict(request.tags),
        "client_token": "token-of-the-plan",
        "will_also_create": ("the role runctl-instance",),
    }
    return CreatePlan(**{**values, **changes})


def a_volume_plan(request: VolumeRequest) -> VolumePlan:
    return VolumePlan(request, "the cheapest for spot", monthly(8, "public gp3 price"), "token")


@dataclass
class Call:
    """A method that was called, and with what."""

    name: str
    arguments: tuple[Any, ...]


class Unscripted(AssertionError):
    """Nobody said what to answer."""


@dataclass
class Script:
    """Answers by method name: a value, an exception to raise, or a function of the arguments."""

    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def answer(self, name: str, *arguments: Any) -> Any:
        self.calls.append(Call(name, arguments))
        if name not in self.answers:
            raise Unscripted(f"{name}{arguments}")
        scripted = self.answers[name]
        if isinstance(scripted, BaseException):
            raise scripted
        return scripted(*arguments) if callable(scripted) else scripted

    def names(self) -> list[str]:
        return [call.name for call in self.calls]

    def only(self, name: str) -> tuple[Any, ...]:
        (call,) = [call for call in self.calls if call.name == name]
        return call.arguments


class FakeTransport(Transport):
    """A way to a machine that is not there."""

    name: ClassVar[str] = "fake"
    streams: ClassVar[bool] = True

    def __init__(self, script: Script) -> None:
        self.script = script

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: timedelta | None = None,
        as_root: bool = False,
        private: bool = False,
    ) -> Completed:
        return self.script.answer("run", tuple(argv))  # type: ignore[no-any-return]

    def stream(
        self,
        argv: Sequence[str],
        *,
        stdin: BinaryIO | None = None,
        on_stdout: Callable[[bytes], None],
        on_stderr: Callable[[bytes], None],
        as_root: bool = False,
        private: bool = False,
    ) -> int:
        read = None if stdin is None else stdin.read()
        out, err, code = self.script.answer("stream", tuple(argv), read, as_root)
        on_stdout(out)
        on_stderr(err)
        return int(code)

    def put(self, data: bytes | BinaryIO, target: PurePosixPath, *, mode: int = 0o644) -> None:
        self.script.answer("put", target)

    def get(self, source: PurePosixPath, sink: BinaryIO) -> int:
        return self.script.answer("get", source)  # type: ignore[no-any-return]

    def terminal(self, argv: Sequence[str] = ()) -> int:
        return self.script.answer("terminal", tuple(argv))  # type: ignore[no-any-return]

    @contextmanager
    def forwarding(self, forwards: Sequence[PortForward]) -> Iterator[None]:
        if forwards:
            self.script.calls.append(Call("forwarding", tuple(forwards)))
        yield

    def close(self) -> None:
        self.script.calls.append(Call("close", ()))


class FakeAgent:
    """The agent on that machine."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.journal = Journal()

    def call(self, verb: str, request: Mapping[str, Any]) -> Any:
        return self.script.answer(f"agent.{verb}", dict(request))

    attach = AgentClient.attach

    def mounts(self) -> tuple[MachineMount, ...]:
        return self.script.answers.get("agent.mounts", ())  # type: ignore[no-any-return]

    def attempts(self, *, running: bool = False) -> tuple[AttemptStatus, ...]:
        return self.script.answers.get("agent.attempts", ())  # type: ignore[no-any-return]


class FakeRenting(Renting):
    choosing = True

    def __init__(self, script: Script) -> None:
        self.script = script

    def plan(self, request: InstanceRequest, progress: Progress = SILENT) -> CreatePlan:
        return self.script.answer("plan_create", request)  # type: ignore[no-any-return]

    def create(
        self, plan: CreatePlan, progress: Progress = SILENT, refused: RefusalListener = no_listener
    ) -> Instance:
        return self.script.answer("create", plan)  # type: ignore[no-any-return]

    def terminate(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        return self.script.answer("terminate", instance_id)  # type: ignore[no-any-return]

    def wait_ended(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        return self.script.answer("wait_ended", instance_id, timeout)  # type: ignore[no-any-return]


class FakeStopAndStart(StopAndStart):
    def __init__(self, script: Script) -> None:
        self.script = script

    def stop(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        return self.script.answer("stop", instance_id)  # type: ignore[no-any-return]

    def start(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        return self.script.answer("start", instance_id)  # type: ignore[no-any-return]


class FakeVolumes(Volumes):
    def __init__(self, script: Script) -> None:
        self.script = script

    def plan(self, request: VolumeRequest) -> VolumePlan:
        return self.script.answer("plan_volume", request)  # type: ignore[no-any-return]

    def create(self, plan: VolumePlan, progress: Progress = SILENT) -> Volume:
        return self.script.answer("create_volume", plan)  # type: ignore[no-any-return]

    def find(self, id_or_name: str) -> Volume:
        return self.script.answer("volume", id_or_name)  # type: ignore[no-any-return]

    def list(self, *, everyone: bool = False) -> tuple[Volume, ...]:
        return self.script.answer("volumes", everyone)  # type: ignore[no-any-return]

    def attach(self, volume_id: VolumeId, instance_id: InstanceId, progress: Progress = SILENT) -> Volume:
        return self.script.answer("attach_volume", volume_id, instance_id)  # type: ignore[no-any-return]

    def detach(
        self,
        volume_id: VolumeId,
        *,
        force: bool = False,
        progress: Progress = SILENT,
        instance_id: InstanceId | None = None,
    ) -> Volume:
        alone = () if instance_id is None else (instance_id,)
        return self.script.answer("detach_volume", volume_id, force, *alone)  # type: ignore[no-any-return]

    def delete(
        self, volume_id: VolumeId, progress: Progress = SILENT, *, include_protected: bool = False
    ) -> None:
        self.script.answer("delete_volume", volume_id, *(["include_protected"] if include_protected else []))

    def tag(self, volume_id: VolumeId, tags: Mapping[str, str], *, remove: Collection[str] = ()) -> None:
        self.script.answer("tag_volume", volume_id, dict(tags), tuple(remove))

    def remember_mount(
        self, volume_id: VolumeId, instance_id: InstanceId, mount_point: str, *, read_only: bool
    ) -> None:
        self.script.answer("remember_mount", volume_id, instance_id, mount_point, read_only)

    def initialization(self, volume_id: VolumeId) -> InitializationStatus:
        return self.script.answer("initialization", volume_id)  # type: ignore[no-any-return]

    def suggest(self, purpose: str, size_gib: int) -> Suggestion | None:
        return suggest(purpose, size_gib, shipped_rates("us-east-1"))


class FakeSnapshots(Snapshots):
    def __init__(self, script: Script) -> None:
        self.script = script

    def plan(self, request: SnapshotRequest) -> SnapshotPlan:
        return self.script.answer("plan_snapshot", request)  # type: ignore[no-any-return]

    def create(self, plan: SnapshotPlan, progress: Progress = SILENT) -> Snapshot:
        return self.script.answer("create_snapshot", plan)  # type: ignore[no-any-return]

    def wait(
        self, snapshot_id: SnapshotId, progress: Progress = SILENT, timeout: timedelta = timedelta(hours=24)
    ) -> Snapshot:
        return self.script.answer("wait_snapshot", snapshot_id)  # type: ignore[no-any-return]

    def find(self, id_or_name: str) -> Snapshot:
        return self.script.answer("snapshot", id_or_name)  # type: ignore[no-any-return]

    def list(self, *, everyone: bool = False, volume_id: VolumeId | None = None) -> tuple[Snapshot, ...]:
        return self.script.answer("snapshots", everyone, volume_id)  # type: ignore[no-any-return]

    def delete(
        self, snapshot_id: SnapshotId, progress: Progress = SILENT, *, include_protected: bool = False
    ) -> None:
        self.script.answer(
            "delete_snapshot", snapshot_id, *(["include_protected"] if include_protected else [])
        )

    def original_shape(self, snapshot: Snapshot, size_gib: int) -> DiskShape | None:
        return shape_from_text(snapshot.tags.get(SHAPE, ""), size_gib)


class FakeClones(Clones):
    def __init__(self, script: Script) -> None:
        self.script = script

    def plan(self, request: CloneRequest) -> ClonePlan:
        return self.script.answer("plan_clone", request)  # type: ignore[no-any-return]

    def create(self, plan: ClonePlan, progress: Progress = SILENT) -> Volume:
        return self.script.answer("clone_volume", plan)  # type: ignore[no-any-return]


class FakeResizing(Resizing):
    def __init__(self, script: Script) -> None:
        self.script = script

    def plan(self, volume: str, request: ResizeRequest) -> ResizePlan:
        return self.script.answer("plan_resize", volume, request)  # type: ignore[no-any-return]

    def resize(self, plan: ResizePlan, progress: Progress = SILENT) -> Volume:
        return self.script.answer("resize_volume", plan)  # type: ignore[no-any-return]

    def latest(self, volume_id: VolumeId) -> Modification | None:
        return self.script.answer("modification", volume_id)  # type: ignore[no-any-return]


class FakeProvider(Provider):
    """See the module's docstring."""

    name = "aws"

    def __init__(self, script: Script) -> None:
        self.script = script
        self.renting = FakeRenting(script)
        self.stop_and_start = FakeStopAndStart(script)
        self.volumes = FakeVolumes(script)
        self.snapshots = FakeSnapshots(script)
        self.clones = FakeClones(script)
        self.resizing = FakeResizing(script)

    def costs_money(self) -> bool:
        return bool(self.script.answers.get("costs_money", True))

    def wait_ready(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        progress.step(f"waiting for {instance_id}")
        return self.script.answer("wait_ready", instance_id, timeout)  # type: ignore[no-any-return]

    def instance(self, instance_id: InstanceId) -> Instance:
        return self.script.answer("instance", instance_id)  # type: ignore[no-any-return]

    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        return self.script.answer("instances", everyone, include_ended)  # type: ignore[no-any-return]

    def transport(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Transport:
        self.script.answer("transport", instance.id, choice)
        progress.step(f"connecting to {instance.id}")
        return FakeTransport(self.script)

    def agent(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Any:
        self.script.answer("agent", instance.id, choice)
        return FakeAgent(self.script)

    def doctor(self) -> tuple[Check, ...]:
        return self.script.answer("doctor")  # type: ignore[no-any-return]
