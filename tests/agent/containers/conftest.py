"""The Docker engine that the tests of this room share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent import engine as engines
from tests.agent.driver import Agent
from tests.agent.engine import BASE, Engine


@pytest.fixture(scope="package")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """It has an image with Python."""
    started = engines.start(tmp_path_factory.mktemp("engine"))
    try:
        engines.python_image(started, BASE)
        yield started
    finally:
        engines.stop(started)


@pytest.fixture
def machine(agent: Agent, engine: Engine) -> Iterator[Agent]:
    """The agent, with that engine; no container, volume or network is left afterwards."""
    agent.env = {"DOCKER_HOST": engine.host}
    yield agent
    agent.end_everything()
    agent.started.clear()
    left = engine.docker("ps", "--all", "--quiet").split()
    for container in left:
        engine.docker("rm", "--force", container)
    assert left == []
    assert engine.docker("volume", "ls", "--quiet") == ""
    # Docker's own: bridge, host and none.
    assert len(engine.docker("network", "ls", "--quiet").split()) <= 3
