"""Where a checkpoint is while it arrives: beside its place, under another name, until it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from runctl.core.errors import Conflict
from runctl.core.files import check_is_here

ARRIVING = ".runctl-arriving"
"""In a machine's folder of checkpoints, for what is not whole yet: what begins with a dot is not a checkpoint."""


def arriving_folder(target: Path) -> Path:
    """The same for the same target, so that a copy which broke off goes on."""
    return target.with_name(f".{target.name}.runctl-arriving")


def target_of(path: Path) -> Path:
    """The folder that a command line names, without ``~`` and ``..``: its neighbours are found from its own name.

    A link at its end is not followed. Raises `UsageError` for an address.
    """
    check_is_here(path)
    path = path.expanduser().absolute()
    return path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()


def check_target(target: Path, *, replace: bool) -> None:
    """Something may be put at ``target``. Raises `Conflict` (codes ``exists``, ``not-replaceable``)."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise Conflict(f"{target} is not a folder", hint="name another folder", code="exists")
    if target.is_dir() and any(target.iterdir()) and not replace:
        raise Conflict(
            f"{target} exists, and is not empty", hint="name another folder, or add --replace", code="exists"
        )
    if target.is_dir() and any(target.iterdir()):
        _check_replaceable(target)


def check_outside(target: Path, source: Path) -> None:
    """The folder ``source`` is not in ``target``. Raises `Conflict` (code ``not-replaceable``)."""
    if source.resolve().is_relative_to(target.resolve()):
        raise _not_replaceable(target, f"{source} is in it, which the checkpoint comes from")


def _check_replaceable(target: Path) -> None:
    """--replace is for what an earlier ``pull`` has left, not for a project or a home."""
    real = target.resolve()
    for name, folder in (("the folder that you are in", Path.cwd()), ("your home", Path.home())):
        if folder.resolve() == real:
            raise _not_replaceable(target, f"it is {name}")
        if folder.resolve().is_relative_to(real):
            raise _not_replaceable(target, f"{name} is in it")
    if (target / ".git").exists():
        raise _not_replaceable(target, "it is a git repository")


def _not_replaceable(target: Path, why: str) -> Conflict:
    return Conflict(
        f"{target} is not replaced: {why}", hint="name a folder of its own", code="not-replaceable"
    )


def keep_only(folder: Path, paths: Collection[str]) -> None:
    """Nothing but these files is below the folder: another checkpoint may have begun to arrive there."""
    for above, folders, files in os.walk(folder, topdown=False):
        for name in files:
            path = Path(above, name)
            if path.relative_to(folder).as_posix() not in paths:
                path.unlink()
        for name in folders:
            path = Path(above, name)
            if path.is_symlink():
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()


def put_in_place(folder: Path, target: Path) -> None:
    """What has arrived is at ``target`` as a whole; what was there is gone."""
    if target.is_dir():
        aside = target.with_name(f".{target.name}.runctl-replaced")
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
        folder.rename(target)
        shutil.rmtree(aside)
    else:
        folder.rename(target)
    opened = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
