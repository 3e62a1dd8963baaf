"""Whether a checkpoint is complete: a file by its format, a folder by the index that its framework writes.

PyTorch's distributed checkpoints (DCP) have ``.metadata``, Hugging Face's an index of shards and
``trainer_state.json``, Lightning's sharded ones ``meta.pt``, others a list of checksums.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, Callable

from runctl.agent.checkpoints.formats import PICKLES, QUIET_SECONDS, WRITING, ZIPS, broken_file
from runctl.agent.errors import AgentError

MANIFESTS = ("manifest.json", "checksums.json", "SHA256SUMS")
"""In a folder: SHA-256 by file, as JSON (``{"files": {...}}`` or the object itself), or as sha256sum writes it."""
DCP = ".metadata"
TRAINER_STATE, TRAINER_ARGUMENTS = "trainer_state.json", "training_args.bin"
CHECKPOINT_FILES = frozenset(
    (
        *(TRAINER_STATE, DCP, "_CHECKPOINT_METADATA", "_METADATA", "model.safetensors"),
        *("pytorch_model.bin", "adapter_model.safetensors", "optimizer.pt", "saved_model.pb", *MANIFESTS),
    )
)
"""A folder with one of these files is one checkpoint, and not a folder of several."""
WEIGHTS = frozenset(
    (
        *(kind for kind in (*ZIPS, *PICKLES) if kind != ".zip"),
        *(".safetensors", ".h5", ".hdf5", ".bin", ".distcp", ".msgpack", ".eqx", ".pdparams"),
    )
)
"""Files of these kinds hold a model, in a folder that may hold anything."""
TEMPORARY = re.compile(
    r"(^\.)|(~$)|(^tmp)|(\.(tmp|temp|part|partial|incomplete|lock|swp)([._-].*)?$)|(_tmp$)", re.I
)
UNREADABLE = (
    *(ValueError, LookupError, TypeError, AttributeError, RecursionError, SyntaxError, EOFError),
    *(OverflowError, NotImplementedError, MemoryError),
)
"""What parsers raise for headers that make no sense."""
_LAST_FILES = frozenset((TRAINER_STATE, DCP, *MANIFESTS))
"""What has one of these was finished when that was: it is written last."""
TRAINER_FOLDER = re.compile(r"checkpoint-\d+")
"""What Hugging Face's Trainer calls what it saves."""
_LARGEST_METADATA = 64 << 20

Identity = tuple[str, int, int, int]
"""Path, size, time of change and inode of a file: when they are the same, so are its bytes."""


class Checksums:
    """SHA-256 of files that were read: they are not read again while they are the same."""

    def __init__(self, may_read: Callable[[], bool] = lambda: True) -> None:
        """``may_read`` is asked before each piece of a file: one that is still read cannot be unmounted."""
        self._may_read = may_read
        self._known: dict[Identity, str] = {}

    def of(self, path: Path) -> str:
        """Of this file. Raises `OSError`, and `AgentError` (code ``stopped``) where it may not be read any more."""
        key = identity(path, path.stat())
        if key in self._known:
            return self._known[key]
        found = sha256_of(path, self._may_read)
        if identity(path, path.stat()) == key:
            self._known[key] = found
        return found

    def known(self, path: Path, facts: os.stat_result) -> str | None:
        """Of a file with these facts; ``None`` where it was not read."""
        return self._known.get(identity(path, facts))

    def forget_removed(self) -> None:
        """Only of files that are there something is known."""
        self._known = {key: found for key, found in self._known.items() if Path(key[0]).exists()}


def incomplete(path: Path, now: float, known: Checksums | None = None) -> str:
    """Why a checkpoint does not count, in words; empty when it does. ``now`` in seconds since the epoch.

    Whoever asks again about what may be the same hands over what is ``known`` already, and learns the rest. Never
    raises `OSError`; `AgentError` as `Checksums.of` does.
    """
    try:
        return _broken_folder(path, now, known) if path.is_dir() else broken_file(path, now)
    except (OSError, struct.error, zipfile.BadZipFile) as error:
        return str(error)
    except pickle.UnpicklingError as error:
        return f"its index cannot be read: {error}"
    except UNREADABLE:
        return "what it says of itself cannot be read"


def unless_gone(error: OSError) -> None:
    """For ``os.walk``: a folder that cannot be listed is not an empty one. One that has just gone is."""
    if not isinstance(error, FileNotFoundError):
        raise error


def files_of(folder: Path) -> list[Path]:
    """Every file below it, sorted; links lead to what counts itself, or out. Raises `OSError`."""
    found: list[Path] = []
    for above, _, names in os.walk(folder, onerror=unless_gone):
        found += [Path(above) / name for name in names if not (Path(above) / name).is_symlink()]
    return sorted(found)


