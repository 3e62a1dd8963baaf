"""A run's image: built from the project, or named and pulled where it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runctl.agent.containers import docker
from runctl.agent.images import credentials as entrust
from runctl.agent.images.image_build import build_image
from runctl.agent.images.image_pull import pull_image
from runctl.agent.supervising.attempt import Attempt


def ready_image(attempt: Attempt, engine: docker.Engine) -> str:
    """The engine has the run's image; its reference. What was entrusted for it is gone, however it went.

    Raises `AgentError` (``image-failed``).
    """
    container = attempt.spec.container
    assert container is not None  # noqa: S101 (the supervisor has looked)
    try:
        if container.dockerfile is not None:
            return build_image(attempt, engine)
        image = str(container.image)
        pull_image(attempt, engine, image)
        return image
    finally:
        entrust.forget(attempt.spec.run_id)


def look(request: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the engine has an image: ``{"present", "reason"}``; an engine that is not there has none."""
    engine = docker.find()
    if not engine.available:
        return {"present": False, "reason": engine.reason}
    found, why = engine.inspect("image", str(request.get("reference", "")))
    return {"present": found is not None, "reason": why}
