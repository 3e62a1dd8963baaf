"""Whether one file of a checkpoint was written to its end, by its format. Standard library only; nothing is loaded."""

from __future__ import annotations

import ast
import json
import re
import stat
import struct
import zipfile
from pathlib import Path

QUIET_SECONDS = 2.0
"""A file of a kind whose end proves little counts when nobody has written to it for so long."""
ZIPS = (".pt", ".pth", ".ckpt", ".npz", ".keras", ".zip")
PICKLES = (".pkl", ".pickle", ".joblib")
_ALWAYS_ZIPS = (".npz", ".keras", ".zip")
_LEAST_ZIP = 22
"""Bytes of an archive's end alone ("end of central directory record" in the zip specification)."""
_LOCAL_HEADER = 30
"""Bytes of what stands before each member."""
_LARGEST_HEADER = 100 << 20
"""Bytes: safetensors' own limit."""
_HDF5 = b"\x89HDF\r\n\x1a\n"
_NPY = b"\x93NUMPY"
_FRAME = 0x95
"""The pickle opcode that 8 bytes of length follow."""
WRITING = "it is still being written"


def broken_file(path: Path, now: float, *, may_be_empty: bool = False) -> str:
    """Why a file does not count, in words; empty when it is complete. ``now`` in seconds since the epoch.

    Raises `OSError`, and what its parser raises for a header that makes no sense: see `folders.incomplete`.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        return "it is not a file"
    size = facts.st_size
    if size == 0:
        return "" if may_be_empty else "it is empty"
    with path.open("rb") as file:
        head = file.read(16)
    suffix = path.suffix.lower()
    # PyTorch's older files are pickles one after the other, and have no end of their own.
    always = suffix in _ALWAYS_ZIPS or (suffix in ZIPS and size < _LEAST_ZIP)
    if head[:2] == b"PK" or always:
        return _broken_zip(path, size)
    if suffix == ".safetensors":
        return _broken_safetensors(path, size)
    if head.startswith(_HDF5) or suffix in (".h5", ".hdf5"):
        if not head.startswith(_HDF5):
            return "its header is not complete"
        return _broken_hdf5(path, size)
    if head.startswith(_NPY) or suffix == ".npy":
        return _broken_npy(path, size)
    if suffix == ".json":
        json.loads(path.read_bytes())
        return ""
    why = _broken_pickle(path, head, size) if suffix in PICKLES else ""
    age = now - facts.st_mtime
    # A clock that was set back makes files of the future: they are quiet, too.
    return why or (WRITING if 0 <= age < QUIET_SECONDS else "")


def _broken_zip(path: Path, size: int) -> str:
    """PyTorch's files are archives: their directory stands at the end, and is written last."""
    try:
        with zipfile.ZipFile(path) as archive:
            members, directory, comment = archive.infolist(), archive.start_dir, archive.comment
    except zipfile.BadZipFile:
        return "its zip directory is missing: it was not written completely"
    if not members:
        return "its archive holds nothing"
    with path.open("rb") as file:
        file.seek(-_LEAST_ZIP - len(comment), 2)
        # Python also takes a directory that bytes follow: an older file's, under one that is being written.
        if file.read(4) != b"PK\x05\x06":
            return "bytes follow its zip directory: it was not written completely"
        for member in members:
            file.seek(member.header_offset)
            begins = file.read(4) == b"PK\x03\x04"
            if not begins or member.header_offset + _LOCAL_HEADER + member.compress_size > directory:
                return f"its zip directory names {member.filename}, which is not where it says"
    return "" if directory < size else "its zip directory is not complete"


def _broken_safetensors(path: Path, size: int) -> str:
    """Its header (JSON after 8 bytes of length) says where the last tensor ends."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, _LARGEST_HEADER):
            return "its header is not complete"
        header = json.loads(file.read(length))
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    return _of_size(size, 8 + length + max(ends, default=0))


def _broken_hdf5(path: Path, size: int) -> str:
    """The superblock holds the address at which the file ends (versions 0 to 3)."""
    with path.open("rb") as file:
        block = file.read(96)
    version = block[8]
    width = block[13] if version < 2 else block[9]
    at = (24 if version == 0 else 28) + 2 * width if version < 2 else 12 + 2 * width
    if width not in (4, 8) or len(block) < at + width:
        return "its header is not complete"
    end = int.from_bytes(block[at : at + width], "little")
    return "" if size >= end else f"it has {size} bytes, and its header says {end}"


def _broken_npy(path: Path, size: int) -> str:
    """The header says the shape and the kind of the numbers (NumPy's format, versions 1 to 3)."""
    with path.open("rb") as file:
        start = file.read(12)
        wide = len(start) == 12 and start[6] > 1
        begins = 12 if wide else 10
        if not start.startswith(_NPY) or len(start) < begins:
            return "its header is not complete"
        length = int.from_bytes(start[8:begins], "little")
        file.seek(begins)
        text = file.read(min(length, size))
    if len(text) < length:
        return "its header is not complete"
    header = ast.literal_eval(text.decode("latin-1").strip())
    kind = re.fullmatch(r"[<>|=]?[biufcSV?](\d+)", str(header["descr"]))
    if kind is None:
        # Structures and Python's own objects: their size is not in the header.
        return ""
    expected = int(kind.group(1))
    for extent in header["shape"]:
        expected *= int(extent)
    return _of_size(size, begins + length + expected)


def _broken_pickle(path: Path, head: bytes, size: int) -> str:
    """A pickle ends with STOP. From protocol 4 on its first frame says how long it is at least."""
    with path.open("rb") as file:
        file.seek(-1, 2)
        last = file.read(1)
    if head[:1] == b"\x80" and head[1:2] >= b"\x04" and len(head) >= 11 and head[2] == _FRAME:
        framed = 11 + int.from_bytes(head[3:11], "little")
        if framed > size:
            return f"it has {size} bytes, and its first frame says {framed}"
    compressed = head[:2] == b"\x1f\x8b" or head[:1] in (b"x", b"B", b"\xfd", b"\x04")
    if last != b"." and not compressed:
        return "it does not end as a pickle does: it was not written completely"
    return ""


def _of_size(size: int, expected: int) -> str:
    return "" if size == expected else f"it has {size} bytes, and its header says {expected}"
