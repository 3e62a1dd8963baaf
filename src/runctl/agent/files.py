"""Files of the machine, looked at and read in pieces, so that a broken reader can go on."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Mapping

from runctl.agent.errors import AgentError
from runctl.agent.machine import on_machine
from runctl.agent.spec import dumps

BLOCK = 1 << 20


def look(request: Mapping[str, Any]) -> Dict[str, Any]:
    """What ``path`` is: ``kind`` (``file``, ``folder``, ``other``, ``missing``) and a file's ``size``."""
    path = _path(request)
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return {"kind": "missing", "size": 0}
    except OSError as error:
        raise _cannot_read(path, error) from error
    if stat.S_ISREG(facts.st_mode):
        return {"kind": "file", "size": facts.st_size}
    return {"kind": "folder" if stat.S_ISDIR(facts.st_mode) else "other", "size": 0}


def fetch(request: Mapping[str, Any], sink: BinaryIO) -> int:
    """Write each of ``pieces`` (offset, length) of the file ``path`` to ``sink``: a JSON line with the ``offset`` and
    the ``length`` that there is, then so many bytes. The last line has ``done``. Raises `AgentError`."""
    path = _path(request)
    try:
        with path.open("rb") as file:
            for offset, length in _pieces(request):
                left = max(0, min(length, os.fstat(file.fileno()).st_size - offset))
                sink.write(dumps({"offset": offset, "length": left}).encode() + b"\n")
                file.seek(offset)
                while left:
                    # Shorter than a moment ago: a checksum will say so, the stream stays in step.
                    data = file.read(min(BLOCK, left)) or b"\0" * min(BLOCK, left)
                    sink.write(data)
                    left -= len(data)
    except OSError as error:
        raise _cannot_read(path, error) from error
    sink.write(b'{"done":true}\n')
    sink.flush()
    return 0


def _path(request: Mapping[str, Any]) -> Path:
    given = request.get("path")
    if not isinstance(given, str) or not given.startswith("/") or "\0" in given:
        raise AgentError("bad-request", "{!r} is not an absolute path".format(given))
    return on_machine(given)


def _pieces(request: Mapping[str, Any]) -> List[List[int]]:
    pieces = request.get("pieces")
    numbers = [number for piece in pieces for number in piece] if isinstance(pieces, list) else [-1]
    if not all(isinstance(one, int) and one >= 0 for one in numbers) or len(numbers) != 2 * len(pieces or ()):
        raise AgentError("bad-request", "the pieces cannot be read")
    return list(pieces or ())


def _cannot_read(path: Path, error: OSError) -> AgentError:
    return AgentError("cannot-read", "cannot read {}: {}".format(path, error.strerror or error))
