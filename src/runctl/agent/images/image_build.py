"""An image that is built on the machine, from the synced project."""

from __future__ import annotations

from runctl.agent.containers import docker
from runctl.agent.errors import AgentError
from runctl.agent.images import credentials as entrust
from runctl.agent.images import image_plan, image_share
from runctl.agent.images.image_step import image_step
from runctl.agent.supervising.attempt import Attempt


def build_image(attempt: Attempt, engine: docker.Engine) -> str:
    """The engine has the image of this project; its tag. Raises `AgentError` (``image-failed``)."""
    spec = attempt.spec
    assert spec.container is not None  # noqa: S101 (the supervisor has looked)
    build = spec.container.build
    named = build is not None and build.tree in (None, attempt.live.tree)
    tag = build.tag if build is not None and named else image_plan.tag(spec.project, attempt.live.tree or "")
    again = build is None or not named or build.no_cache or build.pull
    if not again and engine.inspect("image", tag)[0]:
        attempt.log.line(f"the image {tag} is on the machine: there is nothing to build")
        return tag
    published = build.published if build is not None and named else None
    if published and not again and image_share.fetch(attempt, engine, published, tag):
        return tag
    kit = docker.buildkit()
    secrets = build.secrets if build is not None else ()
    if secrets and not kit:
        raise AgentError(
            "image-failed",
            "the machine's docker has no BuildKit, which build secrets need",
            "install docker's plug-in buildx there, or build here: --build-on local",
        )
    files = {name: str(entrust.secret_file(spec.run_id, name)) for name in secrets}

    def make(image: str, stage: str | None = None) -> None:
        words = image_plan.build(
            spec, attempt.folder.work, image, plain_progress=kit, secrets=files, stage=stage
        )
        argv = engine.command(
            *entrust.config_options(spec.run_id), *words, env={"DOCKER_BUILDKIT": "1" if kit else "0"}
        )
        image_step(attempt, argv, "the image could not be built")

    attempt.phase(f"building the image from {spec.container.dockerfile}")
    make(tag)
    if build is not None and published:
        image_share.publish(attempt, engine, build, make if kit else None)
    return tag
