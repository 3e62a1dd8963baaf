"""A provider, its machines and the agents on them, in memory: they end, fall silent and speak again as a test says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from runctl.agent.checkpoints.layout import end_key
from runctl.agent.encoding import dumps
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.spec import AttemptStatus, EndRecord, RunSpec, RunState
from runctl.core.errors import CapacityError, MachineError, NotFound, Unreachable, Unsupported
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.progress import SILENT, Progress
from runctl.core.tags import ATTEMPT, INTENT
from runctl.providers.abilities.object_storage import ObjectStorage, ObjectVersion, StoredObject
from runctl.providers.capacity import RefusalListener, no_listener
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.providers.interface import Check, Provider, Renting
from runctl.testing.clock import ManualClock
from tests.cli.fake_provider import a_plan, an_instance

RUN = "run-aaaa"
FIRST = InstanceId("i-first")


class Killed(BaseException):
    """The watcher's process is gone: nothing that it would still do happens."""


@dataclass
class World:
    """A provider, its machines, and the agents on them."""

    machines: dict[InstanceId, Instance] = field(default_factory=dict)
    runs: dict[InstanceId, dict[int, AttemptStatus]] = field(default_factory=dict)
    specs: dict[int, RunSpec] = field(default_factory=dict)
    silent: set[InstanceId] = field(default_factory=set)
    """They go on, and nobody reaches them."""
    capacity: bool = True
    spot: bool = True
    """Whether there is any on spot."""
    calls_left: int | None = None
    """Until the process is killed; ``None``: it is not."""
    meanwhile: tuple[int, Callable[[], None]] | None = None
    """After so many calls somebody else does this."""
    clock: ManualClock = field(default_factory=ManualClock)
    ends: dict[str, bytes] = field(default_factory=dict)
    """What machines have put into the object store of their attempts' ends."""
    ended: bool = False
    """The run has ended for good, and whoever asks can know."""
    started_after_end: bool = False

    def called(self) -> None:
        """Something is asked of the world. Raises `Killed`."""
        if self.meanwhile is not None:
            left, happens = self.meanwhile
            self.meanwhile = (left - 1, happens) if left else None
            if not left:
                happens()
        if self.calls_left is not None:
            if self.calls_left == 0:
                raise Killed
            self.calls_left -= 1

    def going(self) -> list[InstanceId]:
        return [name for name, machine in self.machines.items() if not machine.state.is_over]

    def training(self) -> list[InstanceId]:
        return [i for i in self.going() if any(run.end is None for run in self.runs[i].values())]

    def end(self, instance: InstanceId, *, interrupted: bool = False) -> None:
        known = self.machines[instance]
        self.machines[instance] = replace(known, state=InstanceState.TERMINATED, interrupted=interrupted)


@dataclass
class Agent:
    """On one machine."""

    world: World
    instance: InstanceId

    def _reached(self) -> None:
        self.world.called()
        if self.instance in self.world.silent or self.world.machines[self.instance].state.is_over:
            raise Unreachable("it does not answer")

    def status(self, _run: str, attempt: int) -> AttemptStatus:
        self._reached()
        try:
            return self.world.runs[self.instance][attempt]
        except KeyError:
            raise MachineError("it is not there", code="no-such-run") from None

    def start(self, spec: RunSpec) -> AttemptStatus:
        self._reached()
        known = self.world.runs[self.instance]
        if spec.attempt not in known:
            self.world.started_after_end |= self.world.ended
            self.world.specs[spec.attempt] = spec
            now = self.world.clock.now().timestamp()
            known[spec.attempt] = AttemptStatus(
                RUN,
                spec.attempt,
                RunState.RUNNING,
                created_at=now,
                started_at=now,
                machine_end=spec.machine_end,
            )
        # The answer may be lost.
        self.world.called()
        return known[spec.attempt]

    def stop(self, _run: str, attempt: int, **_: object) -> AttemptStatus:
        known = self.status(RUN, attempt)
        if known.end is None:
            self.conclude(EndReason.STOPPED)
        return self.world.runs[self.instance][attempt]

    def interrupt(self, _run: str, attempt: int, *, notice: timedelta, moves: str) -> AttemptStatus:
        known = self.status(RUN, attempt)
        assert moves
        assert notice
        if known.end is not None:
            raise MachineError("it has ended", code="has-ended")
        self.conclude(EndReason.MOVED)
        # The answer may be lost.
        self.world.called()
        return self.world.runs[self.instance][attempt]

    def conclude(self, reason: EndReason) -> None:
        """The script that runs has ended."""
        runs = self.world.runs[self.instance]
        attempt = next(number for number, run in runs.items() if run.end is None)
        end = EndRecord(reason, self.world.clock.now().timestamp())
        runs[attempt] = replace(runs[attempt], state=RunState.ENDED, end=end)
        self.world.ends[f"runs/{RUN}/{end_key(attempt)}"] = dumps(end).encode()
        self.world.ended |= reason not in RETRIED


