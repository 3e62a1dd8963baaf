"""A run's image: built from the project, or named and pulled where it is missing."""

from __future__ import annotations

from runctl.agent import docker
from runctl.agent.attempt import Attempt
from runctl.agent.image_build import build_image
from runctl.agent.image_pull import pull_image


def ready_image(attempt: Attempt, engine: docker.Engine) -> str:
    """The engine has the run's image; its reference. Raises `AgentError` (``image-failed``)."""
    container = attempt.spec.container
    assert container is not None  # noqa: S101 (the supervisor has looked)
    if container.dockerfile is not None:
        return build_image(attempt, engine)
    image = str(container.image)
    pull_image(attempt, engine, image)
    return image
