"""A run's prefix in a store: which key holds what, what a manifest says, and what pruning may remove. Pure.

``URL/RUN_ID/`` holds ``data/SHA256`` (a file's bytes, written once), ``checkpoints/AAAA-NNNNNN.json`` (attempt, number
within it; written after all of its data, and never changed: the newest is the one with the greatest name),
``attempts/AAAA/log/OFFSET`` and ``attempts/AAAA/end.json``. Of a run on several machines these are rank 0's; the others
have the same below ``attempts/AAAA/nodes/RRRR/``.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Optional

from runctl._dataclasses import dataclass
from runctl.agent.encoding import dumps, from_json, loads

FORMAT = 1
DATA, CHECKPOINTS, ATTEMPTS = "data/", "checkpoints/", "attempts/"
WHOLE_FOLDER = "."
"""The name of a checkpoint that a script has saved into the run's checkpoint folder itself."""
_MANIFEST = re.compile(r"checkpoints/(\d{4,})-(\d{6,})\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOG = re.compile(r"attempts/\d{4,}/(?:nodes/\d{4,}/)?log/(\d{12,})")
_END = re.compile(r"attempts/\d{4,}/end\.json")


@dataclass(frozen=True)
class StoredFile:
    """One file of a checkpoint."""

    path: str
    """From the run's checkpoint folder, with forward slashes."""
    size: int
    """Bytes."""
    sha256: str
    """In hexadecimal; its bytes are at `data_key` of it."""
    mode: int = 0o644


@dataclass(frozen=True)
class Manifest:
    """A checkpoint that is in the store as a whole."""

    run_id: str
    attempt: int
    number: int
    """Within the attempt, from 1."""
    name: str
    """What ``RUNCTL_RESUME_FROM`` names of it: a file or a folder, from the run's checkpoint folder; ``.`` is that."""
    created_at: float
    """When its last file was written, in seconds since the epoch by the clock of its machine."""
    files: tuple[StoredFile, ...]
    step: Optional[int] = None
    format: int = FORMAT

    @property
    def key(self) -> str:
        """Below the run's prefix."""
        return manifest_key(self.attempt, self.number)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files)


def manifest_key(attempt: int, number: int) -> str:
    """Of the checkpoint with this number of this attempt."""
    return f"{manifest_prefix(attempt)}{number:06}.json"


def manifest_prefix(attempt: int) -> str:
    """Of all checkpoints of an attempt."""
    return f"{CHECKPOINTS}{attempt:04}-"


def parse_manifest_key(key: str) -> tuple[int, int] | None:
    """Attempt and number; ``None`` for a key of something else."""
    match = _MANIFEST.fullmatch(key)
    return (int(match.group(1)), int(match.group(2))) if match else None


def newest_first(keys: Iterable[str]) -> list[str]:
    """The keys that are manifests'."""
    found = [(number, key) for key in keys if (number := parse_manifest_key(key)) is not None]
    return [key for _, key in sorted(found, reverse=True)]


def data_key(sha256: str) -> str:
    """Where a file's bytes are."""
    return DATA + sha256


def log_key(attempt: int, offset: int, rank: int = 0) -> str:
    """The piece of an attempt's log, on the machine of that rank, that begins at this offset."""
    return f"{log_prefix(attempt, rank)}{offset:012}"


def log_prefix(attempt: int, rank: int = 0) -> str:
    """Of all pieces of that log."""
    return f"{_attempt(attempt, rank)}log/"


def log_offset(key: str) -> int | None:
    """Where a piece begins; ``None`` for a key of something else."""
    match = _LOG.fullmatch(key)
    return int(match.group(1)) if match else None


def end_key(attempt: int, rank: int = 0) -> str:
    """How the attempt ended, on the machine of that rank."""
    return f"{_attempt(attempt, rank)}end.json"


def is_end_key(key: str) -> bool:
    """Whether it is the end of an attempt: of its only machine, or of rank 0's."""
    return _END.fullmatch(key) is not None


def _attempt(attempt: int, rank: int) -> str:
    return f"{ATTEMPTS}{attempt:04}/" + (f"nodes/{rank:04}/" if rank else "")


def encode(manifest: Manifest) -> bytes:
    """As it is stored."""
    return dumps(manifest).encode() + b"\n"


def decode(data: bytes) -> Manifest:
    """Raises `ValueError` for what is not a manifest, or names a file outside of the checkpoint folder."""
    found: Any = loads(data)
    if not isinstance(found, Mapping):
        raise ValueError("it is not a JSON object")
    if found.get("format") != FORMAT:
        raise ValueError(f"its format is {found.get('format')!r}, not {FORMAT}")
    manifest: Manifest = from_json(Manifest, found)
    names = [] if manifest.name == WHOLE_FOLDER else [manifest.name]
    for path in (*names, *(file.path for file in manifest.files)):
        if not is_inside(path):
            raise ValueError(f"{path!r} is not a path inside the checkpoint folder")
    for file in manifest.files:
        if not _SHA256.fullmatch(file.sha256):
            raise ValueError(f"{file.sha256!r} is not a SHA-256")
    if not manifest.files:
        raise ValueError("it names no file")
    return manifest


def is_inside(path: str) -> bool:
    """Whether a path with forward slashes stays below the folder that it is joined to."""
    parts = PurePosixPath(path).parts
    return bool(parts) and path == "/".join(parts) and not {"..", "/", "."} & set(parts) and "\0" not in path


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns (as a shell's, ``*`` also across folders) fits a checkpoint's name or path."""
    last = PurePosixPath(name).name
    return any(fnmatch.fnmatchcase(name, each) or fnmatch.fnmatchcase(last, each) for each in patterns)


def to_prune(
    manifests: Sequence[Manifest], keep_last: int | None, keep_best: Sequence[str] = ()
) -> list[Manifest]:
    """The checkpoints that are not to be kept, oldest first; the newest always is. ``None`` keeps all.

    Of those that ``keep_best`` fits the newest of each name stay.
    """
    if keep_last is None:
        return []
    ordered = sorted(manifests, key=lambda each: (each.attempt, each.number))
    kept = {each.key for each in ordered[-max(1, keep_last) :]}
    kept |= {
        each.key for each in {each.name: each for each in ordered if matches(each.name, keep_best)}.values()
    }
    return [each for each in ordered if each.key not in kept]


def unused_data(keys: Iterable[str], kept: Iterable[Manifest]) -> list[str]:
    """Of the keys of data those that none of these manifests names."""
    named = {data_key(file.sha256) for manifest in kept for file in manifest.files}
    return sorted(key for key in keys if key.startswith(DATA) and key not in named)
