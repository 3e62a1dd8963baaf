"""A project's files are opened here, and by no link: what lies outside of the project is never taken for one of them.

git's index, a list made a moment ago and an unpacked archive may all name ``conf/hosts.yml`` where ``conf`` is a link
to another place. So each folder on the way is opened from the one above it, as git does before it trusts its index.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from runctl.core.errors import ProjectError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A file that has become a link or a pipe meanwhile must not be followed, or waited for.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Some file systems have one folder for ``.git`` and ``.GIT``.
_NOT_BELOW = re.compile(r"(?:^|/)(?:\.{0,2}|\.git)(?:/|\Z)", re.IGNORECASE)
_IN_THE_WAY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def may_be_sent(path: str) -> bool:
    """Whether the path names something below the project's root, and nothing of git's own. Pure."""
    return _NOT_BELOW.search(path) is None


class RealFolders:
    """Which folders below a descriptor are folders, and not links; each is looked at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._known = {"": True}

    def lead_to(self, path: str) -> bool:
        """Whether every folder on the way to the path is one."""
        folder = path.rpartition("/")[0]
        known = self._known.get(folder)
        if known is None:
            known = self._known[folder] = self.lead_to(folder) and self._is_folder(folder)
        return known

    def _is_folder(self, path: str) -> bool:
        try:
            return stat.S_ISDIR(os.lstat(path, dir_fd=self._descriptor).st_mode)
        except OSError:
            return False


def open_file(root: Path, path: str) -> BinaryIO:
    """The file at ``path``, from the root with forward slashes, unbuffered.

    Raises `FileNotFoundError` where there is none, but a folder or a pipe, or a link on the way to it, and
    `ProjectError` (code ``unreadable-file``) for a link in its place and for what cannot be read.
    """
    above, _, name = path.rpartition("/")
    try:
        folder = _open_folder(root, above)
        try:
            descriptor = os.open(name, _FILE, dir_fd=folder)
        finally:
            os.close(folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ProjectError(
            f"{path} cannot be read: {error.strerror}",
            hint="change its mode, or put it into .runctlignore",
            code="unreadable-file",
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return open(descriptor, "rb", buffering=0)  # noqa: PTH123


def read_link(root: Path, path: str) -> Path:
    """Where the link at ``path`` points. Raises `OSError` where there is none, or a link on the way to it."""
    above, _, name = path.rpartition("/")
    folder = _open_folder(root, above)
    try:
        return Path(os.readlink(name, dir_fd=folder))
    finally:
        os.close(folder)


def _open_folder(root: Path, path: str) -> int:
    """A descriptor of the folder. Raises `FileNotFoundError` where something else is on the way."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in path.split("/") if path else ():
        try:
            if part in {"", ".", ".."}:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            below = os.open(part, _FOLDER, dir_fd=folder)
        except OSError as error:
            if error.errno in _IN_THE_WAY:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
            raise
        finally:
            os.close(folder)
        folder = below
    return folder
