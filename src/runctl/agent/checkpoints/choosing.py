"""The newest complete checkpoint of a folder, what belongs to it, and the step that it is of."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.checkpoints.folders import (
    CHECKPOINT_FILES,
    TEMPORARY,
    TRAINER_ARGUMENTS,
    TRAINER_FOLDER,
    TRAINER_STATE,
    Checksums,
    files_of,
    incomplete,
)

DEPTH = 6
"""How far below the folder checkpoints are looked for."""
NOTES = frozenset(
    (
        *(".json", ".jsonl", ".txt", ".csv", ".tsv", ".log", ".yaml", ".yml", ".toml", ".md", ".html"),
        *(".png", ".svg", ".pdf"),
    )
)
"""Files of these kinds are notes on the training where there is anything else."""
LARGEST_NOTE = 1 << 20
"""Bytes: notes up to this size are kept with the checkpoint that they lie beside."""
_EVENTS = "events.out.tfevents"
_STEP_FOLDER = re.compile(r"(^|[-_.=])(checkpoint|ckpt|step|global_?step|epoch|iter)[-_.=]?\d+", re.I)
_STEPS = (
    re.compile(r"step[-_.=]?(\d+)", re.I),
    re.compile(r"(?:checkpoint|ckpt|iter(?:ation)?)[-_.=]?(\d+)", re.I),
)


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
    changed_ns: int = 0
    """The newest file of what was chosen."""


def newest(folder: Path, now: float | None = None, checksums: Checksums | None = None) -> Choice:
    """The newest complete checkpoint in a folder; a file is judged by itself. Of several of one moment, the one whose
    numbers are the highest. Raises `AgentError` where ``checksums`` may not be read any more."""
    moment = time.time() if now is None else now
    passed_over: list[Checkpoint] = []
    for checkpoint in by_age(candidates(folder)):
        why_not = incomplete(checkpoint.path, moment, checksums)
        if not why_not:
            return Choice(checkpoint.path, tuple(passed_over), checkpoint.changed_ns)
        passed_over.append(Checkpoint(checkpoint.path, checkpoint.changed_ns, why_not))
    return Choice(None, tuple(passed_over))


def named(folder: Path, name: str, now: float) -> Choice:
    """The checkpoint of that name, from the folder on, if it is complete."""
    path = folder / name
    found = _whole(path) if path.is_dir() else Checkpoint(path, path.stat().st_mtime_ns)
    why_not = incomplete(path, now)
    if why_not:
        return Choice(None, (Checkpoint(path, found.changed_ns, why_not),))
    return Choice(path, (), found.changed_ns)


def by_age(found: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The newest first. Pure."""
    return sorted(
        found,
        key=lambda checkpoint: (checkpoint.changed_ns, _by_number(checkpoint.path.name)),
        reverse=True,
    )


def candidates(folder: Path) -> list[Checkpoint]:
    """Everything that may be a checkpoint, without a look inside. Links lead to what counts itself, or out."""
    if folder.is_file():
        return [Checkpoint(folder, folder.stat().st_mtime_ns)]
    if folder.is_dir() and (saved := _trainers_own(folder, _names(folder))):
        return saved
    if folder.is_dir() and _is_checkpoint(folder, _names(folder)):
        return [_whole(folder)]
    found = list(_below(folder, DEPTH))
    return [checkpoint for checkpoint in found if not is_note(checkpoint.path.name)] or found


def is_note(name: str) -> bool:
    """Whether a file says something about a training and holds none of its weights. Pure."""
    return Path(name).suffix.lower() in NOTES or name.startswith(_EVENTS)


def belonging(checkpoint: Path, found: Sequence[Checkpoint]) -> list[Path]:
    """The files that are kept as this checkpoint, of all that were ``found`` beside it.

    Of a folder its own. Of a file also the others of the same folder whose names have the same numbers, and another
    word: ``model-100.pt`` and ``optimizer-100.pt`` are saved together; and small notes. Raises `OSError`.
    """
    if checkpoint.is_dir():
        return files_of(checkpoint)
    numbers = _numbers(checkpoint.name)
    companions = [
        other.path for other in found if other.path.parent == checkpoint.parent and other.path.is_file()
    ]
    together = {path for path in companions if numbers and _numbers(path.name) == numbers}
    saved = {other.path for other in found}
    notes = {
        Path(entry.path)
        for entry in _entries(checkpoint.parent)
        if entry.is_file(follow_symlinks=False)
        and is_note(entry.name)
        and Path(entry.path) not in saved
        and not TEMPORARY.search(entry.name)
        and entry.stat().st_size <= LARGEST_NOTE
    }
    return sorted({checkpoint, *together, *notes})


