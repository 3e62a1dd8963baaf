"""Paths that stay inside a folder: no link and no ``..`` leads out of it.

What lies on a volume was put there by anybody, runctl's own record included. So each folder on the way is opened from
the one above it, and a link in place of a folder is an error.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runctl.agent.errors import AgentError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_plain(path: object) -> bool:
    """Whether it is a relative path that names each folder on its way, and no other. Pure."""
    return isinstance(path, str) and "\0" not in path and not {"", ".", ".."} & set(path.split("/"))


def in_the_way(path: Path) -> AgentError:
    """The error for a path at which something else is."""
    return AgentError(
        "in-the-way",
        f"{path} is on the volume already, and is not a folder",
        "move it away, or fill into another folder",
    )


@contextmanager
def opened(root: Path, path: str, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder ``path`` below ``root`` (empty: the root itself); ``make`` creates what is missing.

    Raises `AgentError` (``in-the-way``) where a link or a file is on the way, `FileNotFoundError`, `OSError`.
    """
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        here = root
        for part in path.split("/") if path else ():
            here = here / part
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            try:
                below = os.open(part, _FOLDER, dir_fd=folder)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise in_the_way(here) from None
                raise
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def opener(path: str, flags: int) -> int:
    """For `open`: the file itself, never what a link in its place leads to. Raises `AgentError` (``in-the-way``)."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise AgentError(
                "in-the-way", f"{path} is a link", "remove it, or fill into another folder"
            ) from None
        raise


def make_folder(root: Path, path: str) -> None:
    """The folder is there, with every folder above it. Raises as `opened` does."""
    with opened(root, path, make=True):
        pass


class Looker:
    """Looks at files below a folder, once at each of the folders on the way."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, bool] = {"": True}

    def status(self, path: str) -> os.stat_result | None:
        """The file's own status; ``None`` where there is none, or where a link leads to it."""
        if not self._is_inside(path.rpartition("/")[0]):
            return None
        with suppress(OSError):
            return os.lstat(self._root / path)
        return None

    def _is_inside(self, folder: str) -> bool:
        known = self._folders.get(folder)
        if known is None:
            found = self.status(folder)
            known = self._folders[folder] = found is not None and stat.S_ISDIR(found.st_mode)
        return known


def remove_file(root: Path, path: str) -> None:
    """The file is gone, and so are the folders above it that are empty by that, up to the root.

    Raises as `opened` does.
    """
    above, _, name = path.rpartition("/")
    with opened(root, above) as folder:
        os.unlink(name, dir_fd=folder)
    while above:
        parent, _, last = above.rpartition("/")
        try:
            with opened(root, parent) as folder:
                os.rmdir(last, dir_fd=folder)
        except OSError:
            return
        above = parent
