"""A store that goes away and comes back, or takes nothing large."""

from __future__ import annotations

import select
import socket
import threading
import time
from urllib.parse import urlsplit

LARGE_BYTES = 1 << 15
"""At once: requests without a body, and small ones with it, are less."""


class Proxy:
    """Stands before the store, and closes every connection while it ``refuses``; while it ``holds_large``, large data
    do not arrive, and their connections stay."""

    def __init__(self, endpoint: str) -> None:
        url = urlsplit(endpoint)
        self._target = (url.hostname or "", url.port or 80)
        self.refuses = False
        self.holds_large = False
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            while not self.refuses:
                readable, _, _ = select.select([client, server], [], [], 0.05)
                for source in readable:
                    try:
                        data = source.recv(1 << 16)
                    except OSError:
                        return
                    if not data:
                        return
                    if source is client:
                        self._hold(len(data))
                    (server if source is client else client).sendall(data)

    def _hold(self, size: int) -> None:
        while self.holds_large and size >= LARGE_BYTES and not self.refuses:
            time.sleep(0.05)