def step_of(checkpoint: Path) -> int | None:
    """The step that a checkpoint says it is of: Hugging Face's state, else its name."""
    state = checkpoint / TRAINER_STATE
    if state.is_file():
        try:
            step = json.loads(state.read_bytes()).get("global_step")
        except (OSError, ValueError, AttributeError):
            step = None
        if isinstance(step, int) and not isinstance(step, bool) and step >= 0:
            return step
    for pattern in _STEPS:
        found = pattern.findall(checkpoint.name)
        if found and len(found[-1]) <= 15:
            return int(found[-1])
    return None


def status_of(
    folder: Path, known: CheckpointStatus | None = None, checksums: Checksums | None = None
) -> CheckpointStatus | None:
    """The newest complete checkpoint of a folder that no store is kept for; ``None`` where there is none.

    What is ``known`` from an earlier look is not read once more, nor is a file whose checksum is: all of it is,
    where a checkpoint has a list of checksums. Raises `AgentError` where they may not be read any more.
    """
    for checkpoint in by_age(candidates(folder)):
        path, saved_at = str(checkpoint.path), checkpoint.changed_ns / 1e9
        if known is not None and (known.path, known.saved_at) == (path, saved_at):
            return known
        if not incomplete(checkpoint.path, time.time(), checksums):
            return CheckpointStatus(path, saved_at, step_of(checkpoint.path))
    return None


def described(choice: Choice, folder: Path) -> list[str]:
    """What was passed over, one line each, for the log."""
    lines = []
    for checkpoint in choice.passed_over[:3]:
        name = checkpoint.path.name if checkpoint.path == folder else str(checkpoint.path.relative_to(folder))
        lines.append(f"{name} is not complete: {checkpoint.why_not}")
    if len(choice.passed_over) > 3:
        lines.append(f"and {len(choice.passed_over) - 3} more are not")
    return lines


def _below(folder: Path, depth: int) -> Iterator[Checkpoint]:
    for entry in _entries(folder):
        path = Path(entry.path)
        try:
            if entry.is_symlink() or TEMPORARY.search(entry.name):
                continue
            if entry.is_file():
                yield Checkpoint(path, entry.stat().st_mtime_ns)
            elif entry.is_dir() and (saved := _trainers_own(path, _names(path))):
                yield from saved
            elif entry.is_dir() and _is_checkpoint(path, _names(path)):
                yield _whole(path)
            elif entry.is_dir() and depth:
                yield from _below(path, depth - 1)
        except FileNotFoundError:
            # The script has removed it meanwhile.
            continue


def _is_checkpoint(folder: Path, names: Sequence[str]) -> bool:
    if CHECKPOINT_FILES.intersection(names) or any(name.endswith(".distcp") for name in names):
        return True
    # A folder by the name of a step that holds files is one; one that holds only folders is looked into.
    return bool(_STEP_FOLDER.search(folder.name)) and any((folder / name).is_file() for name in names)


def _trainers_own(folder: Path, names: Sequence[str]) -> list[Checkpoint]:
    """What Hugging Face's Trainer has saved to go on from, in a folder in which it has also put the final model.

    That model has no state of the training: it is a result, and nothing goes on from it. Empty for other folders.
    """
    if TRAINER_STATE in names or TRAINER_ARGUMENTS not in names:
        return []
    return [
        _whole(folder / name)
        for name in names
        if TRAINER_FOLDER.fullmatch(name) and _is_checkpoint(folder / name, _names(folder / name))
    ]


def _whole(folder: Path) -> Checkpoint:
    try:
        changed = [file.stat().st_mtime_ns for file in files_of(folder)]
    except OSError:
        # What it lacks is said by whoever looks into it.
        changed = []
    return Checkpoint(folder, max(changed, default=folder.stat().st_mtime_ns))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder)]


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", Path(name).stem))


def _by_number(name: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
