"""What ``launch`` is about to do, decided before anything is rented: which volumes the machine must have, what the run
will see on it, where its results go, and when the machine ends. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.after_run import READ_SECONDS, MachineEnd
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.object_store import KEY_VARIABLES, is_address, parse_source
from runctl.agent.spec import MachineMount
from runctl.checkpoints.resume import ResumeFrom
from runctl.containers.mounts import MountRequest
from runctl.core.errors import NotFound, UsageError
from runctl.core.files import check_is_here
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Instance, InstanceState, Market, Volume, VolumeState
from runctl.core.mount_points import is_within
from runctl.core.text import time_span
from runctl.costs.traffic import DataOut
from runctl.machines.node_volumes import NodeVolume
from runctl.machines.nodes import Engine, NodeGroupPlan, NodesWanted
from runctl.providers.abilities.groups import GroupPlan
from runctl.providers.abilities.prices import StoragePrices
from runctl.providers.instance_plans import CreatePlan, InstanceRequest, VolumeMount
from runctl.runs.deadlines.plan import DeadlinePlan
from runctl.runs.mounts.plan import MountFacts, PlannedMount
from runctl.runs.train.plan import RunPlan

NEW_MACHINE = InstanceId("a new machine")
"""Stands for the id of a machine that is not rented yet."""
DATA_DISK = "data"
"""Stands for the id of a disk that is created with the machine."""
NEW_VOLUME = "NEW-VOLUME"
"""Stands for a volume that is made with the machine: its provider says its name, and where it is mounted, then only."""
DEFAULT_RESULTS = "results"
FETCH_WITHIN = timedelta(hours=12)
UNUSED_FOR = timedelta(hours=3)
"""A machine that nobody has started the run on ends itself after so long: whoever rented it was killed."""
FOLLOWER_SECONDS = 600.0
"""How long a machine waits for somebody who follows the run and has lost the connection at its end."""


@dataclass(frozen=True)
class AfterRun:
    """What was asked for the time after the run."""

    results: str | None = None
    """The folder of this computer that they are brought to, or an address in an object store; ``None``: see
    `plan_results`."""
    bring_results: bool = True
    keep: bool = False
    """The machine stays."""
    keep_on_failure: timedelta = timedelta(0)
    fetch_within: timedelta = FETCH_WITHIN
    follows: bool = False
    """Somebody waits for the run's end."""


class Safety(StrEnum):
    """Where a run's results are safe once it has ended."""

    FOLDER = "folder"
    """In a folder of this computer, when they have been brought there."""
    STORE = "store"
    """In an object store, into which the machine puts them."""
    VOLUME = "volume"
    """On the volume to which the run saves."""
    MACHINE = "machine"
    """On its machine, which is not given back."""
    NOWHERE = "nowhere"
    """They end with the machine."""


@dataclass(frozen=True)
class ResultsPlan:
    """Where output, checkpoints and log are once the run has ended."""

    safety: Safety
    where: str | None = None
    """The folder of this computer or the address (the run's own is made in it), or the volume's name or id."""

    @property
    def target(self) -> str | None:
        """The folder of this computer, or the address, that they are to be brought to."""
        return self.where if self.safety in (Safety.FOLDER, Safety.STORE) else None


@dataclass(frozen=True)
class Storing:
    """What the run leaves in the provider's object store, which costs until it is deleted."""

    addresses: tuple[str, ...]
    prices: StoragePrices


@dataclass(frozen=True)
class LaunchPlan:
    """Everything that `runctl.runs.launch.launching.Launch` is about to do."""

    machine: CreatePlan | None
    """``None``: the machine is there, and nothing is rented."""
    run: RunPlan
    """For a machine to be rented: what it will be when the machine is as `machine` says."""
    results: ResultsPlan
    deadline: DeadlinePlan | None = None
    estimate: timedelta | None = None
    """How long the run takes, where somebody has said so."""
    storing: Storing | None = None
    group: GroupPlan | None = None
    """What rents the machine, and the next one, with nobody watching; ``None``: this computer rents it once."""
    wanted: NodesWanted | None = None
    """How many machines, and what makes one run of them; ``None``: there is one."""
    nodes: NodeGroupPlan | None = None
    """Several machines that this computer rents, each as ``machine`` says."""
    data_out: DataOut | None = None
    """What leaves the provider for this computer when results are brought home; ``None``: nothing does, or no price is
    known."""

    @property
    def engine(self) -> Engine | None:
        """What makes one run of several machines."""
        return None if self.wanted is None else self.wanted.engine


