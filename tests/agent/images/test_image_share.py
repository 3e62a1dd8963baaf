"""An image that one machine has built is in the registry for the others, with what their builds can use."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.end_reason import EndReason
from runctl.sandbox.ecr.registry import Registry
from tests.agent import engine as engines
from tests.agent.driver import Agent
from tests.agent.engine import Engine

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.docker]

BASE = "base:py"
DOCKERFILE = f"""\
FROM {BASE} AS deps
RUN echo installed > /deps
FROM {BASE}
COPY --from=deps /deps /deps
COPY . /workspace
"""
FILES = {"Dockerfile": DOCKERFILE, "train.py": "print('has', open('/deps').read())\n"}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    """The engines of two machines."""
    started: list[Engine] = []
    try:
        for name in ("one", "two"):
            started.append(engines.start(tmp_path_factory.mktemp(name), bridge=True))
            engines.python_image(started[-1], BASE)
        yield started[0], started[1]
    finally:
        for item in started:
            engines.stop(item)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """Empty, and of both."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    item = Registry(tmp_path / "registry", "127.0.0.1", port)
    item.start()
    yield item
    item.stop()


def on(agent: Agent, engine: Engine) -> Agent:
    """The agent is the one of that machine from now on."""
    agent.env = {"DOCKER_HOST": engine.host, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    return agent


def container(registry: Registry, tag: str, **more: Any) -> dict[str, Any]:
    repository = f"{registry.address}/digits"
    caches = {f"{repository}:cache-deps": "deps", f"{repository}:cache": ""}
    build = {"tag": f"runctl/digits:{tag}", "published": f"{repository}:{tag}", "caches": caches}
    return {"dockerfile": "Dockerfile", "build": {**build, "cache_from": list(caches), **more}}


def test_what_one_machine_has_built_another_one_pulls(
    agent: Agent, machines: tuple[Engine, Engine], registry: Registry
) -> None:
    agent.sync(FILES)
    on(agent, machines[0]).start("first", "train.py", container=container(registry, "1"))
    first = agent.ended("first")
    on(agent, machines[1]).start("second", "train.py", container=container(registry, "1"))
    second = agent.ended("second")

    assert first.reason is EndReason.COMPLETED, agent.log("first")
    assert "the registry does not have it; the image is built here" in agent.log("first")
    assert f"pushed {registry.address}/digits:1" in agent.log("first")
    assert registry.has("digits", "cache-deps")
    assert second.reason is EndReason.COMPLETED, agent.log("second")
    assert "was in the registry: there is nothing to build" in agent.log("second")
    assert "has installed" in agent.output("second")
    names = machines[0].docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    assert f"{registry.address}/digits:cache" not in names


def test_what_another_machine_has_installed_is_not_installed_again(
    agent: Agent, machines: tuple[Engine, Engine], registry: Registry
) -> None:
    for engine in machines:
        engine.docker("builder", "prune", "--all", "--force")
    agent.sync(FILES)
    on(agent, machines[0]).start("first", "train.py", container=container(registry, "2"))
    assert agent.ended("first").reason is EndReason.COMPLETED, agent.log("first")
    agent.sync({**FILES, "train.py": "print('new', open('/deps').read())\n"})

    on(agent, machines[1]).start("second", "train.py", container=container(registry, "3"))
    second = agent.ended("second")

    assert second.reason is EndReason.COMPLETED, agent.log("second")
    assert "new installed" in agent.output("second")
    said = agent.log("second").partition("RUN echo installed")[2]
    assert "CACHED" in said.splitlines()[2], agent.log("second")


def test_a_registry_that_cannot_be_reached_is_told_and_the_run_goes_on(
    agent: Agent, machines: tuple[Engine, Engine], registry: Registry
) -> None:
    agent.sync(FILES)
    registry.stop()

    on(agent, machines[0]).start("r", "train.py", container=container(registry, "4"))
    end = agent.ended("r")

    assert end.reason is EndReason.COMPLETED, agent.log("r")
    assert "the registry cannot be used" in agent.log("r")
    assert "not all of the image is in the registry, and other machines build it" in agent.log("r")
