"""Where a run's lease is: an object of its prefix in S3, or a file in its folder, each replaced only if unchanged."""

from __future__ import annotations

import fcntl
import hashlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints.folder_store import FolderStore, explaining
from runctl.agent.checkpoints.s3_store import S3Store
from runctl.agent.checkpoints.stores import open_store
from runctl.agent.cloud.checksums import in_base64
from runctl.agent.cloud.s3 import S3, Refusal
from runctl.agent.errors import AgentError
from runctl.agent.lease import KEY, Found, Lease, LeaseStore, age_of, decode
from runctl.agent.machine.root import on_machine

TRIES, TIMEOUT = 2, 5.0
"""The holder asks again itself, and knows how long it may."""


def open_lease(spec: StoreSpec, run_id: str, variables: Mapping[str, str]) -> LeaseStore:
    """The run's lease. Its methods raise what `stores.Store` raises, and `AgentError` (``store-corrupt``)."""
    if spec.url.startswith("/"):
        return FolderLease(on_machine(spec.url) / run_id)
    store = open_store(spec, run_id, variables, tries=TRIES, timeout=TIMEOUT)
    assert isinstance(store, S3Store)  # noqa: S101 (there are these two)
    return S3Lease(store)


class S3Lease:
    """An object, by ``If-Match`` and ``If-None-Match`` (PutObject in S3's reference)."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def read(self) -> Found:
        """See `LeaseStore`."""
        try:
            data, headers = self._store.asked(lambda s3: s3.read_with_headers(self._store.key_of(KEY)))
        except AgentError as error:
            if error.code == "store-missing":
                return Found()
            raise
        return Found(_decoded(data), headers.get("etag", "").strip('"'), age_of(headers))

    def write(self, data: bytes, etag: str) -> str | None:
        """See `LeaseStore`."""
        crc32 = in_base64(f"{zlib.crc32(data):08x}")

        def put(s3: S3) -> str | None:
            try:
                return s3.put(self._store.key_of(KEY), data, crc32, only_new=not etag, etag=etag)
            except Refusal as refusal:
                if refusal.status in (409, 412) or (etag and refusal.s3_code == "NoSuchKey"):
                    return None
                raise

        return self._store.asked(put)

    def close(self) -> None:
        """See `LeaseStore`."""
        self._store.close()


class FolderLease:
    """A file, by a lock (``flock``) that every writer takes; its age by the file system's own clock."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / KEY

    def read(self) -> Found:
        """See `LeaseStore`."""
        with explaining(str(self._folder)):
            try:
                with self._path.open("rb") as file:
                    data, written = file.read(), os.fstat(file.fileno()).st_mtime
            except FileNotFoundError:
                return Found()
            # Threads, and other machines that share the folder, ask at the same time.
            probe = self._folder / f".{KEY}.{os.urandom(8).hex()}"
            try:
                probe.write_bytes(b"")
                now = probe.stat().st_mtime
            finally:
                probe.unlink(missing_ok=True)
        return Found(_decoded(data), _etag(data), max(0.0, now - written))

    def write(self, data: bytes, etag: str) -> str | None:
        """See `LeaseStore`."""
        with explaining(str(self._folder)):
            self._folder.mkdir(exist_ok=True)
            with (self._folder / f".{KEY}.lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                before = self._path.read_bytes() if self._path.exists() else b""
                if (_etag(before) if before else "") != etag:
                    return None
                FolderStore(self._folder).put(KEY, data)
        return _etag(data)

    def close(self) -> None:
        """See `LeaseStore`."""


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _decoded(data: bytes) -> Lease:
    try:
        return decode(data)
    except ValueError as error:
        raise AgentError("store-corrupt", f"{KEY} in the store is not a lease: {error}") from error
