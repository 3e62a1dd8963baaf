"""Where a run's prefix is: a folder of the machine, or an S3-compatible store. One interface, the same errors."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Callable, Protocol, TypeVar

from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints.folders import sha256_of, unless_gone
from runctl.agent.checkpoints.layout import CHECKPOINTS, DATA, StoredFile, data_key
from runctl.agent.cloud.checksums import MIB, in_base64
from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.s3 import S3, Location, Refusal, location_of
from runctl.agent.cloud.uploads import upload
from runctl.agent.encoding import from_json, loads
from runctl.agent.errors import AgentError
from runctl.agent.machine import durable
from runctl.agent.machine.root import on_machine
from runctl.agent.object_store import Source, parse_source, partition_of, to_write

_T = TypeVar("_T")

THREADS = 8
LARGE = 64 * MIB
"""Bytes: a larger file goes in parts at once, of smaller ones several do."""
_RANGE = 16 * MIB
_BLOCK = 1 << 18


class Store(Protocol):
    """A run's prefix. Keys are those of `layout`. Safe to use from several threads.

    Every method raises `AgentError`: ``store-away`` (it may answer later), ``store-denied``, ``store-refused``.
    """

    def put_file(self, file: StoredFile, path: Path, facts: os.stat_result) -> int:
        """The bytes of ``path`` are at the file's `data_key`; returns how many were sent. Also ``changed``: the file is
        not what it was when its checksum was made, after ``facts``; other bytes are never there."""
        ...

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> bool:
        """The key has these bytes. False where ``only_new`` was asked for, and it has others."""
        ...

    def read(self, key: str) -> bytes:
        """All of a small one. Also ``store-missing``."""
        ...

    def read_into(self, key: str, path: Path) -> None:
        """``path`` has all of it. Also ``store-missing``."""
        ...

    def fetch(self, file: StoredFile, path: Path) -> None:
        """``path`` has the file's bytes, compared with its checksum. Also ``store-missing`` and ``store-corrupt``."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Those that begin with it."""
        ...

    def delete(self, key: str) -> None:
        """There is no such key."""
        ...

    def close(self) -> None:
        """Nothing is held open, and nothing unfinished is left behind."""
        ...


def read_stored(store: Store, key: str, kind: type[_T]) -> _T | None:
    """What lies there; ``None`` where there is nothing, or nothing that can be read. Raises `AgentError`."""
    try:
        return from_json(kind, loads(store.read(key)))
    except AgentError as error:
        if error.code != "store-missing":
            raise
    except (ValueError, TypeError):
        pass
    return None


def open_store(
    spec: StoreSpec, run_id: str, variables: Mapping[str, str], *, tries: int = 3, timeout: float = 20.0
) -> Store:
    """The run's prefix, by whatever the machine has of rights: keys in ``variables``, else its role's.

    Raises `AgentError` (``bad-request``) for an address that is neither of S3 nor of a folder. Asks nobody.
    """
    if spec.url.startswith("/"):
        return FolderStore(on_machine(spec.url) / run_id)
    try:
        source = parse_source(spec.url)
    except ValueError as error:
        raise AgentError("bad-request", str(error)) from error
    location = location_of(variables, spec.region, spec.endpoint)
    below = Source(source.bucket, "/".join(filter(None, (source.prefix, run_id))))
    return S3Store(below, location, Credentials(variables, spec.keys_file), tries=tries, timeout=timeout)


def open_prefix(
    address: str,
    store: StoreSpec | None,
    variables: Mapping[str, str],
    *,
    tries: int = 3,
    timeout: float = 20.0,
) -> Store:
    """The prefix of a run by its own address; ``store`` says the endpoint, where the run that asks has one there."""
    url, _, run_id = address.rstrip("/").rpartition("/")
    spec = StoreSpec(url) if store is None else replace(store, url=url)
    return open_store(spec, run_id, variables, tries=tries, timeout=timeout)


def is_prefix(text: str | None) -> bool:
    """Whether what a run is to resume from is a run's prefix in a store, and not a checkpoint or a folder of some."""
    if text is None or "://" in text:
        return text is not None
    folder = on_machine(text)
    # Where this user may not look, pathlib raises.
    return os.path.isdir(folder / DATA) and any(folder.glob(CHECKPOINTS + "*-*.json"))  # noqa: PTH112


