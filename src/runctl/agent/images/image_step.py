"""A program that makes an image: its words go to the log."""

from __future__ import annotations

import contextlib
import os
import tempfile
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
    starts_script: bool = False,
) -> None:
    """Run a program to its end, its output in the log; ``env`` is added to the machine's own.

    While a program ``starts_script``, the log is the script's, whose bytes nothing may part: what the program says is
    in the log only if it fails. Raises `AgentError` (``image-failed``), which begins with ``failed``.
    """
    since = attempt.log.size()
    variables = {**os.environ, **(env or {}), **attempt.marks()}
    with contextlib.ExitStack() as held:
        kept = held.enter_context(tempfile.TemporaryFile()) if starts_script else None
        pid = attempt.children.start(
            argv,
            output=attempt.log.fd if kept is None else kept.fileno(),
            env=variables,
            cwd=attempt.folder.path,
            stdin=stdin,
        )
        if attempt.wait_setup(pid).exit_code == 0:
            return
        if kept is not None:
            kept.seek(0)
            attempt.log.lines(kept.read())
    raise AgentError("image-failed", f"{failed}:\n{attempt.log.last_lines(since)}")
