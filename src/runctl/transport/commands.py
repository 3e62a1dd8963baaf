"""Command lines that more than one transport uses, and what their answers mean."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from runctl.core.errors import PermissionDenied
from runctl.transport.interface import Completed

NO_SUCH_FILE = 44
"""What `GET` ends with when the file does not exist; no program of POSIX does."""

GET = """\
if ! [ -e "$1" ]; then exit 44; fi
exec cat -- "$1"
"""
"""``sh -c GET sh FILE``: the file on stdout."""

PUT = """\
set -eu
trap '' PIPE
trap 'exit 1' HUP INT TERM
if [ -d "$1" ]; then echo "it is a folder" >&2; exit 1; fi
mkdir -p -- "$(dirname -- "$1")"
temporary=$(mktemp -- "$1.XXXXXX")
trap 'rm -f -- "$temporary"' EXIT
cat >"$temporary"
size=$(wc -c <"$temporary")
if [ "$size" -ne "$2" ]; then echo "$size bytes of $2 arrived" >&2; exit 1; fi
chmod "$3" "$temporary"
mv -f -- "$temporary" "$1"
"""
"""``sh -c PUT sh FILE SIZE MODE``: stdin becomes the file, or nothing does.

The traps: a shell that a signal ends, such as that of a broken connection, would not remove the temporary file.
"""


def sudo(argv: Sequence[str]) -> list[str]:
    """``argv`` as root, never asking for a password."""
    return ["sudo", "-n", "-H", "--", *argv]


def refuse_password(completed: Completed, machine: str) -> None:
    """Raise `PermissionDenied` when it was sudo that refused, and not the command that failed."""
    if (
        completed.exit_code == 1
        and completed.stderr.startswith(b"sudo: ")
        and b"password" in completed.stderr
    ):
        raise PermissionDenied(
            f"the login user of {machine} may not become root without a password",
            hint="add the user to sudoers with NOPASSWD; cloud images are set up like this",
        )


def exit_code(returncode: int) -> int:
    """A shell's word for how a process ended: 128 + n when signal n ended it."""
    return returncode if returncode >= 0 else 128 - returncode


def interactive(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, directory: Path | None = None
) -> int:
    """Hand this terminal to a program and return its exit code. Ctrl-C is the program's meanwhile."""
    # Not SIG_IGN, which the program would inherit: a handler is gone after exec.
    previous = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        done = subprocess.run(list(argv), env={**os.environ, **(env or {})}, cwd=directory, check=False)
    finally:
        signal.signal(signal.SIGINT, previous)
    return exit_code(done.returncode)


def tail(output: bytes | bytearray, limit: int = 400) -> str:
    """The end of a program's output, for a message."""
    text = bytes(output).decode(errors="replace").strip()
    return text if len(text) <= limit else "…" + text[-limit:]


def relative(path: PurePosixPath) -> str:
    """A path that no program takes for an option; a relative one counts from the login user's home."""
    return str(path) if path.is_absolute() else f"./{path}"


@contextlib.contextmanager
def sized(data: bytes | BinaryIO) -> Iterator[tuple[BinaryIO, int]]:
    """A source and how many bytes it holds; what cannot tell its length is copied to a temporary file first."""
    if isinstance(data, bytes):
        yield BytesIO(data), len(data)
        return
    if data.seekable():
        here = data.tell()
        size = data.seek(0, os.SEEK_END) - here
        data.seek(here)
        yield data, size
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(data, copy)
        size = copy.tell()
        copy.seek(0)
        yield copy, size
