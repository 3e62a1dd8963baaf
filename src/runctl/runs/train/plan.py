"""What a training is about to be: every question answered before anything is sent, started or paid for. Pure.

A `RunPlan` is finished when it is made; nobody replaces a part of it afterwards. Another attempt has another plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field, replace
from pathlib import PurePosixPath
from typing import TypeGuard

from runctl._dataclasses import dataclass
from runctl.agent.spec import ContainerSpec, RunSpec
from runctl.checkpoints.resume import ResumeFrom
from runctl.containers.mounts import MountRequest, hidden_files
from runctl.containers.where import ImagePlanOfRun
from runctl.core.errors import Conflict, NotFound, PermissionDenied
from runctl.core.ids import RunId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.run_models import GitState
from runctl.core.tags import is_ours
from runctl.machines.pool_record import Lifetime
from runctl.project.docker.compose_file import check_env_files
from runctl.providers.registry import is_this_computer, when_not_running
from runctl.runs.mounts.folder_mounts import folder_mounts
from runctl.runs.mounts.plan import MountFacts, MountPlan, plan_mounts
from runctl.runs.recovery import Recovery
from runctl.runs.relocation import Relocation
from runctl.runs.train.project_plan import DEFAULT_GRACE, ProjectPlan, TrainRequest
from runctl.runs.train.spot_risk import SpotRisk, is_unsaved, spot_risk

RESUME_ORIGIN = "--resume-from"


@dataclass(frozen=True)
class RunPlan:
    """Everything that `runctl.runs.train.start.launch` needs; nothing has been sent or started."""

    run_id: RunId
    instance: Instance
    project: ProjectPlan
    spec: RunSpec
    """Complete but for the tree's digest, which the sync yields."""
    mounts: MountPlan
    """With what must be attached before."""
    image: ImagePlanOfRun | None = None
    """Where there is a Dockerfile: where it is built, and whether it is there already."""
    name: str | None = None
    """What the user calls the run."""
    git: GitState | None = None
    """What the project is made of, as far as git knows."""
    recovery: Recovery = field(default_factory=Recovery)
    """Whether another machine takes the run up when its own is taken back."""
    results: str | None = None
    """Where what the run wrote is brought after it: a folder of this computer, or an address."""
    spot_risk: SpotRisk | None = None
    """What interruptions are expected to cost; ``None``: checkpoints outlive the machine, or nobody takes it back."""
    relocation: Relocation = field(default_factory=Relocation)
    """How its volumes follow it to another zone, where it is recovered."""


def check_instance(instance: Instance) -> None:
    """The instance can be trained on. Raises `PermissionDenied` (not ours) or `Conflict` (not running)."""
    if instance.market is not Market.OWNED and not is_ours(instance.tags):
        raise PermissionDenied(
            f"{instance.id} was not created by runctl",
            hint=f"runctl changes only what it created: runctl {instance.provider} create makes an instance of its own",
            code="not-ours",
        )
    if instance.state is not InstanceState.RUNNING:
        raise Conflict(
            f"{instance.id} is {instance.state.value}, not running",
            hint=when_not_running(instance),
            code="not-running",
        )


def needs_check(container: ContainerSpec | None) -> TypeGuard[ContainerSpec]:
    """The run needs of its machine what not every one of ours has: Compose, or GPUs that were asked for."""
    return container is not None and (container.compose is not None or container.gpus not in ("auto", "none"))


def plan_run_mounts(
    request: TrainRequest, project: ProjectPlan, facts: MountFacts, files: Iterable[str] = ()
) -> MountPlan:
    """The run's mounts, with that of the volume that it resumes from where the machine has not got it.

    Pure, but for looking at the folders of ``local``. ``files`` are those of the project, from its root: a mount that
    hides some of them is told of. Raises what `plan_mounts` raises.
    """
    container = project.container
    if is_this_computer(facts.instance.provider):
        mounts = folder_mounts(project.mount_requests)
    else:
        mounts = plan_mounts(
            (*project.mount_requests, *_resume_mount(request.resume, project.mount_requests, facts)),
            facts,
            automatic=request.automatic_mounts,
            workdir=container.workdir if container is not None else None,
            script=None if project.is_command else project.script,
        )
    if container is None or not mounts.mounts:
        return mounts
    known, warnings = tuple(files), list(mounts.warnings)
    for mount in mounts.mounts:
        hidden = hidden_files(mount.spec.target, container.workdir, known)
        if hidden:
            more = f" and {len(hidden) - 1} more of the project's files" if len(hidden) > 1 else ""
            warnings.append(f"the mount at {mount.spec.target} hides {hidden[0]}{more}")
    return replace(mounts, warnings=tuple(warnings))


