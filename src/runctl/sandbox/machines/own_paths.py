"""A machine's paths as its own processes find them, for whoever writes below its root from outside.

At a reboot the machine's files are there. A link in it may be absolute, or have many ``..``: it leads to a file of the
machine's, but whoever follows it from outside is led to one of this computer's. Runs in the machine's first process
too: standard library only.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

MAX_LINKS = 40
"""As many the kernel follows in one path: see path_resolution(7)."""
_NOT_A_LINK = (errno.EINVAL, errno.ENOENT, errno.ENOTDIR)


def resolve(root: Path, path: str, *, follow_last: bool = True) -> Path:
    """Where ``path`` lies for a process whose root is ``root``: at it or below, without links from there on.

    What does not exist is taken for a folder that will be made. Without ``follow_last`` the last name may be a link, to
    be removed or replaced itself. Raises `OSError`: ELOOP after `MAX_LINKS`, or what forbids to look.
    """
    found: list[str] = []
    todo = _names(path)
    links = 0
    while todo:
        name = todo.pop()
        if name == "..":
            del found[-1:]
            continue
        here = root.joinpath(*found, name)
        target = _target(here) if todo or follow_last else None
        if target is None:
            found.append(name)
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(here))
        if target.startswith("/"):
            found.clear()
        todo += _names(target)
    return root.joinpath(*found)


def make_folder(root: Path, path: str) -> Path:
    """`resolve`, and the folder is there."""
    folder = resolve(root, path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(root: Path, path: str, text: str) -> Path:
    """The machine's file has that text, and the folder above it is there. Returns where the file lies."""
    make_folder(root, str(Path(path).parent))
    file = resolve(root, path)
    file.write_text(text)
    return file


def link(root: Path, path: str, target: str) -> None:
    """``path`` is a link to ``target``, whatever file or link it was before."""
    place = resolve(root, path, follow_last=False)
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def _names(path: str) -> list[str]:
    """The last one first."""
    return [name for name in reversed(path.split("/")) if name not in {"", "."}]


def _target(path: Path) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115 - without what pathlib makes of it
    except OSError as error:
        if error.errno in _NOT_A_LINK:
            return None
        raise
