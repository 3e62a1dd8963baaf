"""The ends of a run's attempts in its store: those of this machine are put there, those of all are read."""

from __future__ import annotations

import time
from collections.abc import Callable

from runctl.agent.checkpoints import layout
from runctl.agent.checkpoints.stores import Store, read_stored
from runctl.agent.encoding import dumps
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.errors import AgentError
from runctl.agent.records import attempts
from runctl.agent.spec import EndRecord
from runctl.agent.supervising.taken_up_attempt import rank_of

PUBLISH_SECONDS = 600.0
"""For how long the end of a run is tried to be written into the store, before the machine goes on with its own end."""
RETRY_SECONDS = 5.0
"""After a store that does not answer."""


class StoredEnds:
    """Those of one run. What reads raises what the store raises."""

    def __init__(self, store: Store, run_id: str, say: Callable[[str], None]) -> None:
        self._store, self._run_id, self._say = store, run_id, say
        self._published: set[int] = set()
        """Attempts of this machine whose ends are in the store."""

    def of_the_run(self) -> EndReason | None:
        """How an attempt has ended that no other one follows; ``None``: the run goes on."""
        for key in self._store.keys(layout.ATTEMPTS):
            if layout.is_end_key(key):
                end = read_stored(self._store, key, EndRecord)
                if end is not None and end.run_reason not in RETRIED:
                    return end.run_reason
        return None

    def of_attempt(self, attempt: int) -> EndRecord | None:
        """By rank 0's word; attempt 0 is none."""
        return read_stored(self._store, layout.end_key(attempt), EndRecord) if attempt else None

    def publish_left(self) -> None:
        """The store has the ends of this machine's attempts that it lacks: those that a process before this one has not
        come to, and one that went on here when the run had already ended."""
        for before in attempts(self._run_id):
            end = before.end()
            if end is not None and before.attempt not in self._published:
                self.publish(before.attempt, end, rank_of(before))

    def publish(self, attempt: int, end: EndRecord, rank: int) -> None:
        """The store has the attempt's end, as its machine or this process has written it; tried for a while."""
        until = time.monotonic() + (PUBLISH_SECONDS if end.run_reason not in RETRIED else RETRY_SECONDS)
        while True:
            try:
                self._store.put(layout.end_key(attempt, rank), dumps(end).encode(), only_new=True)
            except AgentError as error:
                self._say(f"the end of attempt {attempt} is not in the store: {error.message}")
                if time.monotonic() >= until:
                    return
                time.sleep(RETRY_SECONDS)
            else:
                self._published.add(attempt)
                return
