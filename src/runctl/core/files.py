"""Files of this computer: where runctl keeps its own, the platform's folders and ``~``, and writing them whole."""

from __future__ import annotations

import functools
import os
import re
import stat
import warnings
from pathlib import Path

from runctl.core.errors import UsageError

_NAME = "runctl"


def data_folder() -> Path:
    """State that outlives a reboot: the state file, keys, the sandbox."""
    import platformdirs

    return platformdirs.user_data_path(_NAME)


def cache_folder() -> Path:
    """What can be made again; where the platform's own folder cannot be written, one that goes with this process."""
    import platformdirs

    folder = platformdirs.user_cache_path(_NAME)
    nearest = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return folder if os.access(nearest, os.W_OK | os.X_OK) else _passing_folder()


def runtime_folder() -> Path:
    """Sockets of connections that commands share; the user's alone, and gone after a reboot."""
    import platformdirs

    with warnings.catch_warnings():
        # Of a folder in /tmp where XDG_RUNTIME_DIR is not set: it is made private before anything is put there.
        warnings.simplefilter("ignore")
        return platformdirs.user_runtime_path(_NAME)


@functools.cache
def _passing_folder() -> Path:
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="runctl-cache-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def make_private_folder(folder: Path) -> None:
    """The folder is there; it, and each folder above it that this had to make, is the user's alone.

    Raises `OSError`.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def make_private_file(file: Path) -> None:
    """The file is there, and only the user can read it, also where it was open to others. Raises `OSError`.

    A file that is there is not opened: closing it would take away the locks that this process has on it
    (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    try:
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        if stat.S_IMODE(file.stat().st_mode) != 0o600:
            file.chmod(0o600)
    else:
        os.close(descriptor)


def state_file() -> Path:
    """The SQLite file of `runctl.core.database`."""
    return data_folder() / "state.db"


def intents_folder() -> Path:
    """The locks of the intents that are being carried out; see `runctl.machines.intents`."""
    return data_folder() / "intents"


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """The file holds the text, or is as it was; a symbolic link keeps pointing at it.

    ``mode`` is that of a new file; one that is there keeps its own. Raises `OSError`.
    """
    import tempfile

    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = target.stat().st_mode & 0o777 if target.exists() else mode
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_is_here(folder: Path) -> None:
    """Raises `UsageError` for ``s3://bucket/folder`` and ``INSTANCE:/folder``, where a folder of this computer is
    meant: it would be made here by that name."""
    if re.match(r"[A-Za-z0-9][\w.+-]+:/", str(folder)):
        raise UsageError(
            f"{str(folder)!r} is not a folder of this computer", hint="name one, such as ./results"
        )


def expand_user(path: str | Path) -> Path:
    """The path with ``~`` and ``~user`` replaced; as it is, as in a shell, where there is no such user or home.

    ``Path.expanduser`` raises `RuntimeError` for these.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 - see above
