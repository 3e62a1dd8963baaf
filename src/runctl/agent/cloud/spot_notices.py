"""The one reader of EC2's notices to a spot machine: the interruption and the rebalance recommendation.

A thread of its own, so that a metadata service that does not answer delays nobody. It ends by itself on machines that
EC2 does not take back, and asks once a minute where no such service answers.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from typing import Callable, Protocol

from runctl.agent.interruption import Notice, parse_notice, parse_rebalance

POLL_SECONDS = 2.0
TIMEOUT_SECONDS = 1.0
"""The service is in the machine's own host."""
FIRST_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Between the first attempts at a service that has never answered."""
LATER_PAUSE = 60.0
"""Between all further ones: most likely there is none, and a network that comes up late hides no notice for ever."""
INTERRUPTION = "spot/instance-action"
REBALANCE = "events/recommendations/rebalance"
LIFE_CYCLE = "instance-life-cycle"


class MetadataService(Protocol):
    """What is asked; see `runctl.agent.cloud.metadata.Metadata`."""

    clock_ahead: float

    def get(self, path: str) -> str | None:
        """Raises `OSError`."""
        ...


class NoticeReader:
    """What EC2 has announced so far. Read from any thread; nothing here waits, but for `read_now`."""

    def __init__(
        self,
        metadata: MetadataService,
        on_news: Callable[[], None] = lambda: None,
        pauses: Iterable[float] = FIRST_PAUSES,
        later: float = LATER_PAUSE,
    ) -> None:
        """``on_news`` is called in the reader's thread, as soon as there is a notice or a recommendation."""
        self._metadata = metadata
        self._on_news = on_news
        self._pauses, self._later = iter(pauses), later
        self._ask = threading.Event()
        self._answered = threading.Condition()
        self._begun = self._reads = 0
        self._over = False
        self._thread = threading.Thread(target=self._run, name="spot-notices", daemon=True)
        self.interruption: Notice | None = None
        """The newest notice: EC2 may bring the end forward."""
        self.rebalance_at: float | None = None
        """When EC2 recommended to move, in seconds since the epoch."""

    def start(self) -> None:
        """Notices are heard from now on."""
        self._thread.start()

    def close(self) -> None:
        """Nobody asks any more; does not wait."""
        self._over = True
        self._ask.set()

    @property
    def listens(self) -> bool:
        """The machine is one that EC2 may take back, as far as is known."""
        return self._thread.is_alive()

    def read_now(self, seconds: float) -> None:
        """What is announced at this moment is known, if the service answers within so many seconds."""
        with self._answered:
            # One that is going on may have asked before.
            wanted = self._begun + 1
            self._ask.set()
            deadline = time.monotonic() + seconds
            while self._reads < wanted and self._thread.is_alive():
                left = deadline - time.monotonic()
                if left <= 0 or not self._answered.wait(left):
                    return

    def _run(self) -> None:
        if self._is_spot():
            while not self._over:
                with self._answered:
                    self._ask.clear()
                    self._begun += 1
                with contextlib.suppress(OSError):
                    self._read()
                with self._answered:
                    self._reads = self._begun
                    self._answered.notify_all()
                self._ask.wait(POLL_SECONDS)
        with self._answered:
            self._answered.notify_all()

    def _is_spot(self) -> bool:
        """Whether there is something to listen for; asks until the service has answered once."""
        while not self._over:
            try:
                return self._metadata.get(LIFE_CYCLE) != "on-demand"
            except OSError:
                self._ask.wait(next(self._pauses, self._later))
                self._ask.clear()
        return False

    def _read(self) -> None:
        """Raises `OSError`. What cannot be understood is no notice."""
        before = (self.interruption, self.rebalance_at)
        body = self._metadata.get(INTERRUPTION)
        with contextlib.suppress(ValueError):
            if body is not None:
                self.interruption = parse_notice(body, self._metadata.clock_ahead)
        body = self._metadata.get(REBALANCE)
        with contextlib.suppress(ValueError):
            if body is not None:
                self.rebalance_at = parse_rebalance(body, self._metadata.clock_ahead)
        if (self.interruption, self.rebalance_at) != before:
            self._on_news()
