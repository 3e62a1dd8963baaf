"""Programs as processes that are forked from one which has imported everything.

Each is a process of its own, with its folder, variables and descriptors, and ends as the program does; only Python's
start and the imports, which take longer than most of what tests have them do, are done once. What a start itself does
must be asked of the program that is installed.

A program is a module with ``load(*words)``, which imports, and ``main(request)``, which is called in the fork.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).parents[1]


class Program:
    """One module's processes."""

    def __init__(self, module: str, *words: str) -> None:
        self._start = (module, *words)
        self._idle: list[_Server] = []

    def run(
        self, request: Mapping[str, Any], *, cwd: Path, env: Mapping[str, str], stdin: bytes, timeout: float
    ) -> tuple[int, bytes, bytes]:
        """Carry a request out to its end: its exit code (as `subprocess` has it), stdout and stderr."""
        server = self._idle.pop() if self._idle else _Server(self._start)
        pipes = [os.pipe() for _ in range(3)]
        (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = pipes
        with (
            os.fdopen(ours_in, "wb") as feed,
            os.fdopen(ours_out, "rb") as out,
            os.fdopen(ours_err, "rb") as err,
            ThreadPoolExecutor(3) as threads,
        ):
            wanted = {"request": request, "cwd": str(cwd), "env": dict(env)}
            server.begin(wanted, [theirs_in, theirs_out, theirs_err])
            for end in (theirs_in, theirs_out, theirs_err):
                os.close(end)
            fed, told, complained = (
                threads.submit(_feed, feed, stdin),
                threads.submit(out.read),
                threads.submit(err.read),
            )
            try:
                code = server.code(timeout)
            except TimeoutError:
                server.kill()
                raise subprocess.TimeoutExpired(
                    str(request), timeout, told.result(), complained.result()
                ) from None
            self._idle.append(server)
            fed.result()
            return code, told.result(), complained.result()


def _feed(pipe: Any, data: bytes) -> None:
    # A program need not read what it is given.
    with contextlib.suppress(BrokenPipeError), pipe:
        pipe.write(data)


class _Server:
    """The process that forks, for one request at a time. It ends with its socket."""

    def __init__(self, start: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forking", str(theirs.fileno()), *start],
                pass_fds=(theirs.fileno(),),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        atexit.register(self.kill)

    def begin(self, wanted: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """Fork, and let the program have these as its 0, 1 and 2."""
        # Variables and arguments may be longer than a message.
        with os.fdopen(os.memfd_create("request"), "w+b") as file:
            file.write(json.dumps(wanted).encode())
            file.flush()
            socket.send_fds(self._socket, [b"."], [file.fileno(), *descriptors])

    def code(self, timeout: float) -> int:
        """The exit code, once the program has ended. Raises `TimeoutError`."""
        self._socket.settimeout(timeout)
        answer = self._socket.recv(16)
        assert answer, "the process that starts programs has ended"
        return int(answer)

    def kill(self) -> None:
        """It has ended, and what it has forked too."""
        atexit.unregister(self.kill)
        self._socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def serve(connection: socket.socket, name: str, *words: str) -> None:
    """Fork for each request, and answer with the exit code, until the other side closes."""
    program = importlib.import_module(name)
    program.load(*words)
    gc.collect()
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1, 4)
        if not message:
            return
        child = os.fork()
        if child == 0:
            connection.close()
            be_the_program(program, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def be_the_program(program: Any, request: int, *standard: int) -> NoReturn:
    """In a fork: carry out the request with these descriptors as 0, 1 and 2, and end."""
    code = 1
    try:
        with os.fdopen(request, "rb") as file:
            file.seek(0)
            wanted = json.load(file)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            os.dup2(standard[number], number)
            os.close(standard[number])
            # Python has looked at what it began with: whether it can seek there, and more.
            first = getattr(sys, name)
            fresh = os.fdopen(number, first.mode, encoding=first.encoding, errors=first.errors, closefd=False)
            setattr(sys, name, fresh)
        os.chdir(wanted["cwd"])
        os.environ.clear()
        os.environ.update(wanted["env"])
        code = _to_its_very_end(program, wanted["request"])
    except BaseException:  # noqa: BLE001 - nothing may go on as the server
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        os._exit(code)


def _to_its_very_end(program: Any, request: Any) -> int:
    """As the interpreter does it."""
    try:
        code = program.main(request)
    except SystemExit as end:
        code = end.code
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    assert isinstance(code, int)
    return code


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), *sys.argv[2:])
