"""What the machine of a run has put into an object store, read from this computer when the machine has ended."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath

from runctl.agent.checkpoints.layout import end_key
from runctl.agent.encoding import from_json, loads
from runctl.agent.object_store import Source, is_address, parse_source
from runctl.agent.spec import EndRecord
from runctl.checkpoints.download import Counter, in_parallel
from runctl.core.errors import Conflict, MachineError, NotFound, RunctlError, Unsupported
from runctl.core.text import counted
from runctl.machines.session import Session
from runctl.providers.abilities.object_storage import ObjectStorage, StoredObject
from runctl.providers.interface import require
from runctl.runs.records.run_record import RunRecord

_CHUNK = 1 << 20


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

    Every file is compared with the object's checksum, also one that is there already: it may be of an earlier moment of
    the run. Raises `Conflict` (code ``link-in-the-way``) before anything is fetched where a link would lead elsewhere,
    and `MachineError` for a file that does not arrive as it is in the store.
    """
    source = run_prefix(record.results, record)
    if source is None:
        return None
    storage = _storage(session, record, source)
    found = list(_files(storage.objects(source.bucket, source.prefix + "/"), source))
    if not found:
        return None
    for path, _ in found:
        _check_way(target, path)
    session.progress.step(f"fetching {counted(len(found), 'file')} from {source}")
    total = sum(each.size_bytes for _, each in found)
    counter, came = Counter(session.progress, total), []

    def bring(path: PurePosixPath, each: StoredObject) -> None:
        file = target / path
        crc32 = storage.crc32(source.bucket, each.key)
        if _is_there(file, each.size_bytes, crc32):
            counter.add(each.size_bytes)
        else:
            _fetch(storage, source.bucket, each, crc32, file, counter)
            came.append(each.size_bytes)

    in_parallel([partial(bring, *pair) for pair in found])
    return len(found), total, sum(came)


def _check_way(target: Path, path: PurePosixPath) -> None:
    """Raises `Conflict` where a folder of the path is a link: a machine that was asked before may have made it, and the
    one that has put the file into the store is not to choose where it comes to."""
    for above in list(path.parents)[:-1]:
        if (target / above).is_symlink():
            raise Conflict(
                f"{target / above} is a link, and {path} would come to where that leads",
                hint="remove the link, or name another folder",
                code="link-in-the-way",
            )


def _is_there(file: Path, size_bytes: int, crc32: str | None) -> bool:
    """Whether the file is the object, and no link to one. Without a checksum nobody knows."""
    if crc32 is None or file.is_symlink() or not file.is_file() or file.stat().st_size != size_bytes:
        return False
    found = _Crc32()
    with file.open("rb") as opened:
        while data := opened.read(_CHUNK):
            found.add(data)
    return found.hex() == crc32


def _fetch(
    storage: ObjectStorage, bucket: str, each: StoredObject, crc32: str | None, file: Path, counter: Counter
) -> None:
    """The file is what the object is. Raises `MachineError`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    arriving, found = file.with_name(f".{file.name}.part"), _Crc32()
    # Of an earlier command that was killed, or a link.
    arriving.unlink(missing_ok=True)
    try:
        with arriving.open("xb") as opened:

            def write(data: bytes) -> None:
                opened.write(data)
                found.add(data)
                counter.add(len(data))

            storage.fetch(bucket, each.key, write)
        if arriving.stat().st_size != each.size_bytes:
            raise MachineError(f"{each.key} is not complete", hint="run the same command again")
        if crc32 not in {None, found.hex()}:
            raise MachineError(
                f"{each.key} has not arrived with the checksum that the store has of it",
                hint="run the same command again",
            )
        arriving.replace(file)
    finally:
        arriving.unlink(missing_ok=True)


class _Crc32:
    """The checksum of bytes that come one after the other."""

    def __init__(self) -> None:
        self._value = 0

    def add(self, data: bytes) -> None:
        """The next bytes."""
        self._value = zlib.crc32(data, self._value)

    def hex(self) -> str:
        """Of all so far, in hexadecimal."""
        return f"{self._value:08x}"


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
