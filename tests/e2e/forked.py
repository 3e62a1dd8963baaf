"""``runctl`` commands as processes that are forked from one which has imported everything.

Each is a process of its own, with its folder, variables and descriptors, and ends as the program does; only Python's
start and the imports, which take longer than most commands, are done once. What a start itself does is asked of the
installed program: by `CommandLine.start`, by the documentation's pages and by ``tests/cli/test_main.py``.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
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

PROGRAM = Path(sys.executable).with_name("runctl")
REPOSITORY = Path(__file__).parents[2]
LEFT_OUT = ("runctl.agent.", "runctl.callbacks.", "runctl.sandbox.", "runctl.__main__")
"""What a command does not import."""
SERVICES = ("ec2", "ssm", "sts", "s3", "iam", "pricing")
"""Of AWS, that most commands ask."""
LIBRARIES = ("boto3", "botocore.httpsession", "botocore.parsers", "botocore.signers", "s3transfer.manager")

_idle: list[Server] = []
"""Those that no command keeps busy."""


def run(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bytes, timeout: float
) -> tuple[int, bytes, bytes]:
    """Carry a command out to its end: its exit code (as `subprocess` has it), stdout and stderr."""
    server = _idle.pop() if _idle else Server()
    pipes = [os.pipe() for _ in range(3)]
    (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = pipes
    with (
        os.fdopen(ours_in, "wb") as feed,
        os.fdopen(ours_out, "rb") as out,
        os.fdopen(ours_err, "rb") as err,
        ThreadPoolExecutor(3) as threads,
    ):
        server.begin({"argv": argv, "cwd": str(cwd), "env": dict(env)}, [theirs_in, theirs_out, theirs_err])
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
            raise subprocess.TimeoutExpired(list(argv), timeout, told.result(), complained.result()) from None
        _idle.append(server)
        fed.result()
        return code, told.result(), complained.result()


def _feed(pipe: Any, data: bytes) -> None:
    # A command need not read what it is given.
    with contextlib.suppress(BrokenPipeError), pipe:
        pipe.write(data)


class Server:
    """The process that forks, for one command at a time. It ends with its socket."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.forked", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        atexit.register(self.kill)

    def begin(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """Fork, and let the command have these as its 0, 1 and 2."""
        # Variables and arguments may be longer than a message.
        with os.fdopen(os.memfd_create("request"), "w+b") as file:
            file.write(json.dumps(request).encode())
            file.flush()
            socket.send_fds(self._socket, [b"."], [file.fileno(), *descriptors])

    def code(self, timeout: float) -> int:
        """The command's exit code, once it has ended. Raises `TimeoutError`."""
        self._socket.settimeout(timeout)
        answer = self._socket.recv(16)
        assert answer, "the process that starts commands has ended"
        return int(answer)

    def kill(self) -> None:
        """It has ended, and its command too."""
        atexit.unregister(self.kill)
        self._socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def serve(connection: socket.socket) -> None:
    """Fork for each request, and answer with the exit code, until the other side closes."""
    import runctl

    for module in pkgutil.walk_packages(runctl.__path__, "runctl."):
        if not module.name.startswith(LEFT_OUT):
            importlib.import_module(module.name)
    for name in LIBRARIES:
        importlib.import_module(name)
    from runctl.providers.aws.calls.botocore_loader import loader

    for service in SERVICES:
        for kind in ("service-2", "endpoint-rule-set-1"):
            loader(None).load_service_model(service, kind)
    # As for the script: what lies in the folder where a command runs is none of its modules.
    sys.path[0] = str(PROGRAM.parent)
    gc.collect()
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1, 4)
        if not message:
            return
        child = os.fork()
        if child == 0:
            connection.close()
            _be_the_command(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _be_the_command(request: int, *standard: int) -> NoReturn:
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
        sys.argv = [str(PROGRAM), *wanted["argv"]]
        code = _program()
    except BaseException:  # noqa: BLE001 - nothing may go on as the server
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        os._exit(code)


def _program() -> int:
    """What the interpreter does with the installed script, to its very end."""
    from runctl.cli.main import main

    try:
        main()
    except SystemExit as end:
        code = end.code
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    assert isinstance(code, int)
    return code


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
