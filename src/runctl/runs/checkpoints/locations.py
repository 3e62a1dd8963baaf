"""From what a command line names to the places that have its checkpoints: a folder, an instance's folder, a run."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from runctl._dataclasses import dataclass
from runctl.agent.object_store import parse_source
from runctl.checkpoints.interface import CheckpointLocation
from runctl.checkpoints.prefix import StoredCheckpoints
from runctl.core.errors import Conflict, NotFound, RunctlError, Unreachable, Unsupported, UsageError
from runctl.core.ids import InstanceId
from runctl.core.machine_models import InstanceState
from runctl.core.names import LATEST
from runctl.core.tags import is_ours
from runctl.costs.traffic import DataOut, data_out_of
from runctl.machines.finding import find_instance, provider_of
from runctl.machines.machine import Machine, reach
from runctl.machines.session import Session
from runctl.providers.interface import require
from runctl.providers.registry import is_this_computer, plugins, this_computer, volume_command
from runctl.runs.asking import machine_of
from runctl.runs.checkpoints.machine_folder import MachineFolder
from runctl.runs.fetched import fetched_folder, what_was_fetched
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.transport.agent import AgentClient

_REMOTE = re.compile(r"(?P<name>[^/:]+):(?P<path>.+)", re.DOTALL)


@dataclass(frozen=True)
class Locations:
    """Where the checkpoints are that a command line names."""

    reference: str
    """As it was named."""
    found: tuple[CheckpointLocation, ...]
    """At least one."""
    record: RunRecord | None = None
    """The run, where one was named."""
    elsewhere: tuple[str, ...] = ()
    """In words: where more may be, which cannot be asked now, and how it could."""


def find_locations(
    session: Session, reference: str, transport: str | None = None, *, changes: bool = False
) -> Locations:
    """Where the checkpoints of ``reference`` are: ``INSTANCE:PATH``, ``s3://BUCKET/PREFIX/RUN``, a run's
    id or name, or a folder here.

    Of a run whose machine is gone, what was brought to this computer counts as well, unless something is about to be
    changed there (``changes``): that is the user's copy.

    Raises `NotFound` (code ``no-checkpoint`` for a run whose checkpoints nobody has), `UsageError`, and what reaching
    an instance raises.
    """
    if "://" in reference:
        return Locations(reference, (stored_at(session, reference),))
    remote = _REMOTE.fullmatch(reference)
    if remote is not None:
        return Locations(
            reference, (_on_instance(session, remote["name"], remote["path"], reference, transport),)
        )
    if "/" in reference or reference in {".", "..", "~"}:
        return Locations(reference, (folder_here(session, reference),))
    try:
        record = run_store(session).get(reference)
    except NotFound:
        if reference != LATEST and Path(reference).exists():
            return Locations(reference, (folder_here(session, reference),))
        raise
    return _of_run(session, reference, record, transport, changes=changes)


def stored_at(session: Session, address: str, provider: str | None = None) -> StoredCheckpoints:
    """A run's prefix in an object store. Raises `UsageError`, `Unsupported` where no provider has such a store."""
    try:
        source = parse_source(address)
    except ValueError as error:
        raise UsageError(str(error), hint="such as s3://bucket/runs/run-7kq2m9xd4t") from error
    if provider is None:
        # A run of ours: its provider's store comes first.
        record = run_store(session).find(PurePosixPath(source.prefix).name)
        provider = record.provider if record is not None else None
    names = dict.fromkeys([*([provider] if provider else []), *(each.name for each in plugins())])
    for name in names:
        storage = session.provider(name).object_storage
        if isinstance(storage, Unsupported) or not address.startswith(f"{storage.scheme}://"):
            continue
        if storage.holds(source.bucket):
            return StoredCheckpoints(storage, source.bucket, source.prefix, provider=name)
    raise Unsupported(f"no provider that is installed has an object store for {address}")


def data_out(
    session: Session, location: CheckpointLocation, size_bytes: int, record: RunRecord | None = None
) -> DataOut | None:
    """What it costs that so much leaves the location's provider for this computer; ``None``: it is here, or no price is
    known. Where no ``record`` says the region at that provider, it is that of the configuration."""
    name = location.provider if isinstance(location, StoredCheckpoints | MachineFolder) else None
    if name is None or (isinstance(location, StoredCheckpoints) and location.at.storage.is_elsewhere):
        return None
    prices = session.provider(name).prices
    region = record.region if record is not None and record.provider == name else None
    rate = None if isinstance(prices, Unsupported) else prices.data_out(region)
    return None if rate is None else data_out_of(rate, size_bytes)


def folder_here(session: Session, path: str) -> MachineFolder:
    """A folder of this computer."""
    absolute = str(Path(path).expanduser().absolute())
    here = agent_here(session)
    return MachineFolder(here, absolute, path, here, is_shared=True, is_here=True)


def agent_here(session: Session) -> AgentClient:
    """The agent of this computer."""
    provider = session.provider(this_computer())
    return provider.agent(find_instance(session, this_computer()), progress=session.progress)


