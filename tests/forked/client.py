"""Ask for commands and sandboxes that are forked; the process that forks starts when it is first asked."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runctl.sandbox import control
from runctl.sandbox.connection import SandboxInfo
from tests import forking

START_SECONDS = 120.0
SHIM = """\
#!{python} -IS
import json, os, signal, socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect({path!r})
wanted = os.memfd_create("request")
request = {{"request": {{"argv": sys.argv[1:]}}, "cwd": os.getcwd(), "env": dict(os.environ)}}
os.write(wanted, json.dumps(request).encode())
socket.send_fds(connection, [b"."], [wanted, 0, 1, 2])
connection.send(b"go")
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: connection.send(b"%d" % number))
process = connection.recv(16)
code = int(connection.recv(16) or b"1")
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
"""What is called ``runctl`` in a shell: Python without what takes long to start."""
_TITLE_BYTES = 1000


@functools.cache
def _address() -> str:
    """Where the process that forks listens."""
    folder = tempfile.mkdtemp(prefix="runctl-forked-")
    address = f"{folder}/programs"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen(64)
        life, ours = os.pipe()
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.forked.server", str(listening.fileno()), str(life)),
                "-" * _TITLE_BYTES,
            ],
            pass_fds=(listening.fileno(), life),
            cwd=forking.REPOSITORY,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(life)

    def end() -> None:
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return address


class Forked:
    """A program that runs, as `subprocess.Popen` is one: with pipes for its stdout and stderr, if none are given."""

    def __init__(
        self, request: Mapping[str, Any], *, cwd: Path, env: Mapping[str, str], stdin: int, held: bool = False
    ) -> None:
        """``held``: it begins with `go`."""
        self.args = request["argv"]
        self._leads = bool(request.get("session"))
        self.returncode: int | None = None
        self._lock = threading.Lock()
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.settimeout(START_SECONDS)
        self._connection.connect(_address())
        (ours_out, theirs_out), (ours_err, theirs_err) = os.pipe(), os.pipe()
        self.stdout, self.stderr = os.fdopen(ours_out, "rb"), os.fdopen(ours_err, "rb")
        # Variables and arguments may be longer than a message.
        with os.fdopen(os.memfd_create("request"), "w+b") as file:
            file.write(json.dumps({"request": request, "cwd": str(cwd), "env": dict(env)}).encode())
            file.flush()
            socket.send_fds(self._connection, [b"."], [file.fileno(), stdin, theirs_out, theirs_err])
        os.close(theirs_out)
        os.close(theirs_err)
        heard = self._connection.recv(16)
        assert heard, "the process that starts programs has ended"
        self.pid = int(heard)
        if not held:
            self.go()

    def go(self) -> None:
        """Let it begin."""
        self._connection.send(b"go")

    def poll(self) -> int | None:
        """Its exit code, as `subprocess` has it, once it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended."""
        with self._lock:
            if self.returncode is None:
                if not select.select([self._connection], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
                answer = self._connection.recv(16)
                assert answer, "the process that starts programs has ended"
                self.returncode = int(answer)
                self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To it, unless it has ended."""
        if self.poll() is None:
            # It may be ending at this moment.
            with contextlib.suppress(BrokenPipeError):
                self._connection.send(b"%d" % number)

    def kill(self) -> None:
        """With SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """What is left of its output, to its end; when the time is up, it and what it has started are killed."""
        with self.stdout, self.stderr, ThreadPoolExecutor(2) as threads:
            out, err = threads.submit(self.stdout.read), threads.submit(self.stderr.read)
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired as error:
                with contextlib.suppress(ProcessLookupError):
                    (os.killpg if self._leads else os.kill)(self.pid, signal.SIGKILL)
                self.wait()
                error.output, error.stderr = out.result(), err.result()
                raise
            return out.result(), err.result()


def start(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], program: str = "", held: bool = False
) -> Forked:
    """A command beside the test, in a session of its own, with nothing to read; ``program`` is another than runctl."""
    request = {"argv": list(argv), "program": program, "session": True}
    with Path(os.devnull).open("rb") as nothing:
        return Forked(request, cwd=cwd, env=env, stdin=nothing.fileno(), held=held)


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes = b"",
    timeout: float = 120,
    program: str = "",
) -> tuple[int, bytes, bytes]:
    """Carry a command out to its end: its exit code (as `subprocess` has it), stdout and stderr."""
    theirs, ours = os.pipe()
    try:
        process = Forked({"argv": list(argv), "program": program}, cwd=cwd, env=env, stdin=theirs)
    finally:
        os.close(theirs)
    feeding = threading.Thread(target=_feed, args=(ours, stdin))
    feeding.start()
    out, err = process.communicate(timeout)
    feeding.join()
    assert process.returncode is not None
    return process.returncode, out, err


def _feed(pipe: int, data: bytes) -> None:
    # A program need not read what it is given.
    with contextlib.suppress(BrokenPipeError), os.fdopen(pipe, "wb") as file:
        file.write(data)


def on_path(folder: Path) -> Path:
    """The folder, which has a ``runctl`` now: whoever starts that sees no difference to the installed one."""
    folder.mkdir()
    shim = folder / "runctl"
    shim.write_text(SHIM.format(python=sys.executable, path=_address()))
    shim.chmod(0o755)
    return folder


def sandbox(home: Path, *, kind: str, docker: str) -> SandboxInfo:
    """As `control.start` does it."""
    argv = [str(home), kind, docker]
    code, _, err = run(argv, cwd=Path("/"), env=os.environ, program="tests.forked.sandboxes")
    assert code == 0, err.decode()
    info = control.status(home=home)
    assert info is not None
    return info
