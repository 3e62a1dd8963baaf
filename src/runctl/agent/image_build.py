"""An image that is built on the machine, from the synced project."""

from __future__ import annotations

from runctl.agent import docker, image_plan
from runctl.agent.attempt import Attempt
from runctl.agent.image_step import image_step


def build_image(attempt: Attempt, engine: docker.Engine) -> str:
    """The engine has the image of this project; its tag. Raises `AgentError` (``image-failed``)."""
    spec = attempt.spec
    assert spec.container is not None  # noqa: S101 (the supervisor has looked)
    tag = image_plan.tag(spec.project, attempt.live.tree or "")
    kit = docker.buildkit()
    words = image_plan.build(spec, attempt.folder.work, tag, plain_progress=kit)
    attempt.phase("building the image from {}".format(spec.container.dockerfile))
    argv = engine.command(*words, env={"DOCKER_BUILDKIT": "1" if kit else "0"})
    image_step(attempt, argv, "the image could not be built", None)
    return tag
