"""``runctl.train``: a training from a program, by the same use case as the command's."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict, Unpack

from runctl._dataclasses import dataclass
from runctl.checkpoints.keeping import NOTHING, Keeping
from runctl.containers.container_options import NO_OPTIONS, ContainerOptions
from runctl.containers.mounts import parse_mount
from runctl.core.clock import SystemClock
from runctl.core.ids import RunId
from runctl.core.machine_models import Instance
from runctl.core.run_models import Run
from runctl.machines.finding import find_instance
from runctl.machines.machine import Machine
from runctl.machines.session import Session
from runctl.providers.names import check_run_name
from runctl.providers.registry import DEFAULT
from runctl.runs.asking import refresh
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.shown_run import as_run
from runctl.runs.run_logs.reading import follow_run
from runctl.runs.stopping import stop_run
from runctl.runs.train.machine_image import in_machines_image
from runctl.runs.train.plan import RunPlan
from runctl.runs.train.project_plan import TrainRequest, plan_project
from runctl.runs.train.request import with_configuration
from runctl.runs.train.resume_point import find_checkpoint
from runctl.runs.train.training import Training


@dataclass
class StartedRun:
    """A run that its machine has taken up. It goes on without this object, and without this computer."""

    session: Session
    plan: RunPlan
    """As it was when the run was started."""
    _machine: Machine
    _record: RunRecord

    @property
    def id(self) -> RunId:
        """By which `runctl.runs` and the command line find it."""
        return self._record.id

    def status(self) -> Run:
        """What its machine says of it now; state ``unknown`` where that cannot be asked."""
        (record,) = refresh(self.session, [self._record])
        return self._as_run(record)

    def follow(self, on_log: Callable[[bytes], None]) -> Run:
        """The run has ended; ``on_log`` has had its whole log, piece by piece, as it was written.

        Raises `Unreachable` when the machine is silent for too long: the run may well go on.
        """
        return self._as_run(follow_run(self.session, self._machine, self._record, on_log).record)

    def wait(self) -> Run:
        """The run has ended. Raises as `follow` does."""
        return self.follow(lambda _: None)

    def log(self) -> bytes:
        """What it has printed up to now."""
        printed = bytearray()
        follow_run(self.session, self._machine, self._record, printed.extend, to_the_end=False)
        return bytes(printed)

    def stop(self, *, grace: timedelta | None = None, force: bool = False) -> Run:
        """The run has ended: SIGTERM, ``grace`` (the run's own), SIGKILL; ``force`` goes straight to that."""
        return self._as_run(stop_run(self.session, self._record, grace=grace, force=force).record)

    def _as_run(self, record: RunRecord) -> Run:
        if record.state.value != "unknown":
            self._record = record
        return as_run(record, SystemClock().now())


class TrainArguments(TypedDict, total=False):
    """What a program may say of a run: the arguments of `train` that are about it."""

    is_command: bool
    cwd: Path | None
    mounts: Sequence[str]
    automatic_mounts: bool
    docker: bool | None
    image: str | None
    container: ContainerOptions
    env: Mapping[str, str] | None
    workdir: str | None
    timeout: timedelta | None
    grace: timedelta | None
    checkpoint_signal: str | None
    checkpoints: Keeping
    resume_args: Sequence[str]
    sync_code: bool | None
    name: str | None
    contract: str | None
    progress_pattern: str | None


def train_request(
    session: Session,
    provider: str,
    script: str | Path | None,
    args: Sequence[str],
    **arguments: Unpack[TrainArguments],
) -> TrainRequest:
    """What a program says of a run, with what the configuration says where it says nothing. Raises `UsageError`."""
    given: dict[str, Any] = dict(arguments)
    if given.get("name") is not None:
        check_run_name(given["name"])
    request = TrainRequest(
        script=Path(script) if script is not None else None,
        args=tuple(args),
        cwd=given.pop("cwd", None) or Path.cwd(),
        mounts=tuple(parse_mount(text) for text in given.pop("mounts", ())),
        env=given.pop("env", None) or {},
        caller_env=os.environ,
        keeping=given.pop("checkpoints", NOTHING),
        resume_args=tuple(given.pop("resume_args", ())),
        **given,
    )
    return with_configuration(request, session.config, session.defaults(provider))


def train(
    script: str | Path | None,
    args: Sequence[str] = (),
    *,
    instance: Instance | str | None = None,
    provider: str = DEFAULT,
    is_command: bool = False,
    cwd: Path | None = None,
    mounts: Sequence[str] = (),
    automatic_mounts: bool = True,
    docker: bool | None = None,
    image: str | None = None,
    container: ContainerOptions = NO_OPTIONS,
    env: Mapping[str, str] | None = None,
    workdir: str | None = None,
    timeout: timedelta | None = None,
    grace: timedelta | None = None,
    checkpoint_signal: str | None = None,
    checkpoints: Keeping = NOTHING,
    resume_from: str | None = None,
    resume_args: Sequence[str] = (),
    sync_code: bool | None = None,
    name: str | None = None,
    contract: str | None = None,
    transport: str | None = None,
    on_plan: Callable[[RunPlan], None] = lambda _: None,
    session: Session | None = None,
) -> StartedRun:
    """A run of the script has started on the instance: what ``runctl PROVIDER train`` does, with the same options.

    ``instance`` is an id, a name or what a provider returned; ``provider="local"`` needs none. What is not given
    comes from the configuration, as seen from the current folder. ``mounts`` are ``SOURCE:TARGET[:ro]``. With
    ``is_command``, ``script`` is ``None`` and ``args`` are the command. ``on_plan`` is called with the finished plan
    before anything is sent or started; an exception from it stops the call there.

    Raises `UsageError`, `NotFound`, `Conflict`, `ProjectError` for what cannot be meant or done, `MachineError` when
    the machine refuses (nothing runs) and `Unreachable` when its answer was lost (the run may have started).
    """
    session = session or Session()
    provider = instance.provider if isinstance(instance, Instance) else provider
    request = train_request(
        session,
        provider,
        script,
        args,
        is_command=is_command,
        cwd=cwd,
        mounts=mounts,
        automatic_mounts=automatic_mounts,
        docker=docker,
        image=image,
        container=container,
        env=env,
        workdir=workdir,
        timeout=timeout,
        grace=grace,
        checkpoint_signal=checkpoint_signal,
        checkpoints=checkpoints,
        resume_args=resume_args,
        sync_code=sync_code,
        name=name,
        contract=contract,
    )
    project = plan_project(request)
    found = instance if isinstance(instance, Instance) else find_instance(session, provider, instance)
    request, project = in_machines_image(session, request, project, found)
    if resume_from is not None:
        request = replace(request, resume=find_checkpoint(session, resume_from, found))
    training = Training(session, request, project, found, transport)
    plan = training.plan()
    on_plan(plan)
    return StartedRun(session, plan, training.machine, training.start(plan))