class FolderStore:
    """On a file system that is mounted here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put_file(self, file: StoredFile, path: Path, facts: os.stat_result) -> int:  # noqa: ARG002 (it is compared itself)
        """See `Store`."""
        target = self._folder / data_key(file.sha256)
        with explaining(str(self._folder)):
            if target.exists() and target.stat().st_size == file.size:
                return 0
            self._make(target.parent)
            partial = _partial(target)
            try:
                if not path.exists() or _copy(path, partial) != file.sha256:
                    raise _changed(path)
                partial.replace(target)
                durable.sync_folder(target.parent)
            finally:
                partial.unlink(missing_ok=True)
        return file.size

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> bool:
        """See `Store`."""
        target = self._folder / key
        with explaining(str(self._folder)):
            self._make(target.parent)
            partial = _partial(target)
            try:
                with partial.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                if only_new:
                    try:
                        os.link(partial, target)
                    except FileExistsError:
                        return target.read_bytes() == data
                else:
                    partial.replace(target)
                durable.sync_folder(target.parent)
            finally:
                partial.unlink(missing_ok=True)
        return True

    def read(self, key: str) -> bytes:
        """See `Store`."""
        with explaining(str(self._folder)):
            try:
                return (self._folder / key).read_bytes()
            except FileNotFoundError:
                raise _missing(key) from None

    def read_into(self, key: str, path: Path) -> None:
        """See `Store`."""
        with explaining(str(self._folder)):
            if not (self._folder / key).exists():
                raise _missing(key)
            _copy(self._folder / key, path)

    def fetch(self, file: StoredFile, path: Path) -> None:
        """See `Store`."""
        key = data_key(file.sha256)
        with explaining(str(self._folder)):
            if not (self._folder / key).exists():
                raise _missing(key)
            if _copy(self._folder / key, path) != file.sha256:
                raise _corrupt(file)

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Store`."""
        above = prefix.rpartition("/")[0]
        with explaining(str(self._folder)):
            found = [
                str((Path(folder) / name).relative_to(self._folder))
                for folder, _, names in os.walk(self._folder / above, onerror=unless_gone)
                for name in names
                if not name.startswith(".")
            ]
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def delete(self, key: str) -> None:
        """See `Store`."""
        with explaining(str(self._folder)):
            (self._folder / key).unlink(missing_ok=True)

    def close(self) -> None:
        """See `Store`."""

    def _make(self, folder: Path) -> None:
        # Its own folder above must be there: a volume that is not mounted is not to be written below.
        if not self._folder.parent.is_dir():
            raise AgentError(
                "store-away", f"there is no folder {self._folder.parent}", "create it, or mount what it is on"
            )
        folder.mkdir(parents=True, exist_ok=True)


