"""An engine, a registry, and a project to build from."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.sandbox.ecr.registry import Registry
from tests.agent import engine as engines
from tests.agent.engine import Engine
from tests.e2e.command_line import CommandLine, write_project

BASE = "base:py"
DOCKERFILE = f"""\
FROM {BASE} AS deps
COPY requirements.txt /r.txt
RUN read x < /r.txt; echo $x > /deps
FROM {BASE}
ARG MARK=none
COPY --from=deps /deps /deps
RUN echo $MARK > /mark
COPY . /workspace
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for the module."""
    item = engines.start(tmp_path_factory.mktemp("engine"), bridge=True)
    try:
        engines.python_image(item, BASE)
        yield item
    finally:
        engines.stop(item)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry without TLS on loopback, as engines take it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    item = Registry(tmp_path_factory.mktemp("registry"), "127.0.0.1", port)
    item.start()
    yield item
    item.stop()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two stages, and a context with something that is left out."""
    return write_project(
        tmp_path / "digits",
        {
            "Dockerfile": DOCKERFILE,
            ".dockerignore": ".git\n*.log\n",
            "requirements.txt": "numpy\n",
            "train.py": "print(1)\n",
        },
    )


@pytest.fixture
def runctl(project: Path, engine: Engine) -> CommandLine:
    """The command line in the project, with that engine."""
    return CommandLine(project, {"DOCKER_HOST": engine.host})
