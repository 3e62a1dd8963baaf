"""Gathers what a plan of mounts is decided by: the machine's mounts and runs, the volumes, and who has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from runctl.agent.spec import AttemptStatus
from runctl.containers.mounts import MountRequest
from runctl.core.errors import NotFound, PermissionDenied, RunctlError, Unsupported
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Instance, InstanceState, Volume
from runctl.core.progress import Progress
from runctl.core.tags import is_ours
from runctl.providers.interface import Provider, require
from runctl.runs.mounts.plan import MountFacts
from runctl.runs.mounts.volume_conflicts import Holder, Sharer, is_on
from runctl.runs.records.store import RunStore
from runctl.transport.agent import AgentClient

PATIENCE = timedelta(seconds=20)
"""How long another machine is asked what it does with a volume; it is only for telling."""


def gather_mount_facts(
    requests: Sequence[MountRequest],
    *,
    besides: Sequence[str] = (),
    instance: Instance,
    agent: AgentClient,
    provider: Provider,
    store: RunStore,
    agent_on: Callable[[Instance], AgentClient],
    progress: Progress,
) -> MountFacts:
    """Everything that `runctl.runs.mounts.plan.plan_mounts` needs, as it is now; of the volumes ``besides``, too.

    Raises `NotFound` (no such volume), `Conflict` (a name that several volumes have), and what the machine and the
    provider raise when they do not answer.
    """
    named = [*(request.source for request in requests if not request.is_path), *besides]
    if named:
        progress.step("looking up the volumes")
    known: dict[str, Volume] = {}
    for name in dict.fromkeys(named):
        found = require(provider.volumes).find(name)
        known[name] = known[found.id] = found
    progress.step(f"asking {instance.id} what is mounted")
    mounted = agent.mounts(provided_volumes(provider, instance))
    there = {str(mount.volume_id) for mount in mounted if mount.volume_id}
    gone = set()
    for volume_id in sorted(there | _expected(requests, instance)):
        try:
            volume = known.setdefault(
                volume_id, known.get(volume_id) or require(provider.volumes).find(volume_id)
            )
        except NotFound:
            gone.add(volume_id)
        except (PermissionDenied, Unsupported):
            continue  # its name and its type are not known, that is all
        else:
            if volume_id in there and not is_on(volume, instance):
                gone.add(volume_id)
    mine = {*there, *(volume.id for volume in known.values())}
    sharers = [run for run in map(sharer, agent.attempts(running=True)) if run is not None] if mine else []
    holders = {
        str(volume.id): find_holder(volume, provider, store, agent_on, progress)
        for volume in {volume.id: volume for volume in known.values()}.values()
        if volume.attached_to is not None and not is_on(volume, instance)
    }
    changing = _changing({known[name].id for name in named}, provider) if named else {}
    return MountFacts(instance, mounted, known, holders, sharers, changing, frozenset(gone & there))


def provided_volumes(provider: Provider, instance: Instance) -> dict[str, str] | None:
    """The machine's volumes by mount point, where the provider mounts them; ``None`` where the agent does."""
    volumes = provider.volumes
    if isinstance(volumes, Unsupported) or not volumes.chosen_at_creation:
        return None
    return {each.mount_point: str(each.volume_id) for each in instance.volumes if each.mount_point}


def sharer(status: AttemptStatus) -> Sharer | None:
    """An attempt with its volumes; ``None`` when it has ended or has none."""
    volumes = frozenset(mount.volume_id for mount in status.mounts if mount.volume_id)
    if status.end is not None or not volumes:
        return None
    writes = frozenset(mount.volume_id for mount in status.mounts if mount.volume_id and not mount.read_only)
    return Sharer(status.run_id, status.script, volumes, writes)


def _changing(volume_ids: Iterable[VolumeId], provider: Provider) -> dict[str, str]:
    """Changes under way; where the account may not know, there are none to tell."""
    found = {}
    for volume_id in sorted(volume_ids):
        try:
            change = require(provider.resizing).latest(volume_id)
        except RunctlError:
            continue
        if change is not None and change.is_under_way:
            found[str(volume_id)] = change.state
    return found


def _expected(requests: Sequence[MountRequest], instance: Instance) -> set[str]:
    """Volumes that the instance should have mounted, if a path may mean one of them."""
    if not any(request.is_path for request in requests):
        return set()
    return {str(attached.volume_id) for attached in instance.volumes if attached.mount_point}


def find_holder(
    volume: Volume,
    provider: Provider,
    store: RunStore,
    agent_on: Callable[[Instance], AgentClient],
    progress: Progress,
) -> Holder:
    """The instance that has the volume, and its runs: from the machine itself, else from what is remembered here."""
    assert volume.attached_to is not None  # noqa: S101 - the callers have looked
    identifier = volume.attached_to
    try:
        instance = provider.instance(identifier)
    except RunctlError:
        return Holder(identifier, None, _remembered(volume, identifier, store))
    runs: tuple[Sharer, ...] | None = None
    if instance.state is InstanceState.RUNNING and is_ours(instance.tags):
        progress.step(f"asking {identifier} what it does with {volume.name or volume.id}")
        try:
            runs = _asked(volume, agent_on(instance))
        except RunctlError as error:
            progress.detail(f"{identifier} does not say: {error.message}")
    return Holder(identifier, instance, _remembered(volume, identifier, store) if runs is None else runs)


def _asked(volume: Volume, agent: AgentClient) -> tuple[Sharer, ...]:
    found = map(sharer, agent.attempts(running=True, timeout=PATIENCE))
    return tuple(run for run in found if run is not None and volume.id in run.volumes)


def _remembered(volume: Volume, identifier: InstanceId, store: RunStore) -> tuple[Sharer, ...]:
    """Runs of this computer's that may still be using it there."""
    found = []
    for record in store.list(instance=identifier):
        volumes = frozenset(str(mount.volume_id) for mount in record.mounts if mount.volume_id)
        if record.has_ended or volume.id not in volumes:
            continue
        writes = frozenset(
            str(mount.volume_id) for mount in record.mounts if mount.volume_id and not mount.read_only
        )
        found.append(Sharer(record.id, record.script, volumes, writes))
    return tuple(found)
