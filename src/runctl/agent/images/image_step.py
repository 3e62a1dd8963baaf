"""A program that makes an image: its words go to the log."""

from __future__ import annotations

import os
from collections.abc import Mapping

from runctl.agent.errors import AgentError
from runctl.agent.supervising.attempt import Attempt


def image_step(
    attempt: Attempt,
    argv: list[str],
    failed: str,
    *,
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
) -> None:
    """Run a program to its end, its output in the log; ``env`` is added to the machine's own.

    Raises `AgentError` (``image-failed``), which begins with ``failed``.
    """
    since = attempt.log.size()
    variables = {**os.environ, **(env or {}), **attempt.marks()}
    pid = attempt.children.start(
        argv, output=attempt.log.fd, env=variables, cwd=attempt.folder.path, stdin=stdin
    )
    if attempt.wait_setup(pid).exit_code != 0:
        raise AgentError("image-failed", f"{failed}:\n{attempt.log.last_lines(since)}")