def _broken_folder(folder: Path, now: float, known: Checksums | None) -> str:
    files = files_of(folder)
    if not files:
        return "it is empty"
    unfinished = [file for file in files if TEMPORARY.search(file.name) and file.name not in CHECKPOINT_FILES]
    if unfinished:
        return f"{unfinished[0].name} is still being written"
    for name in MANIFESTS:
        why = _against_manifest(folder, folder / name, known) if (folder / name).is_file() else ""
        if why:
            return why
    why = _missing_shard(folder) or _missing_index(folder) or _missing_distributed(folder)
    if why:
        return why
    for file in files:
        why = broken_file(file, now, may_be_empty=file.suffix in (".txt", ".lock", "", ".py"))
        if why:
            return f"{file.relative_to(folder)}: {why}"
    if _LAST_FILES.isdisjoint(file.name for file in files if file.parent == folder):
        # Nothing says that no further file comes but that none has come for a while.
        age = now - max(file.stat().st_mtime for file in files)
        return WRITING if 0 <= age < QUIET_SECONDS else ""
    return ""


def _missing_shard(folder: Path) -> str:
    """``model.safetensors.index.json`` names the files that a model is in."""
    for index in sorted(folder.glob("*.index.json")):
        shards = json.loads(index.read_bytes()).get("weight_map") or {}
        for name in sorted(set(shards.values())):
            if not (folder / str(name)).is_file():
                return f"{index.name} names {name}, which is not there"
    return ""


def _missing_index(folder: Path) -> str:
    """What a framework writes last is there: Hugging Face's Trainer its state, Lightning ``meta.pt``."""
    by_trainer = TRAINER_FOLDER.fullmatch(folder.name) and (folder / TRAINER_ARGUMENTS).exists()
    if by_trainer and not (folder / TRAINER_STATE).exists():
        return "trainer_state.json is not there yet"
    if folder.suffix == ".ckpt" and (folder / DCP).exists() and not (folder / "meta.pt").exists():
        return "meta.pt is not there yet"
    if any(folder.glob("__*.distcp")) and not (folder / DCP).exists():
        return f"{DCP} is not there yet"
    return ""


def _missing_distributed(folder: Path) -> str:
    """``.metadata`` of a DCP checkpoint says which file holds what, from where on and how long."""
    index = folder / DCP
    if not index.is_file():
        return ""
    if index.stat().st_size > _LARGEST_METADATA:
        return ""
    stored = getattr(_read_without_classes(index), "storage_data", None)
    if not isinstance(stored, dict):
        return f"{DCP} does not say where anything is stored"
    ends: dict[str, int] = {}
    for info in stored.values():
        name = getattr(info, "relative_path", None)
        if isinstance(name, str):
            end = int(getattr(info, "offset", 0)) + int(getattr(info, "length", 0))
            ends[name] = max(end, ends.get(name, 0))
    for name, end in sorted(ends.items()):
        path = folder / name
        if not path.is_file():
            return f"{DCP} names {name}, which is not there"
        if path.stat().st_size < end:
            return f"{name} has {path.stat().st_size} bytes, and {DCP} says {end}"
    return ""


class _Anything:
    """Stands for an object of any class: it has the state that the pickle gives it, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> _Anything:
        return _Anything()

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        """As a list."""

    def extend(self, _: Any) -> None:
        """As a list."""

    def add(self, _: Any) -> None:
        """As a set."""


class _Reader(pickle.Unpickler):
    """Finds no class: whatever the pickle names is `_Anything`, so that nothing of it runs."""

    def find_class(self, _module: str, _name: str) -> Any:
        return _Anything

    def persistent_load(self, _: Any) -> Any:
        return _Anything()


def _read_without_classes(path: Path) -> Any:
    with path.open("rb") as file:
        return _Reader(file).load()


def listed_checksums(manifest: Path) -> dict[str, str]:
    """SHA-256 of each file that it lists, by the file's name as it is written there. Raises `OSError`, and what
    parsers raise."""
    if manifest.suffix == ".json":
        listed = json.loads(manifest.read_bytes())
        listed = listed.get("files", listed) if isinstance(listed, dict) else {}
        if not isinstance(listed, dict):
            return {}
        pairs = [
            (name, entry.get("sha256") if isinstance(entry, dict) else entry)
            for name, entry in listed.items()
        ]
    else:
        lines = [line.split(None, 1) for line in manifest.read_text().splitlines() if line.strip()]
        pairs = [(parts[-1], parts[0]) for parts in lines]
    return {
        str(name).lstrip("*"): checksum.lower()
        for name, checksum in pairs
        if isinstance(checksum, str) and re.fullmatch(r"[0-9a-fA-F]{64}", checksum)
    }


def _against_manifest(folder: Path, manifest: Path, known: Checksums | None) -> str:
    for name, checksum in listed_checksums(manifest).items():
        path = folder / name
        if not path.is_file():
            return f"{manifest.name} names {name}, which is not there"
        if (Checksums() if known is None else known).of(path) != checksum:
            return f"{path.name} has another checksum than {manifest.name} says"
    return ""


def identity(path: Path, facts: os.stat_result) -> Identity:
    """Of a file with these facts."""
    return str(path), facts.st_size, facts.st_mtime_ns, facts.st_ino


def sha256_of(path: Path, may_read: Callable[[], bool] = lambda: True) -> str:
    """Of a file's bytes, in hexadecimal. Raises `AgentError` (code ``stopped``) as soon as ``may_read`` says no."""
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while True:
            if not may_read():
                raise AgentError("stopped", f"{path.name} may not be read any more")
            data = file.read(1 << 18)
            if not data:
                return checksum.hexdigest()
            checksum.update(data)
