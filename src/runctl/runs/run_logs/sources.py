"""Where a run's log is when its machine does not give it: here, or on the volume that has its checkpoints."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import PurePosixPath

from runctl._dataclasses import dataclass
from runctl.agent.checkpoints.layout import end_key, log_offset, log_prefix
from runctl.agent.encoding import from_json, loads
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import AttemptStatus, EndRecord
from runctl.core.clock import SystemClock
from runctl.core.errors import NotFound, RunctlError, Unsupported
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.progress import Progress
from runctl.core.tags import is_ours
from runctl.core.text import size as size_text
from runctl.machines.machine import Machine, reach
from runctl.machines.session import Session
from runctl.providers.interface import Provider, require
from runctl.providers.registry import is_this_computer, volume_command
from runctl.runs.records.adopting import adopt
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import RunStore, run_store
from runctl.runs.run_logs.archive import LogArchive, Span, log_archive, missing
from runctl.runs.stored.stored_results import run_prefix
from runctl.transport.agent import AgentClient
from runctl.transport.files import MachineFiles

PIECE_BYTES = 8 << 20
FETCHED_BYTES = 256 << 20
"""Of one log that is fetched before its machine is given back: the end is what matters."""
PATIENCE = timedelta(seconds=15)


@dataclass(frozen=True)
class KeptLog:
    """What of a log is here, after everything that can be reached was asked."""

    size: int | None
    """Of the whole log; ``None`` where nobody knows."""
    holes: tuple[Span, ...]
    """What is missing up to ``size``, or up to the last byte that is here."""
    end: EndRecord | None
    """How the run ended, by the machine's own record."""
    read_from: str = ""
    """Where it was read from now, in words: the run's store, or a volume and the instance that has it."""
    elsewhere: str = ""
    """What else could be done to get at it, in words."""


def on_volume(record: RunRecord) -> PurePosixPath | None:
    """The log's path on the volume, from the root of its file system. Pure."""
    if record.saved_volume is None or record.saved_folder is None:
        return None
    return PurePosixPath(record.saved_folder) / "logs" / f"{record.attempt}.log"


def is_complete(record: RunRecord, archive: LogArchive, rank: int = 0) -> bool:
    """Whether the whole log of an ended run is here, by length and checksum; of several machines, that one's."""
    log_bytes, log_sha256 = record.whole_log(rank)
    if log_bytes is None or not log_sha256:
        return False
    if missing(archive.spans(record.id, record.attempt, rank), log_bytes):
        return False
    checksum = hashlib.sha256()
    for _, data in archive.read(record.id, record.attempt, rank=rank):
        checksum.update(data)
    return checksum.hexdigest() == log_sha256


def find_kept_log(
    record: RunRecord,
    archive: LogArchive,
    *,
    provider: Provider,
    agent_on: Callable[[Instance], AgentClient],
    progress: Progress,
) -> KeptLog:
    """The log of a run whose machine does not give it: what is here, completed from the run's store, or from the volume
    if a running instance has that attached."""
    path = on_volume(record)
    read_from, elsewhere = "", ""
    if not is_complete(record, archive):
        try:
            read_from = read_stored_log(record, archive, provider, progress)
        except RunctlError as error:
            elsewhere = f"{record.store} may have it, and cannot be read: {error.message}"
    end = archive.end(record.id, record.attempt)
    sealed = end is not None and not missing(archive.spans(record.id, record.attempt), end.log_bytes)
    if path is not None and not sealed and not is_complete(record, archive):
        try:
            read_from, elsewhere = _read_volume(record, path, archive, provider, agent_on, progress)
        except RunctlError as error:
            elsewhere = f"{record.saved_volume} has it as {path}, and cannot be read: {error.message}"
    end = archive.end(record.id, record.attempt)
    spans = archive.spans(record.id, record.attempt)
    known = end.log_bytes if end is not None else record.log_bytes
    size = max([known or 0, *(span.stop for span in spans)])
    return KeptLog(known, missing(spans, size), end, read_from, elsewhere)


def fetch_log(
    machine: Machine,
    status: AttemptStatus,
    archive: LogArchive,
    on_trouble: Callable[[str], None],
    rank: int = 0,
) -> int:
    """What the machine has of an attempt's log, and this computer has not, is here; returns how many bytes came.

    ``rank`` is the machine's, of several.

    Raises what `AgentClient.logs` raises.
    """
    holes = missing(archive.spans(status.run_id, status.attempt, rank), status.log_bytes)
    wanted = bool(holes) or status.end is not None
    writer = archive.writer(status.run_id, status.attempt, on_trouble, rank) if wanted else None
    if writer is None:
        return 0
    at = begin = max(holes[0].start, status.log_bytes - FETCHED_BYTES) if holes else status.log_bytes

    def keep(data: bytes) -> None:
        nonlocal at
        writer.write(at, data)
        at += len(data)

    try:
        frame = machine.agent.logs(
            status.run_id, status.attempt, offset=begin, follow=False, on_bytes=keep, patience=PATIENCE
        )
        if frame.end is not None:
            writer.end(frame.end)
    finally:
        writer.close()
    return at - begin


