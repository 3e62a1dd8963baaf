"""Bytes from socket to socket."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable

import pytest

from runctl.sandbox.api.streams import PIPE_BYTES, pump

Pump = Callable[[socket.socket, socket.socket, int | None], int]


@pytest.fixture(params=["kernel", "python"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Pump:
    """Both ways that bytes can take."""
    if request.param == "python":
        monkeypatch.delattr(os, "splice", raising=False)
    elif not hasattr(os, "splice"):
        pytest.skip("only on Linux")
    return pump


def test_everything_arrives_as_it_was(way: Pump) -> None:
    content = os.urandom(3 * PIPE_BYTES + 7)
    ours, source = socket.socketpair()
    sink, theirs = socket.socketpair()
    received = hashlib.sha256()

    def send() -> None:
        ours.sendall(content)
        ours.close()

    def receive() -> None:
        while data := theirs.recv(1 << 16):
            received.update(data)

    threads = [threading.Thread(target=target) for target in (send, receive)]
    with source, theirs:
        for thread in threads:
            thread.start()
        with sink:
            count = way(source, sink, None)
        for thread in threads:
            thread.join()

    assert count == len(content)
    assert received.digest() == hashlib.sha256(content).digest()


def test_what_is_beyond_the_limit_stays(way: Pump) -> None:
    ours, source = socket.socketpair()
    sink, theirs = socket.socketpair()
    with ours, source, sink, theirs:
        ours.sendall(b"onetwo")

        assert way(source, sink, 3) == 3
        assert theirs.recv(10) == b"one"
        assert source.recv(10) == b"two"
        assert way(source, sink, 0) == 0


def test_a_sink_that_has_gone_is_an_error(way: Pump) -> None:
    ours, source = socket.socketpair()
    sink, theirs = socket.socketpair()
    with ours, source, sink:
        theirs.close()
        ours.sendall(b"x")

        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            way(source, sink, None)


def test_nothing_is_left_open(way: Pump) -> None:
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208
    ours, source = socket.socketpair()
    with source:
        ours.close()
        with socket.socket() as sink:
            way(source, sink, None)

    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208
