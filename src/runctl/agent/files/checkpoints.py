"""Which checkpoint a run goes on from: the newest that is complete. Standard library only; nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import stat
import struct
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

QUIET_SECONDS = 2.0
"""A file of a kind that cannot be checked counts when nobody has written to it for so long."""
DEPTH = 6
"""How far below the folder checkpoints are looked for."""
MANIFESTS = ("manifest.json", "checksums.json", "SHA256SUMS")
"""In a folder: SHA-256 by file, as JSON (``{"files": {...}}`` or the object itself), or as sha256sum writes it."""
ZIPS = (".pt", ".pth", ".ckpt", ".npz", ".keras", ".zip")
_LEAST_ZIP = 22
"""Bytes of an archive's end alone."""
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TEMPORARY = re.compile(
    r"(^\.)|(~$)|(^tmp)|(\.(tmp|temp|part|partial|incomplete|lock|swp)([._-].*)?$)|(_tmp$)", re.I
)
_STEP = re.compile(r"(^|[-_.=])(checkpoint|ckpt|step|global_?step|epoch|iter)[-_.=]?\d+", re.I)
_CHECKPOINT_FILES = frozenset(
    (
        *("trainer_state.json", ".metadata", "_CHECKPOINT_METADATA", "_METADATA", "model.safetensors"),
        *("pytorch_model.bin", "adapter_model.safetensors", "optimizer.pt", "saved_model.pb", *MANIFESTS),
    )
)
"""A folder with one of these files is one checkpoint, and not a folder of several."""


@dataclass(frozen=True)
class Checkpoint:
    """A file, or a folder whose files belong together."""

    path: Path
    changed_ns: int
    """The newest of its files."""
    why_not: str = ""
    """In words; empty when it is complete."""


@dataclass(frozen=True)
class Choice:
    """What was found."""

    chosen: Path | None
    passed_over: tuple[Checkpoint, ...] = ()
    """Those that are newer, and not complete."""


def newest(folder: Path, now: float | None = None) -> Choice:
    """The newest complete checkpoint in a folder; a file is judged by itself. Of several of one moment, the one whose
    numbers are the highest."""
    moment = time.time() if now is None else now
    found = sorted(
        candidates(folder),
        key=lambda checkpoint: (checkpoint.changed_ns, _by_number(checkpoint.path.name)),
        reverse=True,
    )
    passed_over: list[Checkpoint] = []
    for checkpoint in found:
        why_not = incomplete(checkpoint.path, moment)
        if not why_not:
            return Choice(checkpoint.path, tuple(passed_over))
        passed_over.append(Checkpoint(checkpoint.path, checkpoint.changed_ns, why_not))
    return Choice(None, tuple(passed_over))


def candidates(folder: Path) -> list[Checkpoint]:
    """Everything that may be a checkpoint, without a look inside. Links lead to what counts itself, or out."""
    if folder.is_file():
        return [Checkpoint(folder, folder.stat().st_mtime_ns)]
    if folder.is_dir() and _is_checkpoint(folder, _names(folder)):
        return [_whole(folder)]
    return list(_below(folder, DEPTH))


def incomplete(path: Path, now: float) -> str:
    """Why a checkpoint does not count, in words; empty when it does. Never raises `OSError`."""
    try:
        if not path.is_dir():
            return _broken_file(path, now)
        files = _files(path)
        if not files:
            return "it is empty"
        unfinished = [
            file for file in files if _TEMPORARY.search(file.name) and file.name not in _CHECKPOINT_FILES
        ]
        if unfinished:
            return f"{unfinished[0].name} is still being written"
        for name in MANIFESTS:
            why = _against_manifest(path, path / name) if (path / name).is_file() else ""
            if why:
                return why
        missing = _missing_shard(path)
        if missing:
            return missing
        # A folder is not renamed file by file: its last file tells when it was finished.
        for file in files:
            why = _broken_file(file, now, may_be_empty=file.suffix in (".txt", ".lock", "", ".py"))
            if why:
                return f"{file.relative_to(path)}: {why}"
    except (OSError, struct.error, zipfile.BadZipFile) as error:
        return str(error)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "what it says of itself cannot be read"
    return ""


def described(choice: Choice, folder: Path) -> list[str]:
    """What was passed over, one line each, for the log."""
    lines = []
    for checkpoint in choice.passed_over[:3]:
        name = checkpoint.path.name if checkpoint.path == folder else str(checkpoint.path.relative_to(folder))
        lines.append(f"{name} is not complete: {checkpoint.why_not}")
    if len(choice.passed_over) > 3:
        lines.append(f"and {len(choice.passed_over) - 3} more are not")
    return lines


def arguments(template: Sequence[str], checkpoint: str) -> tuple[str, ...]:
    """The template's arguments with ``{checkpoint}`` filled in; none without a checkpoint."""
    return tuple(word.replace("{checkpoint}", checkpoint) for word in template) if checkpoint else ()


