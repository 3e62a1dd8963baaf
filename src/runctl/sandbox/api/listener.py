"""A listening socket that is answered by threads of this process until it is told to stop."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
from collections.abc import Callable

log = logging.getLogger("runctl.sandbox")


class Listener:
    """Calls ``answer`` with every connection, each in a thread; the connection is closed afterwards."""

    def __init__(self, listening: socket.socket, answer: Callable[[socket.socket], None], name: str) -> None:
        self._listening = listening
        self._answer = answer
        self._name = name
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self._wake, self._woken = socket.socketpair()
        listening.setblocking(False)
        self._thread = threading.Thread(target=self._accept, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops listening, and closes what was open."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._wake.close()
        self._thread.join(timeout=5)

    def _accept(self) -> None:
        with self._listening, self._woken:
            while True:
                ready, _, _ = select.select([self._listening, self._woken], [], [])
                if self._woken in ready:
                    return
                try:
                    connection, _ = self._listening.accept()
                except OSError:
                    # The caller left before it was accepted.
                    continue
                connection.setblocking(True)
                with self._lock:
                    if self._stopped:
                        connection.close()
                        return
                    self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), name=self._name, daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._answer(connection)
        except OSError:
            # The other side has gone; nobody can be told.
            pass
        except Exception:
            log.exception("%s", self._name)
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()


def relayed_to(address: tuple[str, int]) -> Callable[[socket.socket], None]:
    """An ``answer`` that passes bytes to and from that address until both sides have ended."""

    def answer(connection: socket.socket) -> None:
        with socket.create_connection(address) as onward:
            for end in (connection, onward):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=_copy, args=(onward, connection), daemon=True)
            back.start()
            _copy(connection, onward)
            back.join()

    return answer


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        # One side was cut off; so is the other, or it would wait for ever.
        with contextlib.suppress(OSError):
            source.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