def with_volumes(
    request: InstanceRequest, mounts: Sequence[MountRequest], resume: ResumeFrom | None
) -> InstanceRequest:
    """The request for a machine that has every volume which the run names: they decide its zone."""
    found = {volume.volume: volume for volume in request.volumes}
    for mount in mounts:
        if mount.is_path:
            continue
        before = found.get(mount.source)
        point = (before.mount_point if before else None) or mount.mount_point
        # Where several mounts show it, one that writes decides.
        read_only = mount.read_only and (before is None or before.read_only)
        found[mount.source] = VolumeMount(mount.source, point, read_only)
    if resume is not None and resume.volume_id is not None:
        identifier = str(resume.volume_id)
        found.setdefault(identifier, VolumeMount(identifier))
    return replace(request, volumes=tuple(found.values()))


def with_addresses(
    request: InstanceRequest, after: AfterRun, store: StoreSpec | None, env: Mapping[str, str]
) -> InstanceRequest:
    """The request for a machine that may write where results and checkpoints go. Raises `UsageError`.

    A store with an endpoint of its own knows nothing of the machine's rights, and keys among the run's variables
    (``env``) are used before them.
    """
    results_there = after.results is not None and is_address(after.results)
    if KEY_VARIABLES[0] in env and not results_there:
        store = None
    addresses = list(request.writes)
    if after.results is not None and is_address(after.results):
        addresses.append(checked_address(after.results))
    if store is not None and is_address(store.url) and not store.endpoint:
        addresses.append(checked_address(store.url))
    return replace(request, writes=tuple(dict.fromkeys(addresses)))


def without_repeats(request: InstanceRequest, volumes: Mapping[str, Volume]) -> InstanceRequest:
    """The request with each volume once, where it is named by its name and by its id."""
    found: dict[str, VolumeMount] = {}
    for mount in request.volumes:
        identifier = str(volumes[mount.volume].id)
        before = found.get(identifier, VolumeMount(identifier, None, mount.read_only))
        point = before.mount_point or mount.mount_point
        found[identifier] = VolumeMount(identifier, point, before.read_only and mount.read_only)
    return replace(request, volumes=tuple(found.values()))


def machine_to_be(plan: CreatePlan, now: datetime) -> Instance:
    """The machine as it will be once it can be used."""
    return Instance(
        id=NEW_MACHINE,
        provider=plan.provider,
        state=InstanceState.RUNNING,
        instance_type=plan.instance_type,
        market=plan.market,
        zone=plan.zone,
        public_ip=None,
        private_ip=None,
        price_per_hour=plan.price.usd if plan.price is not None else None,
        project=plan.project,
        owner=plan.owner,
        created_at=now,
        tags=plan.tags,
    )


def mounts_to_be(
    plan: CreatePlan,
    instance: Instance,
    volumes: Mapping[str, Volume],
    *,
    shared: Sequence[NodeVolume] = (),
) -> MountFacts:
    """What will be mounted on the machine; ``volumes`` are those of the plan, by every name that a request uses, and
    ``shared`` those that other machines have at the same time."""
    mounted = []
    for mount in plan.volumes:
        size = volumes[mount.volume].size_gib << 30
        mounted.append(
            MachineMount(str(mount.mount_point), "", mount.volume, "", size, size, read_only=mount.read_only)
        )
    for each in shared:
        size = each.volume.size_gib << 30
        mounted.append(MachineMount(each.mount_point, "", each.volume.id, "", size, size, read_only=True))
    if plan.data_volume_size_gib is not None:
        size = plan.data_volume_size_gib << 30
        mounted.append(MachineMount(plan.data_mount_point, "", DATA_DISK, "", size, size))
    # Where a spot machine is taken back, the next one is made with another: none of it is carried on.
    if plan.new_volume_gib is not None and plan.market is not Market.SPOT:
        size = plan.new_volume_gib << 30
        mounted.append(MachineMount(f"/mnt/{NEW_VOLUME}", "", NEW_VOLUME, "", size, size))
        volumes = {**volumes, NEW_VOLUME: _new_volume(plan.new_volume_gib, instance)}
    return MountFacts(instance, mounted, volumes)


