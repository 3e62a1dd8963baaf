"""Putting a file into S3: whole if it is small, else in parts at once, going on with what an earlier upload has left.

What S3 keeps afterwards has been compared with the file: by the CRC-32 of the whole, that of each part before.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Callable

from runctl._dataclasses import dataclass
from runctl.agent.cloud.checksums import MIB, Digest, check_for, in_base64, joined_crc32
from runctl.agent.cloud.http import FilePart
from runctl.agent.cloud.s3 import S3, Part, Refusal
from runctl.agent.errors import AgentError

WHOLE = 16 * MIB
"""Files up to this size go in one request."""
PART = 16 * MIB
LEAST_PART, MOST_PARTS = 5 * MIB, 10_000
"""S3's own limits ("Amazon S3 multipart upload limits"): parts of very large files are larger."""
THREADS = 8


@dataclass(frozen=True)
class Uploaded:
    """A file that is an object now, compared with it."""

    key: str
    size: int
    """Bytes."""
    crc32: str
    """Of the whole, in hexadecimal."""
    sent: int
    """Bytes that this call has sent; the others were there from an earlier one."""


def upload(
    s3: S3,
    key: str,
    file: Path,
    *,
    facts: os.stat_result | None = None,
    upload_id: str | None = None,
    begun: Callable[[str], None] = lambda _: None,
    threads: int = THREADS,
    verify: bool = True,
) -> Uploaded:
    """The file is the object ``key``, and S3 has the same checksum of it: with ``verify`` it is asked afterwards, too.

    ``facts`` are those of the file that is meant: one that has changed since does not become the object.

    ``upload_id`` is that of an upload of the same file which was interrupted: its parts are sent only if they differ.
    ``begun`` is told the id of the upload in parts before the first part is sent, to be kept for that. After an error
    the parts stay, so that a later call can go on; `S3.abort_upload` removes them.

    Raises `AgentError`: ``changed`` (the file, while it was read), ``corrupt`` (S3 has something else), ``denied`` and
    what `S3` raises.
    """
    with file.open("rb") as source:
        before = facts or os.fstat(source.fileno())
        whole = FilePart(source.fileno(), 0, before.st_size)

        def check() -> None:
            if _differs(before, os.fstat(source.fileno())):
                raise _changed(file)

        try:
            if before.st_size <= WHOLE:
                done = _put_whole(s3, key, whole, check)
            else:
                done = _InParts(s3, key, whole, upload_id, begun, threads).run(check)
        except EOFError:
            raise _changed(file) from None
        except Refusal as refusal:
            if refusal.status == 403:
                message = f"this machine's role may not write s3://{s3.bucket}/{key}: {refusal}"
                raise AgentError(
                    "denied", message, "add s3:PutObject and s3:GetObject to its role"
                ) from refusal
            if refusal.s3_code == "BadDigest" and _differs(before, file.stat()):
                raise _changed(file) from refusal
            raise
    if _differs(before, file.stat()):
        raise _changed(file)
    if verify:
        _verify(s3, done)
    return done


def _differs(before: os.stat_result, after: os.stat_result) -> bool:
    return any(getattr(before, name) != getattr(after, name) for name in ("st_mtime_ns", "st_size", "st_ino"))


def _changed(file: Path) -> AgentError:
    return AgentError(
        "changed", f"{file} changed while it was uploaded", "upload it when nobody writes to it"
    )


def _put_whole(s3: S3, key: str, data: FilePart, check: Callable[[], None]) -> Uploaded:
    crc32 = _crc32(data)
    # What is sent has this checksum, or S3 refuses it.
    check()
    s3.put(key, data, in_base64(crc32))
    return Uploaded(key, len(data), crc32, len(data))


def _verify(s3: S3, done: Uploaded) -> None:
    headers = s3.head(done.key)
    check = check_for(headers.get("etag", "").strip('"'), headers)
    size = int(headers.get("content-length", "-1"))
    if size != done.size or (check.algorithm == "crc32" and not check.parts and check.value != done.crc32):
        raise AgentError(
            "corrupt", f"s3://{s3.bucket}/{done.key} is not what was uploaded", "upload it once more"
        )
    if check.algorithm != "crc32" or check.parts:
        raise AgentError(
            "corrupt", f"S3 keeps no CRC-32 of s3://{s3.bucket}/{done.key}, so it cannot be verified"
        )