def plan_run(
    request: TrainRequest,
    project: ProjectPlan,
    instance: Instance,
    mounts: MountPlan,
    *,
    run_id: RunId,
    attempt: int = 1,
    resume_from: str | None = None,
    project_name: str,
    container: ContainerSpec | None,
    image: ImagePlanOfRun | None = None,
    git: GitState | None = None,
    lifetime: Lifetime | None = None,
    relocation: Relocation | None = None,
) -> RunPlan:
    """Join the project with what the machine has and what its image is.

    ``container`` is the one that the agent gets: `runctl.runs.images.settled_image.SettledImage.container`;
    ``resume_from`` is what `resume_path` says; ``lifetime`` is that of a spot machine, where the plan depends on it.
    Raises `ProjectError` for a file that a Compose service needs and that is not sent.
    """
    selection = project.sent.selection
    if project.compose is not None and selection is not None:
        check_env_files(project.compose.file, project.root.path, frozenset(selection.found))
    spec = RunSpec(
        run_id=run_id,
        attempt=attempt,
        script=project.script,
        args=project.args,
        is_command=project.is_command,
        interpreter=request.interpreter,
        project=project_name,
        env=dict(request.env),
        compose_env=dict(project.compose.variables.values) if project.compose is not None else {},
        workdir=request.workdir if container is None else None,
        mounts=mounts.specs,
        data_target=mounts.data_target,
        save_target=mounts.saves.spec.target if mounts.saves else None,
        dependencies=project.dependencies,
        container=container,
        timeout_seconds=request.timeout.total_seconds() if request.timeout else None,
        idle_seconds=request.idle_timeout.total_seconds() if request.idle_timeout else None,
        grace_seconds=(request.grace or DEFAULT_GRACE).total_seconds(),
        checkpoint_signal=request.checkpoint_signal,
        resume_from=resume_from,
        resume_args=request.resume_args,
        store=request.keeping.store(),
        checkpoint_schedule=request.keeping.schedule(lifetime.mean if lifetime is not None else None),
        # This computer was rented for nobody.
        machine_end=None if is_this_computer(instance.provider) else request.machine_end,
        contract=request.contract,
        deadline=request.deadline,
        progress_pattern=request.progress_pattern,
    )
    return RunPlan(
        run_id=run_id,
        instance=instance,
        project=project,
        spec=spec,
        mounts=mounts,
        image=image,
        name=request.name,
        git=git,
        results=request.results,
        recovery=request.recovery,
        spot_risk=spot_risk(lifetime, instance.price_per_hour, request.estimate or request.timeout)
        if lifetime is not None and is_unsaved(instance.market, spec.store, spec.container, mounts.saves)
        else None,
        relocation=relocation or Relocation(),
    )


def _resume_mount(
    resume: ResumeFrom | None, requests: Iterable[MountRequest], facts: MountFacts
) -> tuple[MountRequest, ...]:
    """The volume that the checkpoint is on, to be read; none where the machine has it, or is to have it."""
    if resume is None or resume.volume_id is None:
        return ()
    known = {str(facts.volumes[request.source].id) for request in requests if not request.is_path}
    known |= {str(mount.volume_id) for mount in facts.mounted if mount.volume_id}
    if str(resume.volume_id) in known:
        return ()
    return (MountRequest(str(resume.volume_id), f"/resume/{resume.run_id}", True, RESUME_ORIGIN),)


def resume_path(resume: ResumeFrom | None, mounts: MountPlan, facts: MountFacts) -> str | None:
    """Where the machine has the checkpoint once the mounts of the plan are made. Raises `NotFound`."""
    if resume is None or resume.volume_id is None:
        return resume.path if resume is not None else None
    points = [mount.mount_point for mount in facts.mounted if mount.volume_id == resume.volume_id]
    points += [
        attachment.mount_point
        for attachment in mounts.attachments
        if attachment.volume.id == resume.volume_id
    ]
    if not points:
        raise NotFound(
            f"{resume.volume_id}, which has the checkpoints of {resume.run_id}, is not on {facts.instance.id}",
            hint=f"mount it: --ebs-mount {resume.volume_id}:/data",
            code="volume-not-found",
        )
    return str(PurePosixPath(points[0]) / resume.path)
