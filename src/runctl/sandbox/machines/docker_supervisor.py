"""Inside a sandbox machine: starts its Docker engine at the first connection.

What systemd's docker.socket does on a real machine, without systemd. Standard library only.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

SOCKET = "/run/docker.sock"
ENGINE_PID = Path("/run/docker.pid")
SUPERVISOR_PID = Path("/run/docker-supervisor.pid")
LOG = Path("/var/log/dockerd.log")
CONFIG = Path("/usr/lib/runctl-sandbox/engine.json")
LISTEN_FD = 3
HUB = ("registry-1.docker.io", "auth.docker.io", "index.docker.io")
START_SECONDS = 60.0


def engine_options() -> list[str] | None:
    """The engine's command line; ``None`` when this machine has none."""
    try:
        options = json.loads(CONFIG.read_text())["dockerd"]
    except FileNotFoundError:
        return None
    return None if options is None else ["dockerd", *options]


class Supervisor:
    """Holds the socket; one engine at a time runs on it."""

    def __init__(self, command: list[str], listener: socket.socket) -> None:
        self._command = command
        self._listener = listener
        self._engine: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._hub_checked = False

    def run(self) -> None:
        """Until SIGTERM, which ends the engine first."""
        signal.signal(signal.SIGTERM, self._stop)
        while not self._stopping.is_set():
            select.select([self._listener], [], [])
            code = self._run_engine()
            if code != 0 and not self._stopping.is_set():
                self._refuse(f"the Docker engine ended with {code}: {last_log_lines()}; see {LOG}")

    def _run_engine(self) -> int:
        if not self._hub_checked:
            self._hub_checked = True
            if not hub_answers():
                close_off_hub(Path("/etc/hosts"))
        # The engine takes the socket over as from systemd: it must be descriptor 3, and LISTEN_PID its own pid.
        listen = 'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
        with LOG.open("ab") as log:
            self._engine = subprocess.Popen(
                ["/bin/sh", "-c", listen, "sh", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(LISTEN_FD,),
                env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"},
            )
        if self._stopping.is_set():
            self._engine.terminate()
        return self._engine.wait()

    def _stop(self, _signal: int, _frame: object) -> None:
        self._stopping.set()
        if self._engine is None or self._engine.poll() is not None:
            raise SystemExit(0)
        self._engine.terminate()

    def _refuse(self, message: str, seconds: float = 2.0) -> None:
        """Tell whoever waits that the engine did not start; the next connection tries again."""
        body = json.dumps({"message": message}).encode()
        head = "\r\n".join(
            [
                "HTTP/1.1 503 Service Unavailable",
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
                "Connection: close",
                "",
                "",
            ]
        )
        deadline = time.monotonic() + seconds
        while select.select([self._listener], [], [], max(0.0, deadline - time.monotonic()))[0]:
            client, _ = self._listener.accept()
            with client, contextlib.suppress(OSError):
                client.settimeout(1)
                request = client.recv(65536)
                client.sendall(head.encode() + (b"" if request.startswith(b"HEAD") else body))


def last_log_lines() -> str:
    """The engine's last line."""
    try:
        lines = LOG.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][-500:] if lines else "it said nothing"


def hub_answers(timeout: float = 2.0) -> bool:
    """Whether Docker Hub can be reached from here; asking takes no longer than ``timeout`` seconds."""
    reached = threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError), socket.create_connection((HUB[0], 443), timeout=timeout):
            reached.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return reached.is_set()


def close_off_hub(hosts: Path) -> None:
    """An image that the sandbox does not have fails at once, where the engine would try for minutes."""
    text = hosts.read_text() if hosts.exists() else ""
    if HUB[0] not in text:
        with hosts.open("a") as out:
            out.write(f"# Docker Hub cannot be reached from this computer.\n127.0.0.1 {' '.join(HUB)}\n")


def listen() -> socket.socket:
    """The engine's socket, for root and the group docker, as descriptor 3."""
    with contextlib.suppress(FileNotFoundError):
        Path(SOCKET).unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listener.bind(SOCKET)
    finally:
        os.umask(before)
    os.chown(SOCKET, 0, grp.getgrnam("docker").gr_gid)
    listener.listen(128)
    if listener.fileno() == LISTEN_FD:
        return listener
    os.dup2(listener.fileno(), LISTEN_FD)
    listener.close()
    return socket.socket(fileno=LISTEN_FD)


def supervise(command: list[str], listener: socket.socket) -> None:
    """Until SIGTERM: an engine for whoever connects."""
    SUPERVISOR_PID.write_text(f"{os.getpid()}\n")
    Supervisor(command, listener).run()


def ping(timeout: float = START_SECONDS) -> bool:
    """Whether the engine answers; asking starts it."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(SOCKET)
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in connection.recv(4096).splitlines()[0] + b" "
    except (OSError, IndexError):
        return False


def engine_pid() -> int | None:
    """Of the running engine."""
    try:
        pid = int(ENGINE_PID.read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if name == "dockerd" else None


def stop_engine(timeout: float = START_SECONDS) -> bool:
    """Stop the engine; the socket stays and starts another at the next connection."""
    pid = engine_pid()
    if pid is None:
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while engine_pid() == pid:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
