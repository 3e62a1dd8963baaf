"""Somebody who waits for AWS is told what for: an answer that takes long is named while it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from runctl.core.progress import SILENT, Progress

SAY_AFTER_SECONDS = 3.0
_TICK_SECONDS = 1.0
"""How often the message is renewed."""


class Waits:
    """The requests that have no answer yet. Safe to use from several threads."""

    def __init__(
        self, progress: Progress = SILENT, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.progress = progress
        """Where it is said."""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._open: dict[int, tuple[str, float]] = {}
        """By thread: the host, and since when this host has not answered."""
        self._watching = False

    def begin(self, host: str) -> None:
        """This thread waits for the host; asking it again is the same wait."""
        with self._lock:
            known = self._open.get(threading.get_ident())
            if known is None or known[0] != host:
                self._open[threading.get_ident()] = (host, self._monotonic())
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="runctl-slow-calls", daemon=True).start()

    def end(self) -> None:
        """This thread waits no more."""
        with self._lock:
            self._open.pop(threading.get_ident(), None)

    def message(self) -> str | None:
        """What to say of the longest wait; ``None`` when there is none worth a word."""
        with self._lock:
            if not self._open:
                return None
            host, since = min(self._open.values(), key=lambda wait: wait[1])
        seconds = self._monotonic() - since
        return f"waiting for {host} to answer ({seconds:.0f} s)" if seconds >= SAY_AFTER_SECONDS else None

    def _watch(self) -> None:
        """Ends when nothing is open, so that a library's user is left no thread."""
        while True:
            time.sleep(_TICK_SECONDS)
            message = self.message()
            if message:
                self.progress.update(message)
            with self._lock:
                if not self._open:
                    self._watching = False
                    return


def watch(client: Any, waits: Waits) -> None:
    """Requests of the client are counted in."""
    service = client.meta.service_model.service_id.hyphenize()

    def sending(*, request: Any, **_: Any) -> None:
        if service == "s3" and request.body:
            # An upload takes its time; whoever sends it shows how far it is.
            return
        waits.begin(urlsplit(request.url).netloc or request.url)

    def answered(**_: Any) -> None:
        waits.end()

    client.meta.events.register(f"before-send.{service}", sending)
    # Also when the answer cannot be parsed or no further try is made.
    for event in ("after-call", "after-call-error", "before-parse"):
        client.meta.events.register_first(f"{event}.{service}", answered)
