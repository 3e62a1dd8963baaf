"""``python -m tests.forked.server FD LIFE ROOM``: the process that forks.

It listens on the socket ``FD``, and ends when nobody has the other side of ``LIFE`` open. ``ROOM`` is any long word: a
sandbox's server has its command line there.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import select
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from tests import forking
from tests.forked import commands, sandboxes

SERVICES = ("autoscaling", "ec2", "ecr", "iam", "s3", "ssm", "sts")
"""Whose descriptions moto reads when it first answers for them."""


def load() -> None:
    """What a sandbox's server needs, and what commands do."""
    from botocore import handlers

    hooks = list(handlers.BUILTIN_HANDLERS)
    with tempfile.NamedTemporaryFile() as images:
        from runctl.sandbox.amis import write_for_moto

        # moto reads it when it is imported; it is the same for every sandbox.
        write_for_moto(Path(images.name))
        os.environ["MOTO_AMIS_PATH"] = images.name
        os.environ["MOTO_ENABLE_AMI_VALIDATION"] = "true"
        import runctl.sandbox

        for module in pkgutil.walk_packages(runctl.sandbox.__path__, "runctl.sandbox."):
            if ".machines." not in module.name and ".folders." not in module.name:
                importlib.import_module(module.name)
        from moto import backends
        from moto.core.utils import get_service_model

        get_backend: Any = backends.get_backend
        for name in SERVICES:
            get_backend(name)
            get_service_model(name)
        from runctl.sandbox.api import gate

        gate._regions()
    for variable in ("MOTO_AMIS_PATH", "MOTO_ENABLE_AMI_VALIDATION"):
        del os.environ[variable]
    # moto hooks itself into every client: a command's have what botocore gives them.
    handlers.BUILTIN_HANDLERS[:] = hooks
    commands.load()
    sandboxes.install()


def serve(listening: socket.socket, life: int) -> None:
    """Have each request carried out beside the others."""
    load()
    gc.collect()
    gc.freeze()
    while life not in select.select([listening.fileno(), life], [], [])[0]:
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            os.close(life)
            _attend(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _attend(connection: socket.socket) -> NoReturn:
    """Fork the program, tell its number, let it go on when that is heard, pass signals on to it, and tell its end."""
    try:
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 4)
        held, go = os.pipe()
        child = os.fork()
        if child == 0:
            connection.close()
            os.close(go)
            told = os.read(held, 1)
            os.close(held)
            if not told:
                os._exit(1)
            forking.be_the_program(commands, *descriptors)
        for descriptor in (held, *descriptors):
            os.close(descriptor)
        ended = os.pidfd_open(child)
        connection.send(b"%d" % child)
        while ended not in select.select([connection.fileno(), ended], [], [])[0]:
            # Whoever asked has gone, and the program goes too.
            heard = connection.recv(16) or b"%d" % signal.SIGKILL
            if heard == b"go":
                os.write(go, b".")
                continue
            os.kill(child, int(heard))
            if int(heard) == signal.SIGKILL:
                break
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(OSError):
            connection.send(b"%d" % code)
    finally:
        os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
