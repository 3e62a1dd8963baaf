"""A real registry behind a door that can be narrowed, or closed, while something is being fetched."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.agent.driver import until
from tests.availability import find_program


class Door:
    """Hands connections on to a port. ``bytes_left`` is how much it still lets through towards the client."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.bytes_left: int | None = None
        self.drops = False
        """What happens when nothing is left: connections end, and new ones are refused; else they hang."""
        self.bytes_per_second: int | None = None
        self.closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.closed = True
        self._listener.close()

    def _serve(self) -> None:
        while not self.closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.drops and self.bytes_left == 0:
                client.close()
                continue
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with (
            client,
            socket.create_connection(("127.0.0.1", self._target)) as server,
            contextlib.suppress(OSError),
        ):
            while not self.closed:
                readable, _, _ = select.select([client, server], [], [], 0.2)
                for item in readable:
                    data = item.recv(8192)
                    if not data or (item is server and not self._let_through(len(data))):
                        return
                    (client if item is server else server).sendall(data)

    def _let_through(self, size: int) -> bool:
        if self.bytes_per_second is not None:
            time.sleep(size / self.bytes_per_second)
        left = self.bytes_left
        if left is None:
            return True
        self.bytes_left = max(0, left - size)
        while self.bytes_left == 0 and not self.closed and not self.drops:
            time.sleep(0.1)
        # Opened again, a connection that had to wait is over all the same.
        return left > size


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[Door]:
    """A registry of its own, and the door to it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    settings = folder / "registry.yml"
    settings.write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {folder / 'registry'}\n"
        f"http:\n  addr: 127.0.0.1:{port}\n"
    )
    with (folder / "registry.log").open("wb") as log:
        program = find_program("docker-registry") or "docker-registry"
        process = subprocess.Popen([program, "serve", str(settings)], stdout=log, stderr=log)

    def answers() -> bool:
        assert process.poll() is None, (folder / "registry.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    door = None
    try:
        until(answers, "the registry")
        door = Door(port)
        yield door
    finally:
        if door is not None:
            door.close()
        process.terminate()
        process.wait(30)