class _InParts:
    """One upload in parts."""

    def __init__(
        self,
        s3: S3,
        key: str,
        data: FilePart,
        upload_id: str | None,
        begun: Callable[[str], None],
        threads: int,
    ) -> None:
        self._s3 = s3
        self._key = key
        self._data = data
        self._upload_id = upload_id
        self._begun = begun
        self._threads = threads

    def run(self, check: Callable[[], None]) -> Uploaded:
        """``check`` raises where the file has changed: then the parts never become the object."""
        size = len(self._data)
        found = self._left()
        each = part_size(size, found)
        upload_id = self._upload_id
        if upload_id is None:
            upload_id = self._s3.begin_upload(self._key)
            self._begun(upload_id)
        there = {part.number: part for part in found}
        spans = [(begin, min(size, begin + each)) for begin in range(0, size, each)]
        with ThreadPoolExecutor(min(self._threads, len(spans))) as pool:
            jobs = [
                pool.submit(self._part, upload_id, number, span, there.get(number))
                for number, span in enumerate(spans, 1)
            ]
            try:
                done = [job.result() for job in jobs]
            except BaseException:
                for job in jobs:
                    job.cancel()
                raise
        crc32 = joined_crc32([(digest, end - begin) for (_, digest, _), (begin, end) in zip(done, spans)])
        check()
        self._complete(upload_id, [part for part, _, _ in done], crc32)
        return Uploaded(self._key, size, crc32, sum(sent for _, _, sent in done))

    def _left(self) -> list[Part]:
        """The parts of the earlier upload, if there is one that still can be gone on with."""
        if self._upload_id is None:
            return []
        try:
            return list(self._s3.parts(self._key, self._upload_id))
        except Refusal as refusal:
            if refusal.s3_code != "NoSuchUpload":
                raise
            self._upload_id = None
            return []

    def _part(
        self, upload_id: str, number: int, span: tuple[int, int], there: Part | None
    ) -> tuple[Part, str, int]:
        """The part is there; its checksum, and how many bytes were sent for that."""
        data = FilePart(self._data.descriptor, *span)
        crc32 = _crc32(data)
        if there is not None and _is_same(there, data, crc32):
            return Part(number, there.etag, len(data), in_base64(crc32)), crc32, 0
        return self._s3.put_part(self._key, upload_id, number, data, in_base64(crc32)), crc32, len(data)

    def _complete(self, upload_id: str, parts: Sequence[Part], crc32: str) -> None:
        try:
            self._s3.complete_upload(self._key, upload_id, parts, in_base64(crc32))
        except Refusal as refusal:
            if refusal.s3_code != "NoSuchUpload":
                raise
            # An answer that was lost: the upload was completed by an earlier try, and what it left is verified next.
            with suppress(Refusal):
                self._s3.head(self._key)
                return
            raise


def part_size(size: int, found: Sequence[Part]) -> int:
    """How many bytes each part has but the last: as those that are there have it, else as S3's limits want it. Pure."""
    largest = max((part.size for part in found), default=0)
    if largest >= LEAST_PART and -(-size // largest) <= MOST_PARTS:
        return largest
    return max(PART, -(-size // MOST_PARTS // MIB) * MIB)


def _crc32(data: FilePart) -> str:
    value = 0
    for piece in data.pieces():
        value = zlib.crc32(piece, value)
    return f"{value:08x}"


def _is_same(part: Part, data: FilePart, crc32: str) -> bool:
    """Whether S3's part is these bytes: by the checksum that it says, else by the ETag, which is an MD5 without KMS."""
    if part.size != len(data):
        return False
    if part.crc32:
        return part.crc32 == in_base64(crc32)
    digest = Digest("md5")
    for piece in data.pieces():
        digest.add(piece)
    return digest.hex() == part.etag
