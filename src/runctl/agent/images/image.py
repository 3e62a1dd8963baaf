"""A run's image: built from the project, or named and pulled where it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runctl.agent.attempt.attempt import Attempt
from runctl.agent.images import credentials, dev_image
from runctl.agent.images.build import build_image
from runctl.agent.images.registry import pull_image
from runctl.agent.machine import docker
from runctl.agent.spec import ContainerSpec


def ready_image(attempt: Attempt, engine: docker.Engine, container: ContainerSpec) -> str:
    """The engine has the run's image; its reference. What was entrusted for it is gone, however it went.

    Raises `AgentError` (``image-failed``).
    """
    try:
        reusable = dev_image.reusable(attempt, engine, container)
        if reusable is not None:
            return reusable
        if container.dockerfile is not None:
            image = build_image(attempt, engine, container)
        else:
            image = str(container.image)
            pull_image(attempt, engine, container, image)
    finally:
        credentials.forget(attempt.spec.run_id)
    dev_image.remember(attempt, container, image)
    return image


def has_image(request: Mapping[str, Any]) -> dict[str, Any]:
    """The verb ``image``: whether the engine has one (``present``), and why that cannot be told (``reason``)."""
    engine = docker.find()
    if not engine.available:
        return {"present": False, "reason": engine.reason}
    found, why = engine.inspect("image", str(request.get("reference", "")))
    return {"present": found is not None, "reason": why}
