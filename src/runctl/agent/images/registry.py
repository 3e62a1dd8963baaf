"""Images that come from a registry and go there: pulled where the machine lacks them, pushed for other machines."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Callable, Optional

from runctl.agent.attempt.attempt import Attempt
from runctl.agent.errors import AgentError, counted
from runctl.agent.images import credentials
from runctl.agent.images.pull_progress import PullProgress
from runctl.agent.images.terminal import run_in_terminal
from runctl.agent.machine import docker
from runctl.agent.spec import BuildSpec, ContainerSpec

FIRST_REPORT_SECONDS = 3.0
REPORT_SECONDS = 10.0
"""So often the log says how far it is."""
_ABSENT = re.compile(r"not found|manifest unknown|name unknown|does not exist", re.IGNORECASE)
_FINAL = re.compile(
    r"unauthorized|denied|no basic auth|no matching manifest|invalid reference|no space left|unsupported|x509"
    r"|http response to https",
    re.IGNORECASE,
)
"""Answers that the next try would have as well, besides `_ABSENT`."""
PAUSES = (3.0, 9.0, 20.0)
"""Seconds before each further try of a pull. What has arrived of the image stays with the engine."""


class NoProgressError(AgentError):
    """Nothing has moved for as long as the run allows."""


BuildStage = Callable[[str, Optional[str]], None]
"""Builds the image of a stage under a name."""


def pull_image(attempt: Attempt, engine: docker.Engine, container: ContainerSpec, image: str) -> None:
    """The engine has the image. Raises `AgentError` (``image-failed``)."""
    found, why = engine.inspect("image", image)
    if found is not None:
        attempt.log.line(f"using the image {image} that is on the machine")
        return
    if why:
        raise AgentError("image-failed", f"the Docker engine failed: {why}")
    attempt.phase(f"pulling the image {image}")
    try:
        _pull(attempt, engine, container, image, f"the image {image} could not be pulled", PAUSES)
    except AgentError as error:
        if (
            attempt.spec.attempt > 1
            and "@sha256:" in image
            and not is_final(error.message.replace(image, ""))
        ):
            # An attempt before this one had the same image from the same registry: it is there when that answers.
            raise AgentError("lost", error.message, error.hint) from error
        raise


def is_final(output: str) -> bool:
    """Whether a registry that says this says it the next time as well. Pure."""
    return _ABSENT.search(output) is not None or _FINAL.search(output) is not None


def fetch(
    attempt: Attempt, engine: docker.Engine, container: ContainerSpec, reference: str, tag: str
) -> bool:
    """Whether the registry had the image: the engine has it as ``tag`` then.

    What else goes wrong is told in the log: the image is built instead.
    """
    attempt.phase(f"looking for the image {reference}")
    try:
        _pull(attempt, engine, container, reference, "it could not be pulled")
        _tag(engine, reference, tag)
    except AgentError as error:
        absent = _ABSENT.search(str(error))
        why = "the registry does not have it" if absent else f"the registry cannot be used: {error}"
        attempt.log.line(f"{why}; the image is built here")
        return False
    attempt.log.line(f"the image {reference} was in the registry: there is nothing to build")
    return True


def publish(
    attempt: Attempt,
    engine: docker.Engine,
    container: ContainerSpec,
    build: BuildSpec,
    build_stage: BuildStage | None,
) -> None:
    """The registry has the image and its caches; ``build_stage`` is `None` where docker cannot build these.

    Where that does not succeed the log says why, and the run goes on: the image is here.
    """
    try:
        _tag(engine, build.tag, str(build.published))
        _push(attempt, engine, container, str(build.published))
        for reference, stage in build.caches.items():
            if build_stage is None:
                break
            try:
                if stage:
                    build_stage(reference, stage)
                else:
                    _tag(engine, build.tag, reference)
                _push(attempt, engine, container, reference)
            finally:
                engine.call("image", "rm", "--no-prune", reference)
    except AgentError as error:
        attempt.log.line(f"not all of the image is in the registry, and other machines build it: {error}")


def _tag(engine: docker.Engine, image: str, name: str) -> None:
    done = engine.call("image", "tag", image, name)
    if done.returncode != 0:
        raise AgentError("image-failed", docker.text(done.stderr))


def _pull(
    attempt: Attempt,
    engine: docker.Engine,
    container: ContainerSpec,
    reference: str,
    failed: str,
    pauses: Sequence[float] = (),
) -> None:
    """``docker pull`` has ended well, in the end. Raises `AgentError` (``image-failed``) where the answer is final or
    no try is left, also when nothing has moved for too long: a large image takes as long as it takes."""
    for pause in pauses:
        try:
            return _pull_once(attempt, engine, container, reference, failed)
        except AgentError as error:
            if isinstance(error, NoProgressError) or is_final(error.message.replace(reference, "")):
                raise
            attempt.log.line(f"{error.message}; it is tried again in {pause:g} s")
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0:
            attempt.check()
            attempt.children.pause(min(left, 1.0))
        attempt.check()
    return _pull_once(attempt, engine, container, reference, failed)


def _pull_once(
    attempt: Attempt, engine: docker.Engine, container: ContainerSpec, reference: str, failed: str
) -> None:
    began = time.monotonic()
    next_report = began + FIRST_REPORT_SECONDS
    progress = PullProgress()

    def take(data: bytes) -> bool:
        nonlocal next_report
        moved = progress.feed(data)
        if time.monotonic() >= next_report:
            attempt.phase(f"pulling: {progress}")
            next_report = time.monotonic() + REPORT_SECONDS
        return moved

    def stuck(silence: float) -> AgentError:
        return NoProgressError(
            "image-failed",
            f"{failed}: no progress for {silence:.15g} s ({progress})",
            "is the registry reachable from the machine? docker.pull_timeout sets how long to wait",
        )

    output = _docker(attempt, engine, container, ("pull", reference), progress, take, stuck)
    if output is not None:
        last = "\n".join(output[-5:]) or "docker pull failed and gave no reason"
        raise AgentError("image-failed", f"{failed}:\n{last}", _hint(last))
    _, layers, here, _, _ = progress.numbers()
    seconds = time.monotonic() - began
    attempt.log.line(f"pulled {counted(layers, 'layer')}, {here / 10**6:.0f} MB in {seconds:.0f} s")


def _push(attempt: Attempt, engine: docker.Engine, container: ContainerSpec, reference: str) -> None:
    """``docker push`` has ended well. Raises `AgentError`, also when it has said nothing for as long as a pull may."""
    attempt.phase(f"pushing {reference}")
    began, progress = time.monotonic(), PullProgress()

    def take(data: bytes) -> bool:
        progress.feed(data)
        # It draws only when something has changed.
        return bool(data)

    def stuck(silence: float) -> AgentError:
        return AgentError("image-failed", f"the push makes no progress for {silence:.15g} s")

    output = _docker(attempt, engine, container, ("push", reference), progress, take, stuck)
    if output is not None:
        raise AgentError("image-failed", "\n".join(output[-3:]) or "docker push failed and gave no reason")
    attempt.log.line(f"pushed {reference} in {time.monotonic() - began:.0f} s")


def _docker(
    attempt: Attempt,
    engine: docker.Engine,
    container: ContainerSpec,
    arguments: Sequence[str],
    progress: PullProgress,
    take: Callable[[bytes], bool],
    stuck: Callable[[float], AgentError],
) -> list[str] | None:
    """Run docker with the run's logins; what it said besides its progress if it failed, ``None`` if it did not."""
    argv = engine.command(*credentials.config_options(attempt.spec.run_id), *arguments)
    exited = run_in_terminal(attempt, argv, take, stuck, container.pull_timeout_seconds)
    progress.close()
    return None if exited.exit_code == 0 else progress.messages


def _hint(output: str) -> str:
    if "unauthorized" in output or "denied" in output or "no basic auth" in output:
        return "the machine is not logged in to the registry, or may not read it"
    if "not found" in output or "manifest unknown" in output:
        return "check the image's name and tag, and that it is there for this machine's architecture"
    return ""
