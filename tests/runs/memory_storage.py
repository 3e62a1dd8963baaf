"""A store of objects in memory, by S3's rules."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from runctl.core.errors import NotFound
from runctl.providers.abilities.object_storage import ObjectStorage, ObjectVersion, StoredObject


@dataclass
class MemoryStorage(ObjectStorage):
    """One that may be of the kind which knows no conditional writes."""

    scheme = "s3"
    knows_conditions: bool = True
    keeps_checksums: bool = True
    data: dict[str, bytes] = field(default_factory=dict)

    def objects(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        for key in sorted(key for key in self.data if key.startswith(prefix)):
            yield StoredObject(key, len(self.data[key]), datetime.now(UTC))

    def folders(self, bucket: str, prefix: str) -> Iterator[str]:
        below = {key[len(prefix) :].partition("/") for key in self.data if key.startswith(prefix)}
        return iter(sorted({prefix + name for name, slash, _ in below if slash}))

    def read(self, bucket: str, key: str) -> bytes:
        if key not in self.data:
            raise NotFound(f"s3://{bucket}/{key} does not exist", code="no-object")
        return self.data[key]

    def fetch(
        self,
        bucket: str,
        key: str,
        write: Callable[[bytes], None],
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        write(self.read(bucket, key)[start:stop])

    def crc32(self, bucket: str, key: str) -> str | None:
        return f"{zlib.crc32(self.read(bucket, key)):08x}" if self.keeps_checksums else None

    def put(self, bucket: str, key: str, data: bytes, *, only_new: bool = False) -> bool:
        if only_new and key in self.data:
            return self.data[key] == data
        self.data[key] = data
        return True

    def version(self, bucket: str, key: str) -> ObjectVersion | None:
        found = self.data.get(key)
        return ObjectVersion(found, _etag(found), 0.0) if found is not None else None

    def replace(self, bucket: str, key: str, data: bytes, etag: str) -> str | None:
        found = self.data.get(key)
        if self.knows_conditions and (_etag(found) if found is not None else "") != etag:
            return None
        self.data[key] = data
        return _etag(data)

    def upload(self, bucket: str, key: str, path: Path, on_bytes: Callable[[int], None]) -> None:
        self.data[key] = path.read_bytes()
        on_bytes(len(self.data[key]))

    def delete(self, bucket: str, key: str) -> None:
        self.data.pop(key, None)


def _etag(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()
