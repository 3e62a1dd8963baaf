"""Small files of each format, as their libraries write them."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

NOW = 1_000_000.0


def archive(payload: bytes = b"x" * 2000) -> bytes:
    """As ``torch.save`` and ``numpy.savez`` write: members that are not compressed."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("archive/data.pkl", payload)
        file.writestr("archive/version", b"3")
    return sink.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 16


def hdf5(size: int = 200) -> bytes:
    head = b"\x89HDF\r\n\x1a\n" + bytes([2, 8, 8, 0]) + struct.pack("<QQQ", 0, 2**64 - 1, size)
    return head.ljust(size, b"\0")


def npy() -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\1" * 24


def pickled() -> bytes:
    """Its payload has STOP's byte everywhere, so that not every cut shows at the end alone."""
    return pickle.dumps({"step": 3, "weights": b"." * 300}, protocol=4)


WHOLE: dict[str, Callable[[], bytes]] = {
    ".pt": archive,
    ".ckpt": archive,
    ".npz": archive,
    ".safetensors": safetensors,
    ".h5": hdf5,
    ".npy": npy,
    ".pkl": pickled,
    ".json": lambda: b'{"step": 3}',
}
"""By suffix, a whole file of each format that says itself whether it is complete."""


def put(folder: Path, name: str, data: bytes, age: float = 100.0) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (NOW - age, NOW - age))
    return path