def read_stored_log(
    record: RunRecord, archive: LogArchive, provider: Provider, progress: Progress, rank: int = 0
) -> str:
    """What of the log is in the run's store is here; where that was, if anything was there. Of several machines, that
    one's log. Raises what the store raises."""
    at = run_prefix(record.store, record)
    storage = provider.object_storage
    if at is None or isinstance(storage, Unsupported) or not storage.holds(at.bucket):
        return ""
    above = len(at.prefix) + 1
    progress.step(f"reading the log from {at}")
    pieces = [
        (offset, each)
        for each in storage.objects(at.bucket, f"{at.prefix}/{log_prefix(record.attempt, rank)}")
        if (offset := log_offset(each.key[above:])) is not None
    ]
    writer = archive.writer(record.id, record.attempt, progress.warn, rank) if pieces else None
    if writer is None:
        return ""
    try:
        for hole in missing(
            archive.spans(record.id, record.attempt, rank),
            max(offset + each.size_bytes for offset, each in pieces),
        ):
            for offset, each in pieces:
                if offset < hole.stop and hole.start < offset + each.size_bytes:
                    writer.write(offset, storage.read(at.bucket, each.key))
        with contextlib.suppress(NotFound, ValueError, TypeError):
            text = storage.read(at.bucket, f"{at.prefix}/{end_key(record.attempt, rank)}")
            writer.end(from_json(EndRecord, loads(text)))
    finally:
        writer.close()
    return str(at)


def _read_volume(
    record: RunRecord,
    path: PurePosixPath,
    archive: LogArchive,
    provider: Provider,
    agent_on: Callable[[Instance], AgentClient],
    progress: Progress,
) -> tuple[str, str]:
    volume = require(provider.volumes).find(str(record.saved_volume))
    label = f'{volume.id} "{volume.name}"' if volume.name else str(volume.id)
    attach = (
        f"{label} has it as {path}; {volume_command(provider.name, 'attach', volume.id, 'INSTANCE')}, and the same"
        " command reads it"
    )
    if volume.attached_to is None:
        return "", attach
    holder = provider.instance(InstanceId(volume.attached_to))
    if holder.state is not InstanceState.RUNNING or not is_ours(holder.tags):
        return "", f"{label} has it as {path}; it is attached to {holder.id}, which is {holder.state.value}"
    progress.step(f"reading the log from {label} on {holder.id}")
    agent = agent_on(holder)
    point = next((mount.mount_point for mount in agent.mounts() if mount.volume_id == volume.id), None)
    if point is None:
        return "", f"{label} has it as {path}; it is attached to {holder.id}, and not mounted there"
    files, log = MachineFiles(agent), str(PurePosixPath(point) / path)
    size = files.size(log)
    if size is None:
        return "", f"{label} has no {path}"
    writer = archive.writer(record.id, record.attempt, progress.warn)
    if writer is None:
        return "", ""
    try:
        for hole in missing(archive.spans(record.id, record.attempt), size):
            for start in range(hole.start, hole.stop, PIECE_BYTES):
                files.fetch_file(log, [(start, min(PIECE_BYTES, hole.stop - start))], writer.write)
        sealed = _end_record(files, log.removesuffix(".log") + ".end.json")
        if sealed is not None:
            writer.end(sealed)
    finally:
        writer.close()
    return f"{label}, which {holder.id} has mounted at {point}", ""


def _end_record(files: MachineFiles, path: str) -> EndRecord | None:
    size, text = files.size(path), bytearray()
    if size is None or size > 1 << 16:
        return None
    files.fetch_file(path, [(0, size)], lambda _, data: text.extend(data))
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return from_json(EndRecord, loads(bytes(text)))
    return None


def fetch_logs(session: Session, instances: Sequence[Instance]) -> None:
    """What these machines have of their runs' logs, and this computer has not, is here; what is not is said.

    A machine is asked where this computer knows a run on it whose log is not all here.
    """
    store, archive = run_store(session), log_archive()
    for instance in instances:
        if is_this_computer(instance.provider):
            continue
        records = [
            record
            for record in store.list(instance=instance.id)
            if record.end_reason is not EndReason.NOT_STARTED
            and not is_complete(record, archive, record.rank_on(instance.id) or 0)
        ]
        if not records:
            continue
        if instance.state is not InstanceState.RUNNING:
            lost = [
                record.id
                for record in records
                if not archive.spans(record.id, record.attempt, record.rank_on(instance.id) or 0)
            ]
            if lost:
                session.progress.warn(
                    f"{instance.id} is {instance.state.value}: logs that were never fetched go with it:"
                    f" {', '.join(lost)}"
                )
            continue
        try:
            _fetch_logs(session, reach(session, instance), store, archive)
        except RunctlError as error:
            session.progress.warn(
                f"the logs of {', '.join(record.id for record in records)} could not be fetched, and go with"
                f" {instance.id}: {error.message}"
            )


def _fetch_logs(session: Session, machine: Machine, store: RunStore, archive: LogArchive) -> None:
    for status in machine.agent.attempts():
        known = store.find(status.run_id)
        rank = known.rank_on(machine.instance.id) if known is not None else None
        if adopt(machine, status, store, SystemClock().now()) is None and rank is None:
            continue
        if status.log_bytes > FETCHED_BYTES:
            session.progress.warn(
                f"of the log of {status.run_id} only the last {size_text(FETCHED_BYTES)} are fetched"
            )
        fetched = fetch_log(machine, status, archive, session.progress.warn, rank or 0)
        if fetched:
            session.progress.note(
                f"fetched the log of {status.run_id} ({size_text(fetched)}): runctl runs logs {status.run_id}"
            )
