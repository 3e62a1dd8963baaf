"""An image that was built on one machine and serves the others: it is in a registry, with what its builds can use."""

from __future__ import annotations

import re
import time
from typing import Callable, Optional

from runctl.agent.containers import docker
from runctl.agent.errors import AgentError
from runctl.agent.images import credentials as entrust
from runctl.agent.images.image_pull import pull
from runctl.agent.images.pull_progress import PullProgress
from runctl.agent.machine.terminal import drawn
from runctl.agent.spec import BuildSpec
from runctl.agent.supervising.attempt import Attempt

Make = Callable[[str, Optional[str]], None]
"""Builds the image of a stage under a name."""
_ABSENT = re.compile(r"not found|manifest unknown|name unknown|does not exist", re.IGNORECASE)


def fetch(attempt: Attempt, engine: docker.Engine, reference: str, tag: str) -> bool:
    """Whether the registry had the image: the engine has it as ``tag`` then.

    What else goes wrong is told in the log: the image is built instead.
    """
    attempt.phase(f"looking for the image {reference}")
    argv = engine.command(*entrust.config_options(attempt.spec.run_id), "pull", reference)
    try:
        pull(attempt, argv, "it could not be pulled")
        _name(engine, reference, tag)
    except AgentError as error:
        absent = _ABSENT.search(str(error))
        words = "the registry does not have it" if absent else f"the registry is of no help: {error}"
        attempt.log.line(f"{words}; the image is built here")
        return False
    attempt.log.line(f"the image {reference} was in the registry: there is nothing to build")
    return True


def publish(attempt: Attempt, engine: docker.Engine, build: BuildSpec, make: Make | None) -> None:
    """The registry has the image and its caches; ``make`` is `None` where docker cannot make these.

    Where that does not succeed the log says why, and the run goes on: the image is here.
    """
    try:
        _name(engine, build.tag, str(build.published))
        _push(attempt, engine, str(build.published))
        for reference, stage in build.caches.items():
            if make is None:
                break
            try:
                if stage:
                    make(reference, stage)
                else:
                    _name(engine, build.tag, reference)
                _push(attempt, engine, reference)
            finally:
                engine.call("image", "rm", "--no-prune", reference)
    except AgentError as error:
        attempt.log.line(f"not all of the image is in the registry, and other machines build it: {error}")


def _name(engine: docker.Engine, image: str, name: str) -> None:
    done = engine.call("image", "tag", image, name)
    if done.returncode != 0:
        raise AgentError("image-failed", docker.words(done.stderr))


def _push(attempt: Attempt, engine: docker.Engine, reference: str) -> None:
    """``docker push`` has ended well. Raises `AgentError`, also when it has said nothing for as long as a pull may."""
    attempt.phase(f"pushing {reference}")
    argv = engine.command(*entrust.config_options(attempt.spec.run_id), "push", reference)
    began, progress = time.monotonic(), PullProgress()

    def take(data: bytes) -> bool:
        progress.feed(data)
        # It draws only when something has changed.
        return bool(data)

    def stuck(silence: float) -> AgentError:
        return AgentError("image-failed", f"the push makes no progress for {silence:g} s")

    ended = drawn(attempt, argv, take, stuck)
    progress.close()
    if ended.exit_code != 0:
        words = "\n".join(progress.said[-3:]) or "docker push failed without a word"
        raise AgentError("image-failed", words)
    attempt.log.line(f"pushed {reference} in {time.monotonic() - began:.0f} s")
