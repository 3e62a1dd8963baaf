"""An image that was built on one machine and serves the others: it is in a registry, with what its builds can use."""

from __future__ import annotations

import os
import re
import time
from typing import Callable, List, Optional

from runctl.agent import docker, entrust
from runctl.agent.attempt import Attempt
from runctl.agent.errors import AgentError
from runctl.agent.image_pull import pull
from runctl.agent.terminal import read, terminal

Make = Callable[[str, Optional[str]], None]
"""Builds the image of a stage under a name."""
_ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
_PROGRESS = re.compile(r"^[0-9a-f]{12}: |^The push refers to |: digest: |^$")
_ABSENT = re.compile(r"not found|manifest unknown|name unknown|does not exist", re.IGNORECASE)


def fetch(attempt: Attempt, engine: docker.Engine, reference: str, tag: str) -> bool:
    """Whether the registry had the image: the engine has it as ``tag`` then.

    What else goes wrong is told in the log: the image is built instead.
    """
    assert attempt.spec.container is not None  # noqa: S101 (it is built)
    attempt.phase("looking for the image {}".format(reference))
    argv = engine.command(*entrust.config_options(attempt.spec.run_id), "pull", reference)
    try:
        pull(attempt, argv, "it could not be pulled", attempt.spec.container.pull_timeout_seconds)
        _name(engine, reference, tag)
    except AgentError as error:
        absent = _ABSENT.search(str(error))
        words = "the registry does not have it" if absent else "the registry is of no help: {}".format(error)
        attempt.log.line("{}; the image is built here".format(words))
        return False
    attempt.log.line("the image {} was in the registry: there is nothing to build".format(reference))
    return True


def publish(attempt: Attempt, engine: docker.Engine, tag: str, make: Optional[Make]) -> None:
    """The registry has the image and its caches; ``make`` is `None` where docker cannot make these.

    Where that does not succeed the log says why, and the run goes on: the image is here.
    """
    build = attempt.spec.container.build if attempt.spec.container is not None else None
    assert build is not None  # noqa: S101 (asked with a name in a registry only)
    try:
        _name(engine, tag, str(build.published))
        _push(attempt, engine, str(build.published))
        for reference, stage in build.caches.items() if make is not None else ():
            if stage and make is not None:
                make(reference, stage)
            else:
                _name(engine, tag, reference)
            _push(attempt, engine, reference)
            engine.call("image", "rm", "--no-prune", reference)
    except AgentError as error:
        attempt.log.line(
            "not all of the image is in the registry, and other machines build it: {}".format(error)
        )


def _name(engine: docker.Engine, image: str, name: str) -> None:
    done = engine.call("image", "tag", image, name)
    if done.returncode != 0:
        raise AgentError("image-failed", docker.words(done.stderr))


def _push(attempt: Attempt, engine: docker.Engine, reference: str) -> None:
    """``docker push`` has ended well. Raises `AgentError`, also when it has said nothing for as long as a pull may."""
    attempt.phase("pushing {}".format(reference))
    assert attempt.spec.container is not None  # noqa: S101 (it has an image)
    silence = attempt.spec.container.pull_timeout_seconds
    argv = engine.command(*entrust.config_options(attempt.spec.run_id), "push", reference)
    began = moved = time.monotonic()
    said = b""
    with terminal() as (ours, theirs):
        env = {**os.environ, **attempt.marks()}
        pid = attempt.children.start(argv, output=theirs, env=env, cwd=attempt.folder.path)
        while not attempt.children.ended(pid) and attempt.ending() is None:
            drawn = read(ours)
            if drawn:
                moved, said = time.monotonic(), (said + drawn)[-(1 << 14) :]
            if time.monotonic() - moved > silence:
                attempt.children.end_all(1.0)
                raise AgentError("image-failed", "the push makes no progress for {:g} s".format(silence))
            attempt.children.pause(1.0, also=[ours])
        ended = attempt.wait_setup(pid)
        said += read(ours)
    if ended.exit_code != 0:
        raise AgentError("image-failed", "\n".join(_words(said)[-3:]) or "docker push failed without a word")
    attempt.log.line("pushed {} in {:.0f} s".format(reference, time.monotonic() - began))


def _words(drawn: bytes) -> List[str]:
    """What is no progress."""
    lines = re.split(rb"[\r\n]+", _ESCAPE.sub(b"\n", drawn))
    texts = [line.decode(errors="replace").strip() for line in lines]
    return [text for text in texts if not _PROGRESS.search(text)]
