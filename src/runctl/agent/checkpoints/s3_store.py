"""A run's prefix in an S3-compatible store."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Callable, TypeVar

from runctl.agent.checkpoints.folders import sha256_of
from runctl.agent.checkpoints.layout import StoredFile, data_key
from runctl.agent.checkpoints.store_files import LARGE, THREADS, changed, corrupt, missing
from runctl.agent.cloud.checksums import MIB, in_base64
from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.s3 import S3, Location, Refusal
from runctl.agent.cloud.uploads import upload
from runctl.agent.errors import AgentError
from runctl.agent.object_store import Source, partition_of, to_write

_T = TypeVar("_T")

_RANGE = 16 * MIB


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
                raise changed(path) from None
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
            raise corrupt(file)

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
            return missing(str(self._prefix))
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
