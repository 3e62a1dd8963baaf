"""What a provider must do so that this computer can read and write objects in its object store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from runctl._dataclasses import dataclass


@dataclass(frozen=True)
class StoredObject:
    """One object."""

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True)
class ObjectVersion:
    """A small object as one answer of the store describes it."""

    data: bytes
    etag: str
    age_seconds: float
    """Since it was written, by the store's own clock; 0 where the store does not say."""


class ObjectStorage(ABC):
    """The ability to keep objects in buckets, by the account of whoever runs runctl. Safe to use from several threads.

    Errors are as in `Provider`; every method raises `NotFound` (code ``no-bucket``) where the bucket does not exist.
    """

    scheme: str
    """What addresses in it begin with, before ``://``."""

    def holds(self, bucket: str) -> bool:
        """Whether a bucket is for this account to read, as far as that is known without looking: another provider's
        store may have the same scheme."""
        del bucket
        return True

    @property
    def is_elsewhere(self) -> bool:
        """Whether the user's settings lead to somebody else's store, where the provider's prices do not count."""
        return False

    @abstractmethod
    def objects(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """Those whose keys begin with the prefix, in the order of their keys."""

    @abstractmethod
    def folders(self, bucket: str, prefix: str) -> Iterator[str]:
        """What the keys that begin with the prefix have up to the next slash, without that, each once."""

    @abstractmethod
    def read(self, bucket: str, key: str) -> bytes:
        """A small object as a whole. Raises `NotFound` (code ``no-object``)."""

    @abstractmethod
    def fetch(
        self,
        bucket: str,
        key: str,
        write: Callable[[bytes], None],
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        """Hand over the bytes from ``start`` up to ``stop`` (the end), in order.

        Raises `NotFound` (code ``no-object``), and `Unreachable` when the connection breaks: what was handed over by
        then counts.
        """

    def crc32(self, bucket: str, key: str) -> str | None:
        """That of the whole object in hexadecimal, as the store keeps it; ``None`` where it keeps none.

        Raises `NotFound` (code ``no-object``).
        """
        del bucket, key
        return None

    @abstractmethod
    def put(self, bucket: str, key: str, data: bytes, *, only_new: bool = False) -> bool:
        """The object holds this. With ``only_new`` one that exists is left alone: whether the object holds this."""

    @abstractmethod
    def version(self, bucket: str, key: str) -> ObjectVersion | None:
        """The object as it is now; ``None`` where there is none."""

    @abstractmethod
    def replace(self, bucket: str, key: str, data: bytes, etag: str) -> str | None:
        """The object holds this, and has the ETag that is returned, if it was the one with ``etag`` until now (``""``:
        if there was none); else ``None``, also where an answer to the same request was lost.

        A store that knows no conditional writes ignores ``etag`` or refuses.
        """

    @abstractmethod
    def upload(self, bucket: str, key: str, path: Path, on_bytes: Callable[[int], None]) -> None:
        """The object holds what the file holds, by a checksum as well; ``on_bytes`` hears how many more have gone."""

    @abstractmethod
    def delete(self, bucket: str, key: str) -> None:
        """The object is gone; one that does not exist is fine."""
