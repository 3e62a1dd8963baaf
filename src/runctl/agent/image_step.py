"""A program that makes an image: its words go to the log."""

from __future__ import annotations

import os
from typing import List

from runctl.agent.attempt import Attempt
from runctl.agent.errors import AgentError


def image_step(attempt: Attempt, argv: List[str], failed: str) -> None:
    """Run a program whose words go to the log, to its end. Raises `AgentError` (``image-failed``)."""
    since = attempt.log.size()
    env = {**os.environ, **attempt.marks()}
    pid = attempt.children.start(argv, output=attempt.log.fd, env=env, cwd=attempt.folder.path)
    if attempt.wait_setup(pid).exit_code != 0:
        raise AgentError("image-failed", "{}:\n{}".format(failed, attempt.log.last_lines(since)))
