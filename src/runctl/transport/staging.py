"""Where large pieces are left between us and a machine that can only be sent commands."""

from __future__ import annotations

from typing import BinaryIO, Protocol


class Staging(Protocol):
    """Objects under keys of our choice, which the machine reads and writes by presigned URL: it needs no rights.

    The URLs sign no header but ``Host`` (S3's Signature Version 4) and hold for at least half an hour; the machine
    must be able to resolve and reach them. Any method may raise a `RunctlError` of the store's own; a bucket, if
    there is none yet, is the store's business.
    """

    def put_url(self, key: str) -> str:
        """Where the machine may PUT the object."""
        ...

    def get_url(self, key: str) -> str:
        """Where the machine may GET the object."""
        ...

    def write(self, key: str, source: BinaryIO) -> None:
        """The object holds what ``source`` had left."""
        ...

    def read(self, key: str, sink: BinaryIO) -> None:
        """Write the object's bytes to ``sink``."""
        ...

    def delete(self, key: str) -> None:
        """The object is deleted; one that does not exist is fine."""
        ...
