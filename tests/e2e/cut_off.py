"""``python -m tests.e2e.cut_off WORDS…``: runctl without a network for as long as the file that ``CUT_WHILE`` names is
there, connections that are open included."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALLS = ("connect", "send", "sendall", "recv", "recv_into")


def main() -> int:
    """Like runctl."""
    cut = Path(os.environ["CUT_WHILE"])
    sockets: Any = socket.socket

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def checked(self: socket.socket, *given: Any, **more: Any) -> Any:
            if self.family != socket.AF_UNIX and cut.exists():
                raise OSError(errno.ENETUNREACH, "Network is unreachable")
            return call(self, *given, **more)

        return checked

    for name in CALLS:
        setattr(sockets, name, guarded(getattr(sockets, name)))
    from runctl.cli.main import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
