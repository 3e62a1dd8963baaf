"""Renews a lease that was taken, in a thread of its own, until whoever has it gives it up or loses it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Callable

from runctl.agent.lease import RENEWALS, Claim

PAUSE_SECONDS = 2.0
"""Between two tries at a store that does not answer."""
CLOSING_SECONDS = 15.0
"""For how long giving it up is tried: after that it ends by itself."""


class LeaseKeeper:
    """A claim that holds a lease. Used from any thread; the claim is used by this alone from now on."""

    def __init__(self, claim: Claim, seconds: float, on_news: Callable[[], None] = lambda: None) -> None:
        """``on_news`` is called in the keeper's thread after every renewal, done or not."""
        self._claim, self._every = claim, seconds / RENEWALS
        self._on_news = on_news
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self.trouble = ""
        """Why it could not be renewed at the last try; empty if it was."""

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_up()

    @property
    def until(self) -> float:
        """See `Claim.until`."""
        return float("-inf") if self._lost else self._claim.until

    @property
    def holds(self) -> bool:
        """See `Claim.holds`."""
        return not self._lost and self._claim.holds

    @property
    def wanted_by(self) -> str:
        """See `Claim.wanted_by`."""
        return self._claim.wanted_by

    @property
    def attempt(self) -> int:
        """The last number that was given to an attempt of the run."""
        lease = self._claim.lease
        return lease.attempt if lease is not None else 0

    def begin_attempt(self, at_least: int = 1) -> int | None:
        """See `Claim.begin_attempt`. Raises what the store raises."""
        with self._lock:
            return self._claim.begin_attempt(at_least)

    def give_up(self, ended: str = "") -> None:
        """Nobody renews it any more, and others may take it at once, if the store answers; ``ended`` as in `Lease`."""
        if self._over.is_set():
            return
        self._over.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        stop = threading.Event()
        for _ in range(int(CLOSING_SECONDS / PAUSE_SECONDS)):
            try:
                self._claim.give_up(ended)
            except Exception as error:  # noqa: BLE001 (whatever the store says, the lease ends by itself)
                self.trouble = str(error)
                stop.wait(PAUSE_SECONDS)
            else:
                return

    def _run(self) -> None:
        pause = self._every
        while not self._over.wait(pause):
            try:
                with self._lock:
                    self._lost = not self._claim.renew()
                self.trouble, pause = "", self._every
            except Exception as error:  # noqa: BLE001 (a store that is away may come back in time)
                self.trouble, pause = str(error), PAUSE_SECONDS
            self._on_news()
            if self._lost:
                return