def _new_volume(size_gib: int, instance: Instance) -> Volume:
    return Volume(
        id=VolumeId(NEW_VOLUME),
        name=None,
        state=VolumeState.IN_USE,
        size_gib=size_gib,
        type="",
        iops=None,
        throughput=None,
        zone=instance.zone or "",
        encrypted=False,
        attached_to=instance.id,
        device=None,
        mount_point=None,
        persistent=False,
        price_per_month=None,
        instances=(instance.id,),
    )


def check_resume_path(resume: ResumeFrom | None, facts: MountFacts) -> None:
    """A path to resume from can be on a machine that is new. Raises `NotFound`."""
    if resume is None or resume.volume_id is not None or resume.is_in_store:
        return
    if not any(is_within(resume.path, mount.mount_point) for mount in facts.mounted):
        raise NotFound(
            f"--resume-from {resume.path}: a new machine has nothing there",
            hint="name the run that saved it, or the volume that it is on: --ebs-volume VOLUME",
            code="no-such-file",
        )


def plan_results(after: AfterRun, saves: PlannedMount | None, cwd: Path, *, rented: bool) -> ResultsPlan:
    """Where they are safe: where that was asked for; else on the volume that outlives the machine; else they are
    brought to the folder ``results``. Raises `UsageError` for what is neither a folder nor an address."""
    if after.results is not None and is_address(after.results):
        if not rented:
            raise UsageError(
                f"--results {after.results}: only a machine that is rented for the run puts them there",
                hint="--results FOLDER copies them",
            )
        return ResultsPlan(Safety.STORE, checked_address(after.results))
    volume = saves.volume if saves is not None else None
    # Whether one that is made with the machine comes mounted, only the machine can tell.
    known = volume is not None and volume.id != NEW_VOLUME
    outlives = rented and volume is not None and known and not volume.ends_with_instance
    if after.results is None and after.bring_results and volume is not None and outlives:
        return ResultsPlan(Safety.VOLUME, volume.name or str(volume.id))
    if after.results is not None or (rented and after.bring_results and not after.keep):
        check_is_here(Path(after.results or DEFAULT_RESULTS))
        folder = cwd / Path(after.results or DEFAULT_RESULTS).expanduser()
        if folder.exists() and not folder.is_dir():
            raise UsageError(
                f"{folder} is not a folder, and results are to be brought there", hint="--results FOLDER"
            )
        return ResultsPlan(Safety.FOLDER, str(folder))
    return ResultsPlan(Safety.NOWHERE if rented and not after.keep else Safety.MACHINE)


def end_warning(after: AfterRun, end: MachineEnd, longest: timedelta | None) -> str | None:
    """That a machine which waits for its results to be fetched may end before that, in words."""
    waits = (
        not (after.follows or end.keep or end.results_url)
        and end.fetch_within_seconds > end.read_within_seconds
    )
    if longest is None or not waits or longest.total_seconds() >= end.fetch_within_seconds:
        return None
    waiting = time_span(timedelta(seconds=end.fetch_within_seconds))
    return (
        f"the machine ends {time_span(longest)} after it is created (--ttl, --budget), whether or not its results"
        f" were fetched; it would wait {waiting} for that (--fetch-within)"
    )


def checked_address(text: str) -> str:
    """Raises `UsageError`."""
    try:
        return str(parse_source(text))
    except ValueError as error:
        raise UsageError(f"--results {text}: {error}", hint="such as s3://mine/runs, or a folder") from error


def plan_machine_end(
    after: AfterRun, results: ResultsPlan, variables: Mapping[str, str] | None = None
) -> MachineEnd:
    """When the machine ends itself after the run; ``variables`` lead its programs to the provider's services."""
    url = results.where if results.safety is Safety.STORE else None
    env = dict(variables or {}) if url is not None else {}
    if after.keep:
        return MachineEnd(keep=True, results_url=url, results_env=env)
    read = FOLLOWER_SECONDS if after.follows else READ_SECONDS
    # Results that cannot be put where they belong can still be fetched.
    fetched = results.safety in (Safety.FOLDER, Safety.STORE)
    return MachineEnd(
        read_within_seconds=read,
        fetch_within_seconds=max(read, after.fetch_within.total_seconds()) if fetched else read,
        keep_on_failure_seconds=after.keep_on_failure.total_seconds(),
        results_url=url,
        results_env=env,
    )
