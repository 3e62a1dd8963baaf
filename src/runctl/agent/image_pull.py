"""An image that the machine's engine does not have is pulled."""

from __future__ import annotations

from runctl.agent import docker
from runctl.agent.attempt import Attempt
from runctl.agent.errors import AgentError
from runctl.agent.image_step import image_step

PULL_SILENCE_SECONDS = 300.0
"""A pull that says nothing for so long hangs."""


def pull_image(attempt: Attempt, engine: docker.Engine, image: str) -> None:
    """The engine has the image. Raises `AgentError` (``image-failed``)."""
    found, why = engine.inspect("image", image)
    if found is not None:
        attempt.log.line("using the image {} that is on the machine".format(image))
        return
    if why:
        raise AgentError("image-failed", "the Docker engine failed: {}".format(why))
    attempt.phase("pulling the image {}".format(image))
    image_step(attempt, engine.command("pull", image), "the image could not be pulled", PULL_SILENCE_SECONDS)