def parse_template(text: str) -> tuple[str, ...]:
    """``--resume {checkpoint}`` as arguments. Raises `ValueError`."""
    argv = tuple(shlex.split(text))
    if not any("{checkpoint}" in argument for argument in argv):
        raise ValueError("it does not say where {checkpoint} goes")
    return argv


def _below(folder: Path, depth: int) -> Iterator[Checkpoint]:
    for entry in _entries(folder):
        path = Path(entry.path)
        if entry.is_symlink() or _TEMPORARY.search(entry.name):
            continue
        if entry.is_file():
            yield Checkpoint(path, entry.stat().st_mtime_ns)
        elif entry.is_dir() and _is_checkpoint(path, _names(path)):
            yield _whole(path)
        elif entry.is_dir() and depth:
            yield from _below(path, depth - 1)


def _is_checkpoint(folder: Path, names: Sequence[str]) -> bool:
    if _CHECKPOINT_FILES.intersection(names):
        return True
    # A folder by the name of a step that holds files is one; one that holds only folders is looked into.
    return bool(_STEP.search(folder.name)) and any((folder / name).is_file() for name in names)


def _whole(folder: Path) -> Checkpoint:
    changed = [file.stat().st_mtime_ns for file in _files(folder)]
    return Checkpoint(folder, max(changed, default=folder.stat().st_mtime_ns))


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for above, _, names in os.walk(folder):
        found += [Path(above) / name for name in names if not (Path(above) / name).is_symlink()]
    return sorted(found)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder)]


def _by_number(name: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


def _broken_file(path: Path, now: float, *, may_be_empty: bool = False) -> str:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        return "it is not a file"
    if facts.st_size == 0:
        return "" if may_be_empty else "it is empty"
    with path.open("rb") as file:
        head = file.read(16)
    suffix = path.suffix.lower()
    # PyTorch's older files are pickles, which nothing but reading them would check.
    always = suffix in (".npz", ".keras", ".zip") or (suffix in ZIPS and facts.st_size < _LEAST_ZIP)
    if head[:2] == b"PK" or always:
        return _broken_zip(path)
    if suffix == ".safetensors":
        return _broken_safetensors(path, facts.st_size)
    if head.startswith(_HDF5) or suffix in (".h5", ".hdf5"):
        if not head.startswith(_HDF5):
            return "its header is not complete"
        return _broken_hdf5(path, facts.st_size)
    if suffix == ".json":
        json.loads(path.read_bytes())
        return ""
    age = now - facts.st_mtime
    # A clock that was set back makes files of the future: they are quiet, too.
    return "it is still being written" if 0 <= age < QUIET_SECONDS else ""


def _broken_zip(path: Path) -> str:
    """PyTorch's files are archives: their directory stands at the end, and is written last."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "" if archive.namelist() else "its archive holds nothing"
    except zipfile.BadZipFile:
        return "its zip directory is missing: it was not written to its end"


def _broken_safetensors(path: Path, size: int) -> str:
    """Its header (JSON after 8 bytes of length) says where the last tensor ends."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, 100 << 20):
            return "its header is not complete"
        header = json.loads(file.read(length))
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    expected = 8 + length + max(ends, default=0)
    return "" if size == expected else f"it has {size} bytes, and its header says {expected}"


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


def _missing_shard(folder: Path) -> str:
    """``model.safetensors.index.json`` names the files that a model is in."""
    for index in sorted(folder.glob("*.index.json")):
        shards = json.loads(index.read_bytes()).get("weight_map") or {}
        for name in sorted(set(shards.values())):
            if not (folder / str(name)).is_file():
                return f"{index.name} names {name}, which is not there"
    return ""


def _against_manifest(folder: Path, manifest: Path) -> str:
    if manifest.suffix == ".json":
        listed = json.loads(manifest.read_bytes())
        listed = listed.get("files", listed) if isinstance(listed, dict) else {}
        if not isinstance(listed, dict):
            return ""
        pairs = [
            (name, entry.get("sha256") if isinstance(entry, dict) else entry)
            for name, entry in listed.items()
        ]
    else:
        lines = [line.split(None, 1) for line in manifest.read_text().splitlines() if line.strip()]
        pairs = [(parts[-1], parts[0]) for parts in lines]
    for name, checksum in pairs:
        if not isinstance(checksum, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", checksum):
            continue
        path = folder / str(name).lstrip("*")
        if not path.is_file():
            return f"{manifest.name} names {name}, which is not there"
        if _sha256(path) != checksum.lower():
            return f"{path.name} has another checksum than {manifest.name} says"
    return ""


def _sha256(path: Path) -> str:
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while True:
            data = file.read(1 << 20)
            if not data:
                return checksum.hexdigest()
            checksum.update(data)
