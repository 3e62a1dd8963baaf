"""A TCP port on loopback that nobody listens on at the moment."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Taken by the caller a moment later; nobody else is told of it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
