"""An image that is pulled for a run: how far it is, and what happens when it gets no further."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

import pytest

from runctl.agent.end_reason import EndReason
from tests.agent import engine as engines
from tests.agent.driver import Agent, until
from tests.agent.engine import Engine
from tests.agent.images.slow_registry import Door, registry

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.docker]

LAYER_BYTES = 6_000_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Door, str]]:
    """An engine, the door of a registry, and the name of an image there."""
    folder = tmp_path_factory.mktemp("pull")
    engine = engines.start(folder, "--max-download-attempts", "1")
    try:
        with registry(folder) as door:
            engines.python_image(engine, "base:py")
            name = f"127.0.0.1:{door.port}/team/image:1"
            context = folder / "context"
            context.mkdir()
            (context / "a").write_bytes(os.urandom(LAYER_BYTES))
            (context / "b").write_bytes(os.urandom(LAYER_BYTES))
            (context / "Dockerfile").write_text("FROM base:py\nCOPY a /a\nCOPY b /b\n")
            engine.docker("build", "--tag", name, str(context))
            engine.docker("push", name)
            yield engine, door, name
    finally:
        engines.stop(engine)


@pytest.fixture
def pulling(agent: Agent, world: tuple[Engine, Door, str]) -> Iterator[tuple[Agent, Door, str]]:
    """The agent with that engine, which does not have the image."""
    engine, door, name = world
    engine.docker("rmi", "--force", name, check=False)
    agent.env = {"DOCKER_HOST": engine.host}
    agent.sync({"train.py": "print('ran')\n"})
    yield agent, door, name
    door.bytes_left, door.bytes_per_second, door.drops = None, None, False
    agent.end_everything()
    agent.started.clear()
    assert engine.docker("ps", "--all", "--quiet") == ""


def test_the_log_says_how_far_a_pull_is(pulling: tuple[Agent, Door, str]) -> None:
    agent, door, name = pulling
    door.bytes_per_second = 1_500_000
    agent.start("r", "train.py", container={"image": name})
    assert agent.ended("r").reason is EndReason.COMPLETED, agent.log("r")
    assert re.search(r"pulling: layer \d of 3, \d+ of (at least )?\d+ MB", agent.log("r")), agent.log("r")
    assert re.search(r"pulled 3 layers, 12 MB in \d+ s", agent.log("r"))


def test_a_pull_that_stalls_ends_although_it_never_fails(pulling: tuple[Agent, Door, str]) -> None:
    agent, door, name = pulling
    door.bytes_left = LAYER_BYTES
    agent.start("r", "train.py", container={"image": name, "pull_timeout_seconds": 2.0})
    end = agent.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert re.search(r"no progress for 2 s \(layer \d of 3, \d of", end.message), end.message


def test_a_registry_that_vanishes_in_between_is_asked_again(pulling: tuple[Agent, Door, str]) -> None:
    agent, door, name = pulling
    door.bytes_left, door.drops = LAYER_BYTES, True
    agent.start("r", "train.py", container={"image": name, "pull_timeout_seconds": 30.0})
    until(lambda: "it is tried again in" in agent.log("r"), "the first try's end")
    door.bytes_left, door.drops = None, False
    assert agent.ended("r").reason is EndReason.COMPLETED, agent.log("r")
    assert re.search(r"could not be pulled:\n.*(EOF|connection|reset)", agent.log("r")), agent.log("r")


def test_an_image_that_the_registry_does_not_have_is_named(pulling: tuple[Agent, Door, str]) -> None:
    agent, _, name = pulling
    agent.start("r", "train.py", container={"image": name.replace(":1", ":2")})
    end = agent.ended("r")
    assert end.reason is EndReason.IMAGE_FAILED
    assert "team/image:2" in end.message
    assert "check the image's name and tag" in end.message


def test_stop_ends_a_pull_at_once(pulling: tuple[Agent, Door, str]) -> None:
    agent, door, name = pulling
    door.bytes_left = LAYER_BYTES
    agent.start("r", "train.py", container={"image": name})
    until(lambda: "pulling the image" in agent.log("r"), "the pull")
    began = time.monotonic()
    seen = agent.stop("r")
    assert seen.end is not None
    assert seen.end.reason is EndReason.STOPPED
    assert time.monotonic() - began < 20
