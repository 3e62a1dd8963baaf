"""``python -m tests.forked.server FD LIFE ROOM``: the process that forks.

It listens on the socket ``FD``, and ends when nobody has the other side of ``LIFE`` open. ``ROOM`` is any long word: a
sandbox's server has its command line there.

To fork a process costs by its size. What sandboxes need is more than all that commands do: a second process, forked
from this one when it is first asked for a sandbox, has that too.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import forking
from tests.forked import commands, sandboxes

SERVICES = ("autoscaling", "ec2", "ecr", "iam", "s3", "ssm", "sts")
"""Whose descriptions moto reads when it first answers for them."""


def load_for_sandboxes() -> None:
    """What a sandbox's server needs."""
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
    sandboxes.install()


@dataclass
class Job:
    """A program that was forked, or is about to be."""

    connection: socket.socket
    """To whoever asked: signals come from there, and the end is told."""
    descriptors: list[int]
    """Of the request, and of the program's stdin, stdout and stderr."""
    process: int = 0
    ended: int = -1
    go: int = -1

    def close(self) -> None:
        """None of it is open here any more."""
        self.connection.close()
        for descriptor in (self.ended, self.go, *self.descriptors):
            if descriptor >= 0:
                os.close(descriptor)


class Server:
    """Forks each program beside the others, and attends to them all."""

    def __init__(self, life: int) -> None:
        self._waiting = selectors.DefaultSelector()
        self._jobs: list[Job] = []
        self._own: list[Any] = [life]
        self._life = life
        self._sandboxes: socket.socket | None = None

    def serve(self, source: socket.socket, take: Callable[[socket.socket], Job]) -> None:
        """Until the life ends; ``take`` receives a job from the source."""
        self._own.append(source)
        self._waiting.register(self._life, selectors.EVENT_READ, None)
        self._waiting.register(source, selectors.EVENT_READ, lambda: self._begin(take(source)))
        gc.collect()
        gc.freeze()
        while True:
            for key, _ in self._waiting.select():
                if key.data is None:
                    return
                key.data()

    def accepted(self, listening: socket.socket) -> Job:
        """From one who connects."""
        connection, _ = listening.accept()
        descriptors: list[int] = []
        with contextlib.suppress(ConnectionError):
            descriptors = list(socket.recv_fds(connection, 1, 4)[1])
        return Job(connection, descriptors)

    def handed_over(self, channel: socket.socket) -> Job:
        """From the process that this one was forked from."""
        connection, *descriptors = socket.recv_fds(channel, 1, 5)[1]
        return Job(socket.socket(fileno=connection), descriptors)

    def _begin(self, job: Job) -> None:
        if not job.descriptors:
            # Killed before it has asked for anything.
            job.close()
            return
        if self._wants_a_sandbox(job):
            if self._sandboxes is None:
                self._sandboxes = self._second_server(job)
            socket.send_fds(self._sandboxes, [b"."], [job.connection.fileno(), *job.descriptors])
            job.close()
            return
        held, job.go = os.pipe()
        job.process = os.fork()
        if job.process == 0:
            self._be(job, held)
        os.close(held)
        for descriptor in job.descriptors:
            os.close(descriptor)
        job.descriptors = []
        job.ended = os.pidfd_open(job.process)
        self._jobs.append(job)
        self._waiting.register(job.connection, selectors.EVENT_READ, lambda: self._hear(job))
        self._waiting.register(job.ended, selectors.EVENT_READ, lambda: self._end(job))
        with contextlib.suppress(OSError):
            job.connection.send(b"%d" % job.process)

    def _wants_a_sandbox(self, job: Job) -> bool:
        with os.fdopen(os.dup(job.descriptors[0]), "rb") as file:
            file.seek(0)
            request = json.load(file)["request"]
        return request.get("program") == sandboxes.__name__ or {"sandbox", "start"} <= set(request["argv"])

    def _second_server(self, job: Job) -> socket.socket:
        """The channel to it; the job for which it is made comes that way, too."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork():
            theirs.close()
            self._own.append(ours)
            return ours
        # Whoever reads what the job writes waits until nobody has that open.
        for each in (ours, job):
            each.close()
        life = os.dup(self._life)
        self._leave()
        try:
            load_for_sandboxes()
            second = SecondServer(life)
            second.serve(theirs, second.handed_over)
        except BaseException:  # noqa: BLE001 - nothing may go on as the first server
            traceback.print_exc()
        finally:
            os._exit(1)

    def _be(self, job: Job, held: int) -> None:
        """In the fork: the program, once it may begin."""
        os.close(job.go)
        job.go = -1
        descriptors, job.descriptors = job.descriptors, []
        job.close()
        self._leave()
        told = os.read(held, 1)
        os.close(held)
        if not told:
            os._exit(1)
        forking.be_the_program(commands, *descriptors)

    def _leave(self) -> None:
        """In a fork: nothing of the server's is open any more."""
        self._waiting.close()
        for job in self._jobs:
            job.close()
        for each in self._own:
            os.close(each) if isinstance(each, int) else each.close()

    def _hear(self, job: Job) -> None:
        if job not in self._jobs:
            # Its end was seen at the same time, and came first.
            return
        heard = b""
        with contextlib.suppress(ConnectionError):
            heard = job.connection.recv(16)
        if heard == b"go":
            # It may have been killed meanwhile.
            with contextlib.suppress(BrokenPipeError):
                os.write(job.go, b".")
            return
        # Whoever asked has gone, and the program goes too.
        os.kill(job.process, int(heard or signal.SIGKILL))
        if not heard:
            self._waiting.unregister(job.connection)

    def _end(self, job: Job) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(job.process, 0)[1])
        with contextlib.suppress(OSError):
            job.connection.send(b"%d" % code)
        self._waiting.unregister(job.ended)
        with contextlib.suppress(KeyError):
            self._waiting.unregister(job.connection)
        self._jobs.remove(job)
        job.close()


class SecondServer(Server):
    """The one that forks sandboxes."""

    def _wants_a_sandbox(self, job: Job) -> bool:
        return False


def main() -> None:
    """See the module."""
    listening, life = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    commands.load()
    server = Server(life)
    server.serve(listening, server.accepted)


if __name__ == "__main__":
    main()
