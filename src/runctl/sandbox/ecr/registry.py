"""The sandbox's container registry: a real `docker-registry` process, and image pushes without an engine.

It stands in for Docker Hub (machines name it as the mirror of ``docker.io``) and can hold any other
repository. It keeps its blobs below the sandbox's home, so that it survives a restart.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runctl.core.errors import Conflict, MachineError, NotFound, Unreachable, Unsupported

PROGRAM = "docker-registry"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"

_CHUNK = 1 << 20
_SOCKET = "registry.sock"
"""In the folder of a registry without a port."""


@dataclass(frozen=True)
class Blob:
    """Some bytes that a registry keeps by their digest: a layer, a config."""

    digest: str
    """``sha256:…`` of the content."""
    size: int
    """In bytes."""
    open: Callable[[], IO[bytes]]
    """The content from its beginning, each time it is called."""


class _Connection(http.client.HTTPConnection):
    """HTTP to a registry, wherever it listens."""

    def __init__(self, registry: Registry, timeout: float) -> None:
        super().__init__(registry.host or "localhost", registry.port or None, timeout=timeout)
        self._registry = registry

    def connect(self) -> None:
        """As http.client does it."""
        self.sock = self._registry.connect(self.timeout)


@contextmanager
def _short_name(folder: Path) -> Iterator[Path]:
    """Another path of that folder: a socket's has a hundred characters at most."""
    if not Path("/proc/self/fd").is_dir():
        yield folder
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path("/proc/self/fd", str(descriptor))
    finally:
        os.close(descriptor)


