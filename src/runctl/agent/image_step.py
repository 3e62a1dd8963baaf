"""A program that makes or fetches an image: its words go to the log, and a silence that is too long ends it."""

from __future__ import annotations

import os
import time
from typing import Callable, List, Optional

from runctl.agent.attempt import Attempt
from runctl.agent.errors import AgentError


def image_step(attempt: Attempt, argv: List[str], failed: str, silence: Optional[float]) -> None:
    """Run a program whose words go to the log, to its end. Raises `AgentError` (``image-failed``), also for a
    program that has said nothing for ``silence`` seconds."""
    since = attempt.log.size()
    env = {**os.environ, **attempt.marks()}
    pid = attempt.children.start(argv, output=attempt.log.fd, env=env, cwd=attempt.folder.path)
    quiet = _Silence(attempt.log.size, silence)
    while silence is not None and not attempt.children.ended(pid):
        if attempt.ending() is not None:
            break
        if quiet.too_long():
            attempt.children.end_all(1.0)
            raise AgentError("image-failed", "{}: no progress for {:g} s".format(failed, silence))
        attempt.children.pause(1.0)
    ended = attempt.wait_setup(pid)
    if ended.exit_code != 0:
        raise AgentError("image-failed", "{}:\n{}".format(failed, attempt.log.last_lines(since)))


class _Silence:
    """Notices when a number stops growing."""

    def __init__(self, measure: Callable[[], int], limit: Optional[float]) -> None:
        self._measure, self._limit = measure, limit
        self._seen, self._since = measure(), time.monotonic()

    def too_long(self) -> bool:
        """Whether it has not changed for the whole limit."""
        now = self._measure()
        if now != self._seen:
            self._seen, self._since = now, time.monotonic()
        return self._limit is not None and time.monotonic() - self._since > self._limit