class Rents(Renting):
    ends_on_shutdown = True

    def __init__(self, world: World) -> None:
        self.world = world

    def plan(self, request: InstanceRequest, progress: Progress = SILENT) -> CreatePlan:
        self.world.called()
        tags = {ATTEMPT: str(request.attempt), INTENT: str(request.token)}
        return a_plan(request, tags=tags, client_token=str(request.token))

    def create(
        self, plan: CreatePlan, progress: Progress = SILENT, refused: RefusalListener = no_listener
    ) -> Instance:
        self.world.called()
        for machine in self.world.machines.values():
            if machine.tags.get(INTENT) == plan.client_token:
                return machine
        if not self.world.capacity or (plan.market is Market.SPOT and not self.world.spot):
            raise CapacityError("there is no machine")
        name = InstanceId(f"i-{len(self.world.machines)}")
        self.world.machines[name] = an_instance(
            id=name, state=InstanceState.PENDING, tags=plan.tags, market=plan.market
        )
        self.world.runs[name] = {}
        # The answer may be lost.
        self.world.called()
        return self.world.machines[name]

    def terminate(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        self.world.called()
        self.world.end(instance_id)
        return self.world.machines[instance_id]

    def wait_ended(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        self.world.called()
        return self.world.machines[instance_id]


class Store(ObjectStorage):
    """What is read of it and written to it."""

    scheme = "s3"

    def __init__(self, world: World) -> None:
        self.world = world

    def read(self, bucket: str, key: str) -> bytes:
        self.world.called()
        assert bucket == "bucket"
        try:
            return self.world.ends[key]
        except KeyError:
            raise NotFound("it is not there") from None

    def put(self, bucket: str, key: str, data: bytes, *, only_new: bool = False) -> bool:
        self.world.called()
        self.world.ends[key] = data
        return True

    def version(self, bucket: str, key: str) -> ObjectVersion | None:
        self.world.called()
        data = self.world.ends.get(key)
        return ObjectVersion(data, hashlib.sha256(data).hexdigest(), 0.0) if data is not None else None

    def replace(self, bucket: str, key: str, data: bytes, etag: str) -> str | None:
        found = self.version(bucket, key)
        if (found.etag if found is not None else "") != etag:
            return None
        self.world.ends[key] = data
        return hashlib.sha256(data).hexdigest()

    def objects(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        looked_for = ("/checkpoints/", "/meetings/")
        assert any(each in prefix for each in looked_for), (
            "nobody has to look for an object whose key is known"
        )
        self.world.called()
        keys = sorted(key for key in self.world.ends if key.startswith(prefix))
        return iter(StoredObject(key, 1, datetime.now(UTC)) for key in keys)

    def folders(self, *_: object, **__: object) -> Any:
        raise AssertionError("nobody has to look for an object whose key is known")

    fetch = upload = delete = folders


class Cloud(Provider):
    name = "aws"

    def __init__(self, world: World) -> None:
        self.world = world
        self.renting = Rents(world)
        self.object_storage = Store(world)

    def instance(self, instance_id: InstanceId) -> Instance:
        self.world.called()
        try:
            return self.world.machines[instance_id]
        except KeyError:
            raise NotFound("it is not there") from None

    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        self.world.called()
        return tuple(each for each in self.world.machines.values() if include_ended or not each.state.is_over)

    def wait_ready(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        self.world.called()
        known = self.world.machines[instance_id]
        self.world.machines[instance_id] = replace(known, state=InstanceState.RUNNING)
        return self.world.machines[instance_id]

    def transport(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Any:
        raise Unsupported("agents are reached without one")

    def doctor(self) -> tuple[Check, ...]:
        return ()
