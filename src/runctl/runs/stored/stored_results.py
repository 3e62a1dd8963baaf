"""What the machine of a run has put into an object store, read from this computer when the machine has ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from runctl.agent.checkpoints.layout import end_key
from runctl.agent.encoding import from_json, loads
from runctl.agent.object_store import Source, is_address, parse_source
from runctl.agent.spec import EndRecord
from runctl.core.errors import MachineError, NotFound, RunctlError, Unsupported
from runctl.core.text import counted
from runctl.machines.session import Session
from runctl.providers.abilities.object_storage import ObjectStorage, StoredObject
from runctl.providers.interface import require
from runctl.runs.records.run_record import RunRecord


def end_in_store(session: Session, record: RunRecord, rank: int = 0) -> EndRecord | None:
    """How the attempt ended, by the record that its machine has put last beside its results, or beside its checkpoints;
    ``None`` where there is none, or it cannot be read from here. Of several machines, how it ended on that one."""
    addresses = [(record.store, end_key(record.attempt, rank))]
    if rank == 0:
        addresses.insert(0, (record.results, f"logs/{record.attempt}.end.json"))
    for address, key in addresses:
        found = run_prefix(address, record)
        if found is None:
            continue
        with suppress(RunctlError, ValueError, TypeError):
            text = _storage(session, record, found).read(found.bucket, f"{found.prefix}/{key}")
            return from_json(EndRecord, loads(text))
    return None


def fetch_from_store(session: Session, record: RunRecord, target: Path) -> tuple[int, int, int] | None:
    """Everything is in ``target``: how many files, their bytes, and how many had to come. ``None``: there is nothing.

    A file of the right size is there already: it is as old as the run's end.
    """
    source = run_prefix(record.results, record)
    if source is None:
        return None
    storage = _storage(session, record, source)
    found = list(_files(storage.objects(source.bucket, source.prefix + "/"), source))
    if not found:
        return None
    session.progress.step(f"fetching {counted(len(found), 'file')} from {source}")
    total, sent = sum(each.size_bytes for _, each in found), 0
    for path, each in found:
        file = target / path
        if file.is_file() and file.stat().st_size == each.size_bytes:
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.part")
        try:
            with partial.open("wb") as opened:
                storage.fetch(source.bucket, each.key, lambda data, to=opened: _write(to.fileno(), data))  # type: ignore[misc]
            if partial.stat().st_size != each.size_bytes:
                raise MachineError(f"{each.key} is not complete", hint="run the same command again")
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
        sent += each.size_bytes
        session.progress.update(done=sent, total=total)
    return len(found), total, sent


def run_prefix(address: str | None, record: RunRecord) -> Source | None:
    """The run's own, below an address in an object store."""
    if address is None or not is_address(address):
        return None
    source = parse_source(address)
    return Source(source.bucket, "/".join(filter(None, (source.prefix, record.id))))


def _storage(session: Session, record: RunRecord, source: Source) -> ObjectStorage:
    try:
        storage = require(session.in_region(record.region).provider(record.provider).object_storage)
    except Unsupported as error:
        raise NotFound(f"{source} cannot be read from here: {error.message}") from error
    if not storage.holds(source.bucket):
        raise NotFound(
            f"{source} cannot be read from here: bucket {source.bucket} is not {record.provider}'s"
        )
    return storage


def _files(objects: Iterator[StoredObject], source: Source) -> Iterator[tuple[PurePosixPath, StoredObject]]:
    """Those that the run wrote, each with its path below the run's folder; none leads out of that."""
    for each in objects:
        path = PurePosixPath(each.key[len(source.prefix) + 1 :])
        if path.parts[:1] in (("output",), ("checkpoints",), ("logs",)) and ".." not in path.parts:
            yield path, each


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