def _on_instance(session: Session, name: str, path: str, label: str, transport: str | None) -> MachineFolder:
    if ".." in PurePosixPath(path).parts:
        raise UsageError(f"{label}: the path must not have ..", hint=f"such as {name}:/mnt/data/checkpoints")
    instance = find_instance(session, provider_of(session, name), name)
    machine = reach(session, instance, transport)
    is_here = is_this_computer(instance.provider)
    return MachineFolder(
        machine.agent,
        path,
        label,
        agent_here(session),
        is_shared=True,
        is_here=is_here,
        provider=instance.provider,
    )


def _of_run(
    session: Session, reference: str, record: RunRecord, transport: str | None, *, changes: bool
) -> Locations:
    """The machine's folder while the machine is there, else the volume, wherever that is mounted now, else what was
    brought here; and the store."""
    elsewhere: list[str] = []
    found: list[CheckpointLocation] = []
    try:
        folder = _on_machine(session, record, transport)
        found += [folder] if folder is not None else []
    except (NotFound, Conflict, Unreachable) as error:
        elsewhere.append(error.message)
        on_volume, why_not = _on_volume(session, record, transport)
        here, copy = _fetched(session, record, changes=changes)
        if on_volume is not None:
            found.append(on_volume)
        elif here is not None:
            found.append(here)
            elsewhere = []
        else:
            elsewhere += [each for each in (why_not, copy) if each]
    stored, folder_store = _in_store(session, record)
    if stored is not None:
        found.append(stored)
        if not _has_more(record):
            elsewhere = []
    elsewhere += [folder_store] if folder_store and not found else []
    if found:
        return Locations(reference, tuple(found), record, tuple(elsewhere))
    raise NotFound(
        f"the checkpoints of {record.id} cannot be reached: "
        + ("; ".join(elsewhere) or "it has never started, and has none"),
        hint=f"runctl runs show {record.id}",
        code="no-checkpoint",
    )


def _has_more(record: RunRecord) -> bool:
    """Whether the run may have saved what it has not published. Pure."""
    newest = record.checkpoint
    return not record.has_ended or newest is None or not newest.path or newest.published_at is None


def _on_machine(session: Session, record: RunRecord, transport: str | None) -> MachineFolder | None:
    """``None`` for a run that has never started. Raises what `machine_of` raises."""
    return folder_of_run(session, machine_of(session, record, transport), record)


def folder_of_run(session: Session, machine: Machine, record: RunRecord) -> MachineFolder | None:
    """The run's own folder on its machine; ``None`` for a run that has never started."""
    folder = record.checkpoint_dir or machine.agent.status(record.id, record.attempt).checkpoint_dir
    if folder is None:
        return None
    is_here = is_this_computer(record.provider)
    where = folder if is_here else f"{machine.instance.id}:{folder}"
    return MachineFolder(
        machine.agent, folder, where, agent_here(session), is_here=is_here, provider=record.provider
    )


def _in_store(session: Session, record: RunRecord) -> tuple[StoredCheckpoints | None, str]:
    """What the run publishes to, or where that is in words, if it cannot be read from here."""
    if record.store is None:
        return None, ""
    address = f"{record.store.rstrip('/')}/{record.id}"
    if "://" not in address:
        return None, f"it published to the folder {address}, on whatever has that mounted"
    return stored_at(session.in_region(record.region), address, record.provider), ""


def _fetched(session: Session, record: RunRecord, *, changes: bool) -> tuple[MachineFolder | None, str]:
    """The folder that was brought here with the run's results, or what is to be known of it, in words."""
    if record.fetched is None:
        return None, ""
    folder = fetched_folder(record)
    if folder is None:
        return None, what_was_fetched(record.fetched)
    checkpoints = folder / "checkpoints"
    if not checkpoints.is_dir():
        return None, f"{folder}, to which its results were brought, has no checkpoints"
    if changes:
        return None, f"a copy is in {checkpoints}, which can be named itself"
    return folder_here(session, str(checkpoints)), ""


def _on_volume(
    session: Session, record: RunRecord, transport: str | None
) -> tuple[MachineFolder | None, str]:
    """The folder on whatever has the run's volume mounted, or why there is none, in words."""
    if record.saved_volume is None or record.saved_folder is None:
        return (
            None,
            "it saved to the disk of its machine, which ended with it" if record.checkpoint_dir else "",
        )
    there = session.in_region(record.region)
    provider = there.provider(record.provider)
    path = PurePosixPath(record.saved_folder) / "checkpoints"
    try:
        volume = require(provider.volumes).find(str(record.saved_volume))
        has_them = f"{volume.id} has them in {path}"
        if volume.attached_to is None:
            attach = volume_command(provider.name, "attach", volume.id, "INSTANCE")
            return (
                None,
                f"{has_them}, and is attached to no instance: {attach}, and the same command reads them",
            )
        holder = provider.instance(InstanceId(volume.attached_to))
        if holder.state is not InstanceState.RUNNING or not is_ours(holder.tags):
            return None, f"{has_them}, and is attached to {holder.id}, which is {holder.state.value}"
        agent = reach(there, holder, transport).agent
        point = next((mount.mount_point for mount in agent.mounts() if mount.volume_id == volume.id), None)
    except RunctlError as error:
        return None, f"{record.saved_volume} has them in {path}, and cannot be read: {error.message}"
    if point is None:
        return None, f"{has_them}, and is attached to {holder.id}, but not mounted there"
    folder = str(PurePosixPath(point) / path)
    here = agent_here(session)
    return MachineFolder(agent, folder, f"{holder.id}:{folder}", here, provider=record.provider), ""
