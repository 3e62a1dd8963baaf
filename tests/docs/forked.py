"""``runctl`` for the pages: a small program on PATH that has each command forked from a process with all imports.

Commands are most of what a page costs, and the imports most of a command. A page's sandbox is forked as well. Whoever
starts the small program sees no difference: it has the command's output, and ends as the command does; the signals that
end programs are passed on. The installed program itself is asked by some of the pages and by the README's five minutes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from runctl.core.files import make_private_file
from runctl.sandbox import server_process
from runctl.sandbox.abilities import SYSTEM_FOLDERS
from runctl.sandbox.layout import Layout
from tests import forking
from tests.e2e import forked as commands

SHIM = """\
#!{python} -IS
import json, os, signal, socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect({path!r})
wanted = os.memfd_create("request")
request = {{"request": {{"argv": sys.argv[1:]}}, "cwd": os.getcwd(), "env": dict(os.environ)}}
os.write(wanted, json.dumps(request).encode())
socket.send_fds(connection, [b"."], [wanted, 0, 1, 2])
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: connection.send(b"%d" % number))
code = int(connection.recv(16) or b"1")
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
"""What is called ``runctl``: Python without what takes long to start."""
SERVICES = ("autoscaling", "ec2", "ecr", "iam", "s3", "ssm", "sts")
"""Whose descriptions moto reads when it first answers for them."""
_TITLE_BYTES = 1000
_ARGUMENT_START, _ARGUMENT_END = 45, 46
"""In /proc/PID/stat after the name, from 0: where a process has its command line."""


@contextlib.contextmanager
def on_path(folder: Path) -> Iterator[Path]:
    """The folder has a ``runctl`` for the length of the block."""
    folder.mkdir()
    shim = folder / "runctl"
    with (
        tempfile.TemporaryDirectory(prefix="runctl-pages-") as short,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening,
    ):
        address = f"{short}/commands"
        listening.bind(address)
        listening.listen(64)
        shim.write_text(SHIM.format(python=sys.executable, path=address))
        shim.chmod(0o755)
        # The last one is room for another command line: see `_be_called`.
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.docs.forked", str(listening.fileno()), "-" * _TITLE_BYTES],
            pass_fds=(listening.fileno(),),
            cwd=forking.REPOSITORY,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield folder
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def load() -> None:
    """What a sandbox's server needs, and what commands do."""
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

        for name in ("autoscaling", "ec2", "ecr", "iam", "s3", "ssm", "sts"):
            backends.get_backend(name)
        for name in SERVICES:
            get_service_model(name)
        from runctl.sandbox.api import gate

        gate._regions()
    for variable in ("MOTO_AMIS_PATH", "MOTO_ENABLE_AMI_VALIDATION"):
        del os.environ[variable]
    commands.load()
    server_process.launch = _fork_sandbox


def serve(listening: socket.socket) -> NoReturn:
    """Have each command carried out beside the others."""
    load()
    gc.collect()
    gc.freeze()
    while True:
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            _attend(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _attend(connection: socket.socket) -> NoReturn:
    """Fork the command, pass signals on to it, and tell its end."""
    try:
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 4)
        child = os.fork()
        if child == 0:
            connection.close()
            forking.be_the_program(commands, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        ended = os.pidfd_open(child)
        while ended not in select.select([connection.fileno(), ended], [], [])[0]:
            # Whoever asked has gone, and the command goes too.
            number = int(connection.recv(16) or b"%d" % signal.SIGKILL)
            os.kill(child, number)
            if number == signal.SIGKILL:
                break
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(OSError):
            connection.send(b"%d" % code)
    finally:
        os._exit(0)


class _ForkedSandbox:
    """What `runctl.sandbox.control` asks of the process that it has launched; this one is nobody's child any more."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended = os.pidfd_open(pid)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """A code, which nobody knows, once it has ended."""
        if select.select([self._ended], [], [], 0)[0]:
            self.returncode = 1
        return self.returncode

    def kill(self) -> None:
        """It ends."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended."""
        if not select.select([self._ended], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("sandbox", timeout or 0)
        return 1


def _fork_sandbox(layout: Layout, region: str, kind: str, *, docker: bool) -> Any:
    """In the place of `server_process.launch`."""
    argv = ["runctl.sandbox.server", "--home", str(layout.home), "--region", region, "--kind", kind]
    argv += ["--docker"] if docker else []
    make_private_file(layout.log_file)
    told, tell = os.pipe()
    first = os.fork()
    if first == 0:
        os.setsid()
        second = os.fork()
        if second:
            os.write(tell, b"%d" % second)
            os._exit(0)
        os.close(told)
        os.close(tell)
        _be_the_sandbox(layout, argv)
    os.close(tell)
    with os.fdopen(told, "rb") as pipe:
        pid = int(pipe.read())
    os.waitpid(first, 0)
    return _ForkedSandbox(pid)


def _be_the_sandbox(layout: Layout, argv: list[str]) -> NoReturn:
    try:
        log = os.open(layout.log_file, os.O_WRONLY | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, number in ((null, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, number)
        os.closerange(3, 1024)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)
        os.chdir("/")
        path = os.pathsep.join([*SYSTEM_FOLDERS, os.environ.get("PATH", os.defpath)])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        os.environ.clear()
        os.environ.update({**kept, "PATH": path})
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.getsignal(number))
        _be_called("\0".join([sys.executable, "-m", *argv]))
        from moto.moto_api._internal import mock_random

        # Every fork would make the same ids.
        mock_random.seed(time.time_ns() ^ os.getpid())
        from runctl.sandbox import server

        sys.argv = argv
        server.main()
    except BaseException:  # noqa: BLE001 - nothing may go on as the command
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)


def _be_called(title: str) -> None:
    """Have this process's command line be another: by it a sandbox's server is known."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[_ARGUMENT_START]), int(fields[_ARGUMENT_END])
    data = title.encode()
    assert len(data) < end - start, "the command line has no room for that"
    ctypes.memmove(start, data.ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
