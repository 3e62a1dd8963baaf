"""What proves that a file is the object: its size, and where S3 has one that this can compute, a checksum.

CRC-32 comes first, as zlib computes it at 7 GB/s where MD5 has 0.9 and SHA-256 2 (measured on one core of a Xeon of
2023), and SDKs have S3 keep it by default. S3's other default, CRC-64/NVME, is not for a program of the standard
library alone: in Python it takes a hundred times as long as MD5, so the ETag's MD5 stands in for it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence

from runctl._dataclasses import dataclass

MIB = 1 << 20
LIKELY_PARTS = (8, 5, 16, 50, 64, 10, 15, 25, 32, 100, 128, 256, 512)
"""MiB: what the AWS CLI, SDKs, s5cmd and rclone use."""
ALGORITHMS = ("crc32", "sha1", "sha256")
"""Of S3's, those that can be computed here, the quickest first; before ``md5``, which ETags are made of."""
_PLAIN = re.compile(r"[0-9a-f]{32}")
_PARTS = re.compile(r"([0-9a-f]{32})-([1-9][0-9]*)")
_COMPOSITE = re.compile(r"([A-Za-z0-9+/]+=*)-([1-9][0-9]*)")
_KMS = "aws:kms"


@dataclass(frozen=True)
class Check:
    """A checksum that the whole file must have."""

    algorithm: str
    """``crc32``, ``sha1``, ``sha256``, ``md5``; ``size`` where S3 has nothing that can be computed here."""
    value: str = ""
    """In hexadecimal."""
    parts: int = 0
    """If not 0, ``value`` is the checksum of the checksums of so many parts, one after the other."""

    @property
    def name(self) -> str:
        """For a person and the record: ``md5`` of a whole object is ``md5``, of one put in parts its ``etag``."""
        return "etag" if self.algorithm == "md5" and self.parts else self.algorithm


SIZE = Check("size")


def parts_of(etag: str) -> int:
    """In how many parts the object was put; 1 for one piece, 0 where the ETag does not say."""
    match = _PARTS.fullmatch(etag)
    if match:
        return int(match.group(2))
    return 1 if _PLAIN.fullmatch(etag) else 0


def check_for(etag: str, headers: Mapping[str, str]) -> Check:
    """The quickest proof for an object, by its ETag and the headers (lower case) that came with it. Pure.

    An ETag is not a checksum where a key of KMS or the customer's encrypts the object (S3's API reference, "Object").
    """
    # Of an object in one piece every checksum is that of the whole, whether S3 says so or not.
    without_type = "" if parts_of(etag) > 1 else "FULL_OBJECT"
    for algorithm in ALGORITHMS:
        given = headers.get("x-amz-checksum-" + algorithm, "")
        composite = _COMPOSITE.fullmatch(given)
        if composite:
            return Check(algorithm, _hexadecimal(composite.group(1)), int(composite.group(2)))
        if given and headers.get("x-amz-checksum-type", without_type) == "FULL_OBJECT":
            return Check(algorithm, _hexadecimal(given))
    encrypted = headers.get("x-amz-server-side-encryption", "").startswith(_KMS) or any(
        name.startswith("x-amz-server-side-encryption-customer") for name in headers
    )
    if not encrypted and _PLAIN.fullmatch(etag):
        return Check("md5", etag)
    parts = _PARTS.fullmatch(etag)
    if not encrypted and parts:
        return Check("md5", parts.group(1), int(parts.group(2)))
    return SIZE


def _hexadecimal(given: str) -> str:
    return base64.b64decode(given).hex()


def likely_part_sizes(size: int, parts: int) -> list[int]:
    """Part sizes in bytes with which an object of that size has that many parts, the likeliest first. Pure."""
    sizes = [mib * MIB for mib in LIKELY_PARTS]
    smallest = -(-size // parts)
    sizes.append(-(-smallest // MIB) * MIB)
    sizes.append(smallest)
    fitting = [each for each in sizes if each and -(-size // each) == parts]
    return list(dict.fromkeys(fitting))


class Digest:
    """The checksum of bytes that come one after the other."""

    def __init__(self, algorithm: str) -> None:
        self._crc: int | None = 0 if algorithm == "crc32" else None
        self._hash = None if algorithm in ("crc32", "size") else hashlib.new(algorithm)

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """The next bytes."""
        if self._crc is not None:
            self._crc = zlib.crc32(data, self._crc)
        elif self._hash is not None:
            self._hash.update(data)

    def hex(self) -> str:
        """Of all so far; empty for ``size``."""
        if self._crc is not None:
            return f"{self._crc:08x}"
        return "" if self._hash is None else self._hash.hexdigest()


def of_parts(algorithm: str, digests: Sequence[str]) -> str:
    """The checksum of the parts' checksums, as S3 makes a composite one, and the ETag of an object put in parts."""
    digest = Digest(algorithm)
    for each in digests:
        digest.add(bytes.fromhex(each))
    return digest.hex()


def joined_crc32(stretches: Sequence[tuple[str, int]]) -> str:
    """The CRC-32 of a whole, by the CRC-32 and the length in bytes of each stretch of it. Pure."""
    whole = 0
    for digest, length in stretches:
        whole = _followed_by_zeros(whole, length) ^ int(digest, 16)
    return f"{whole:08x}"


def proves(check: Check, algorithm: str, stretches: Sequence[tuple[str, int]]) -> bool:
    """Whether the checksums and lengths of an object's pieces, all of them in their order, show that it is whole. Pure.

    False also where they cannot show it: they are of another algorithm, or not of the object's own parts.
    """
    if algorithm != check.algorithm or not check.value:
        return False
    if check.parts:
        return (
            len(stretches) == check.parts
            and of_parts(algorithm, [each for each, _ in stretches]) == check.value
        )
    if algorithm == "crc32":
        return joined_crc32(stretches) == check.value
    return len(stretches) == 1 and stretches[0][0] == check.value


def in_base64(hexadecimal: str) -> str:
    """As S3 writes it in a header."""
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


_POLYNOMIAL = 0xEDB88320


def _followed_by_zeros(crc: int, length: int) -> int:
    """The CRC-32 register after so many zero bytes more: a multiplication by x**(8 * length), modulo the polynomial."""
    factor, square = 1 << 31, _BYTE
    while length:
        if length & 1:
            factor = _product(factor, square)
        square = _product(square, square)
        length >>= 1
    return _product(crc, factor)


def _product(left: int, right: int) -> int:
    """Of two polynomials over GF(2), their bits reversed as CRC-32 has them."""
    result = 0
    for bit in range(31, -1, -1):
        if left >> bit & 1:
            result ^= right
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
    return result


_BYTE = 1 << 23
"""x**8."""