class Registry:
    """A registry process on one address; `start` and `stop` may be called from different programs.

    It asks nobody for a password. One without a port listens on a socket in its own folder, which is the user's alone.
    """

    def __init__(self, home: Path, host: str = "", port: int = 0) -> None:
        self.home = home.absolute()
        self.host = host
        self.port = port

    @property
    def address(self) -> str:
        """``host:port``, as an engine's ``--insecure-registry`` wants it; the socket's name where there is no port."""
        return f"{self.host}:{self.port}" if self.port else _SOCKET

    def connect(self, timeout: float | None = None) -> socket.socket:
        """A connection to the registry. Raises `OSError`."""
        if self.port:
            return socket.create_connection((self.host, self.port), timeout)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        try:
            with _short_name(self.home) as folder:
                connection.connect(f"{folder}/{_SOCKET}")
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def url(self) -> str:
        """As an engine's ``--registry-mirror`` wants it."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int | None:
        """Of the running registry; ``None`` when there is none."""
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    @property
    def _pid_file(self) -> Path:
        return self.home / "registry.pid"

    @property
    def _config_file(self) -> Path:
        return self.home / "registry.json"

    @property
    def log_file(self) -> Path:
        """The registry's own log: warnings and errors."""
        return self.home / "registry.log"

    def start(self, *, timeout_seconds: float = 10.0) -> None:
        """The registry answers at `address`; one that runs there already is left as it is.

        Raises `Unsupported` when the program is not installed, `Conflict` when something else has the port,
        `MachineError` with the program's last words when it ends or does not answer in time.
        """
        if self.pid is not None:
            if self._configured_address() == self.address:
                self._wait(timeout_seconds)
                return
            self.stop()
        program = shutil.which(PROGRAM)
        if program is None:
            raise Unsupported(
                f"{PROGRAM} is not installed: the sandbox has no images for its machines",
                hint=f"apt-get install {PROGRAM}",
            )
        self._refuse_taken_port()
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._config_file.write_text(json.dumps(self._config(), indent=2))
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                [program, "serve", str(self._config_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True,
            )
        self._pid_file.write_text(str(process.pid))
        try:
            self._wait(timeout_seconds, process)
        except BaseException:
            self.stop()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            raise
        # The registry outlives whoever started it: without this, Popen warns that nobody waited for it.
        process.returncode = 0

    def stop(self, *, timeout_seconds: float = 5.0) -> None:
        """Stop this home's registry; calling it twice is fine. What it holds stays on disk."""
        pid = self.pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            if not self._ended(pid, timeout_seconds):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                self._ended(pid, timeout_seconds)
        self._pid_file.unlink(missing_ok=True)

    def healthy(self) -> bool:
        """Whether a registry answers at `address` now."""
        try:
            with self._connection(timeout=2) as connection:
                connection.request("GET", "/v2/")
                return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException, Unreachable):
            return False

    def has(self, repository: str, reference: str) -> str | None:
        """Digest of the manifest that ``repository:reference`` names; ``None`` when there is none."""
        with self._connection() as connection:
            connection.request(
                "HEAD", f"/v2/{repository}/manifests/{reference}", headers={"Accept": MANIFEST_TYPE}
            )
            response = connection.getresponse()
            response.read()
        return response.getheader("Docker-Content-Digest") if response.status == 200 else None

    def push_blob(self, repository: str, blob: Blob) -> None:
        """The registry has the blob; nothing is sent when it had it already.

        Raises `Unreachable` when the registry does not answer, `MachineError` when it refuses.
        """
        with self._connection(timeout=120) as connection:
            connection.request("HEAD", f"/v2/{repository}/blobs/{blob.digest}")
            response = connection.getresponse()
            response.read()
            if response.status == 200:
                return
            connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
            response = connection.getresponse()
            _expect(response, 202, f"start an upload to {repository}")
            location = urllib.parse.urlsplit(response.getheader("Location") or "")
            query = f"{location.query}&" if location.query else ""
            with blob.open() as content:
                connection.request(
                    "PUT",
                    f"{location.path}?{query}digest={urllib.parse.quote(blob.digest)}",
                    body=iter(lambda: content.read(_CHUNK), b""),
                    headers={
                        "Content-Length": str(blob.size),
                        "Content-Type": "application/octet-stream",
                    },
                )
                _expect(connection.getresponse(), 201, f"take {blob.digest} into {repository}")

    def push_manifest(
        self, repository: str, tags: tuple[str, ...], manifest: bytes, media_type: str = MANIFEST_TYPE
    ) -> None:
        """Each tag names this manifest; its blobs must be there already. Its own digest will do for a tag.

        Raises as `push_blob` does.
        """
        with self._connection() as connection:
            for tag in tags:
                connection.request(
                    "PUT",
                    f"/v2/{repository}/manifests/{tag}",
                    body=manifest,
                    headers={"Content-Type": media_type},
                )
                _expect(connection.getresponse(), 201, f"take the manifest of {repository}:{tag}")

    def delete_manifest(self, repository: str, digest: str) -> None:
        """Nothing names this manifest any more; calling it twice is fine. Raises as `push_blob` does."""
        with self._connection() as connection:
            connection.request("DELETE", f"/v2/{repository}/manifests/{digest}")
            response = connection.getresponse()
            if response.status == 404:
                response.read()
                return
            _expect(response, 202, f"remove {repository}@{digest}")

    def blob_size(self, repository: str, digest: str) -> int | None:
        """In bytes; ``None`` when the repository has no such blob."""
        with self._connection() as connection:
            connection.request("HEAD", f"/v2/{repository}/blobs/{digest}")
            response = connection.getresponse()
            response.read()
        return int(response.getheader("Content-Length") or 0) if response.status == 200 else None

    def tags(self, repository: str) -> tuple[str, ...]:
        """The repository's tags. Raises `NotFound` when there is no such repository."""
        with self._connection() as connection:
            connection.request("GET", f"/v2/{repository}/tags/list")
            response = connection.getresponse()
            body = response.read()
        if response.status == 404:
            raise NotFound(f"the sandbox's registry has no repository {repository}")
        return tuple(sorted(json.loads(body).get("tags") or ()))

    @contextmanager
    def _connection(self, timeout: float = 10) -> Iterator[http.client.HTTPConnection]:
        connection = _Connection(self, timeout)
        try:
            yield connection
        except (ConnectionRefusedError, FileNotFoundError):
            raise Unreachable(
                f"the sandbox's registry does not answer at {self.address}", hint="runctl sandbox start"
            ) from None
        finally:
            connection.close()

    def _config(self) -> dict[str, object]:
        return {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.home / "registry")},
                "delete": {"enabled": True},
            },
            "http": {
                "net": "tcp" if self.port else "unix",
                "addr": self.address,
                "secret": secrets.token_hex(16),
            },
        }

    def _configured_address(self) -> str | None:
        try:
            return str(json.loads(self._config_file.read_text())["http"]["addr"])
        except (OSError, ValueError, KeyError):
            return None

    def _refuse_taken_port(self) -> None:
        if not self.port:
            (self.home / _SOCKET).unlink(missing_ok=True)
            return
        # The registry itself would say so too, but only in its log and after a restart of ours.
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                raise Conflict(
                    f"the sandbox's registry cannot listen on {self.address}: {error.strerror}"
                ) from error

    def _wait(self, timeout_seconds: float, process: subprocess.Popen[bytes] | None = None) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not self.healthy():
            if process is not None and process.poll() is not None:
                raise MachineError(f"{PROGRAM} ended at once: {self._last_log_line()}")
            if time.monotonic() > deadline:
                raise MachineError(
                    f"{PROGRAM} did not answer at {self.address} in {timeout_seconds:g} s: {self._last_log_line()}"
                )
            time.sleep(0.02)

    def _last_log_line(self) -> str:
        try:
            lines = self.log_file.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it said nothing"

    def _is_ours(self, pid: int) -> bool:
        """A number in a file may by now be another process: the command line names our configuration."""
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(self._config_file) in arguments

    def _ended(self, pid: int, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while True:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if not self._is_ours(pid):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)


def remove_registries(folder: Path) -> None:
    """No registry whose home is directly in ``folder`` runs, and nothing of them is left."""
    for home in folder.glob("*") if folder.exists() else []:
        Registry(home).stop()
    shutil.rmtree(folder, ignore_errors=True)


def _expect(response: http.client.HTTPResponse, status: int, doing: str) -> None:
    body = response.read()
    if response.status != status:
        message = body.decode(errors="replace").strip()[:500]
        raise MachineError(f"the sandbox's registry would not {doing}: {response.status} {message}")
