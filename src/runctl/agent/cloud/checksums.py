"""What proves that a file is the object: its size, and where S3 has one that this can compute, its checksum."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIB = 1 << 20
LIKELY_PARTS = (8, 5, 16, 50, 64, 10, 15, 25, 32, 100, 128, 256, 512)
"""MiB: what the AWS CLI, SDKs, s5cmd and rclone use."""
_PLAIN = re.compile(r"[0-9a-f]{32}")
_PARTS = re.compile(r"([0-9a-f]{32})-([1-9][0-9]*)")
_KMS = "aws:kms"


@dataclass(frozen=True)
class Check:
    """A checksum that the whole file must have."""

    kind: str
    """``md5`` (the ETag of an object put in one piece), ``etag`` (of one put in parts), ``sha256``, ``sha1``,
    ``crc32``, or ``size`` where S3 has nothing that can be computed here."""
    value: str = ""
    """In hexadecimal; for ``etag`` with the number of parts."""


def parts_of(etag: str) -> int:
    """In how many parts the object was put; 1 for one piece, 0 where the ETag does not say."""
    match = _PARTS.fullmatch(etag)
    if match:
        return int(match.group(2))
    return 1 if _PLAIN.fullmatch(etag) else 0


def check_for(etag: str, headers: Mapping[str, str]) -> Check:
    """The best proof for an object, by its ETag and the headers (lower case) that came with it. Pure.

    An ETag is no checksum where a key of KMS or the customer's encrypts the object (S3's API reference, "Object").
    """
    encrypted = headers.get("x-amz-server-side-encryption", "").startswith(_KMS) or any(
        name.startswith("x-amz-server-side-encryption-customer") for name in headers
    )
    if not encrypted and _PLAIN.fullmatch(etag):
        return Check("md5", etag)
    if not encrypted and _PARTS.fullmatch(etag):
        return Check("etag", etag)
    if headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT":
        for name in ("sha256", "sha1", "crc32"):
            given = headers.get("x-amz-checksum-" + name, "")
            if given and "-" not in given:
                return Check(name, base64.b64decode(given).hex())
    return Check("size")


def likely_part_sizes(size: int, parts: int) -> list[int]:
    """Part sizes in bytes with which an object of that size has that many parts, the likeliest first. Pure."""
    sizes = [mib * MIB for mib in LIKELY_PARTS]
    smallest = -(-size // parts)
    sizes.append(-(-smallest // MIB) * MIB)
    sizes.append(smallest)
    fitting = [each for each in sizes if each and -(-size // each) == parts]
    return list(dict.fromkeys(fitting))


def etag_of_parts(digests: Sequence[bytes]) -> str:
    """The ETag of an object put in parts with these MD5s."""
    return "{}-{}".format(hashlib.md5(b"".join(digests)).hexdigest(), len(digests))  # noqa: S324 (S3's own choice)


class Digest:
    """The checksum of bytes that come one after the other."""

    def __init__(self, kind: str) -> None:
        self._crc: int | None = 0 if kind == "crc32" else None
        self._hash = None if kind in ("crc32", "size") else hashlib.new(kind)

    def add(self, data: object) -> None:
        """The next bytes."""
        if self._hash is not None:
            self._hash.update(data)  # type: ignore[arg-type]
        elif self._crc is not None:
            self._crc = zlib.crc32(data, self._crc)  # type: ignore[arg-type]

    def hex(self) -> str:
        """Of all so far; empty for ``size``."""
        if self._hash is not None:
            return self._hash.hexdigest()
        return "" if self._crc is None else f"{self._crc:08x}"
