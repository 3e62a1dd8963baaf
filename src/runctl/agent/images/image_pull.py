"""An image that the machine's engine does not have is pulled."""

from __future__ import annotations

import time

from runctl.agent.containers import docker
from runctl.agent.errors import AgentError
from runctl.agent.images import credentials as entrust
from runctl.agent.images.pull_progress import PullProgress
from runctl.agent.machine.terminal import drawn
from runctl.agent.supervising.attempt import Attempt

FIRST_WORD_SECONDS = 3.0
WORD_SECONDS = 10.0
"""So often the log says how far it is."""


def pull_image(attempt: Attempt, engine: docker.Engine, image: str) -> None:
    """The engine has the image. Raises `AgentError` (``image-failed``)."""
    found, why = engine.inspect("image", image)
    if found is not None:
        attempt.log.line(f"using the image {image} that is on the machine")
        return
    if why:
        raise AgentError("image-failed", f"the Docker engine failed: {why}")
    attempt.phase(f"pulling the image {image}")
    argv = engine.command(*entrust.config_options(attempt.spec.run_id), "pull", image)
    pull(attempt, argv, f"the image {image} could not be pulled")


def pull(attempt: Attempt, argv: list[str], failed: str) -> None:
    """``docker pull`` has ended well. Raises `AgentError` (``image-failed``), also when nothing has moved for
    too long: a large image takes as long as it takes."""
    began = time.monotonic()
    next_word = began + FIRST_WORD_SECONDS
    progress = PullProgress()

    def take(data: bytes) -> bool:
        nonlocal next_word
        moved = progress.feed(data)
        if time.monotonic() >= next_word:
            attempt.log.line("pulling: " + progress.words())
            attempt.update(phase="pulling: " + progress.words())
            next_word = time.monotonic() + WORD_SECONDS
        return moved

    def stuck(silence: float) -> AgentError:
        return AgentError(
            "image-failed",
            f"{failed}: no progress for {silence:g} s ({progress.words()})",
            "is the registry reachable from the machine? docker.pull_timeout sets how long to wait",
        )

    ended = drawn(attempt, argv, take, stuck)
    progress.close()
    if ended.exit_code != 0:
        words = "\n".join(progress.said[-5:]) or "docker pull failed without a word"
        raise AgentError("image-failed", f"{failed}:\n{words}", _hint(words))
    _, layers, here, _, _ = progress.numbers()
    attempt.log.line(f"pulled {layers} layer(s), {here / 10**6:.0f} MB in {time.monotonic() - began:.0f} s")


def _hint(words: str) -> str:
    if "unauthorized" in words or "denied" in words or "no basic auth" in words:
        return "the machine is not logged in to the registry, or may not read it"
    if "not found" in words or "manifest unknown" in words:
        return "check the image's name and tag, and that it is there for this machine's architecture"
    return ""