class S3Store:
    """In a bucket."""

    def __init__(
        self, prefix: Source, location: Location, credentials: Credentials, *, tries: int, timeout: float
    ) -> None:
        self._prefix, self._credentials = prefix, credentials
        self._tries, self._timeout = tries, timeout
        self._s3 = self._at(location)
        self._lock = threading.Lock()
        self._unfinished: dict[str, str] = {}

    def put_file(self, file: StoredFile, path: Path, facts: os.stat_result) -> int:
        """See `Store`."""
        key = self.key_of(data_key(file.sha256))

        def begun(upload_id: str) -> None:
            with self._lock:
                self._unfinished[key] = upload_id

        def put(s3: S3) -> int:
            try:
                done = upload(
                    s3,
                    key,
                    path,
                    facts=facts,
                    upload_id=self._unfinished.get(key),
                    begun=begun,
                    threads=THREADS if file.size > LARGE else 1,
                    verify=False,
                )
            except FileNotFoundError:
                raise _changed(path) from None
            self._unfinished.pop(key, None)
            return done.sent

        return self.asked(put)

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> bool:
        """See `Store`."""
        crc32 = in_base64(f"{zlib.crc32(data):08x}")

        def put(s3: S3) -> bool:
            try:
                s3.put(self.key_of(key), data, crc32, only_new=only_new)
            except Refusal as refusal:
                if refusal.status != 412:
                    raise
                # An earlier try of this very request may have done it, its answer lost.
                return s3.read(self.key_of(key)) == data
            return True

        return self.asked(put)

    def read(self, key: str) -> bytes:
        """See `Store`."""
        return self.asked(lambda s3: s3.read(self.key_of(key)))

    def read_into(self, key: str, path: Path) -> None:
        """See `Store`."""
        with path.open("wb") as opened:
            self.asked(lambda s3: _received(s3, self.key_of(key), opened.fileno()))

    def fetch(self, file: StoredFile, path: Path) -> None:
        """See `Store`."""
        key = self.key_of(data_key(file.sha256))
        with path.open("wb") as opened:
            descriptor = opened.fileno()
            if file.size <= LARGE:
                found = self.asked(lambda s3: _received(s3, key, descriptor))
            else:
                os.posix_fallocate(descriptor, 0, file.size)
                spans = [(begin, min(file.size, begin + _RANGE)) for begin in range(0, file.size, _RANGE)]
                with ThreadPoolExecutor(THREADS) as pool:
                    for _ in pool.map(
                        lambda span: self.asked(lambda s3: _received_part(s3, key, descriptor, span)), spans
                    ):
                        pass
                found = ""
        if (found or sha256_of(path)) != file.sha256:
            raise _corrupt(file)

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Store`."""
        cut = len(self.key_of(""))
        return iter(self.asked(lambda s3: [found.key[cut:] for found in s3.list(self.key_of(prefix))]))

    def delete(self, key: str) -> None:
        """See `Store`."""
        self.asked(lambda s3: s3.delete(self.key_of(key)))

    def close(self) -> None:
        """See `Store`."""
        for key, upload_id in list(self._unfinished.items()):
            with suppress(AgentError):
                self._s3.abort_upload(key, upload_id)
        self._unfinished.clear()
        self._s3.close()

    def _at(self, location: Location) -> S3:
        return S3(self._prefix.bucket, location, self._credentials, tries=self._tries, timeout=self._timeout)

    def key_of(self, key: str) -> str:
        """The object's key, for a key below the prefix."""
        return f"{self._prefix.prefix}/{key}"

    def asked(self, call: Callable[[S3], _T]) -> _T:
        """What S3 says; a bucket of another region is asked there from then on. Raises what `Store` raises."""
        try:
            try:
                return call(self._s3)
            except Refusal as refusal:
                location = self._s3.location
                if not refusal.region or refusal.region == location.region:
                    raise
                self._s3.close()
                self._s3 = self._at(Location(refusal.region, location.endpoint))
                return call(self._s3)
        except Refusal as refusal:
            raise self._explained(refusal) from refusal
        except AgentError as error:
            if error.code == "s3-unreachable":
                raise AgentError("store-away", error.message, error.hint) from error
            if error.code in ("denied", "no-role"):
                raise self._denied(error.message) from error
            raise

    def _explained(self, refusal: Refusal) -> AgentError:
        if refusal.s3_code == "NoSuchKey":
            return _missing(str(self._prefix))
        if refusal.s3_code == "NoSuchBucket":
            message = f"there is no bucket {self._prefix.bucket}"
            return AgentError("store-denied", message, "create it first, in the region of the machine")
        if refusal.status in (401, 403):
            return self._denied(str(refusal))
        code = "store-away" if refusal.status >= 500 or refusal.status == 429 else "store-refused"
        return AgentError(code, f"{self._prefix} is not available: {refusal}")

    def _denied(self, why: str) -> AgentError:
        # For all runs that are kept there: each has an id of its own.
        above = Source(self._prefix.bucket, self._prefix.prefix.rpartition("/")[0])
        statements = to_write(above, partition_of(self._s3.location.region))
        return AgentError(
            "store-denied",
            f"this machine may not use {self._prefix}: {why}",
            f"add to its role: {statements}",
        )


def _received(s3: S3, key: str, descriptor: int) -> str:
    """The object is in the file; its SHA-256."""
    checksum = hashlib.sha256()

    def receiver(_: Mapping[str, str]) -> Callable[[memoryview], None]:
        nonlocal checksum
        checksum = hashlib.sha256()
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.ftruncate(descriptor, 0)

        def take(data: memoryview) -> None:
            checksum.update(data)
            _write(descriptor, data)

        return take

    s3.get(key, None, receiver)
    return checksum.hexdigest()


def _received_part(s3: S3, key: str, descriptor: int, span: tuple[int, int]) -> None:
    def receiver(_: Mapping[str, str]) -> Callable[[memoryview], None]:
        offset = span[0]

        def take(data: memoryview) -> None:
            nonlocal offset
            view = data[: max(0, span[1] - offset)]
            while view:
                written = os.pwrite(descriptor, view, offset)
                offset, view = offset + written, view[written:]

        return take

    s3.get(key, None, receiver, span=span)


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _copy(source: Path, target: Path) -> str:
    """Durably; the SHA-256 of what was copied."""
    checksum = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while True:
            data = reading.read(_BLOCK)
            if not data:
                break
            checksum.update(data)
            writing.write(data)
        writing.flush()
        os.fsync(writing.fileno())
    return checksum.hexdigest()


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")


@contextmanager
def explaining(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise AgentError(
                "store-denied", f"this machine's user may not write to {folder}: {why}"
            ) from error
        raise AgentError("store-away", f"{folder} cannot be used: {why}") from error


def _missing(key: str) -> AgentError:
    return AgentError("store-missing", f"{key} is not in the store")


def _corrupt(file: StoredFile) -> AgentError:
    return AgentError("store-corrupt", f"{file.path} does not match its manifest's checksum in the store")


def _changed(path: Path) -> AgentError:
    return AgentError("changed", f"{path.name} changed while it was copied")
