"""What the agent's tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.agent import package
from tests.agent.driver import Agent


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zipapp."""
    return package.build(tmp_path_factory.mktemp("zipapp"))


@pytest.fixture
def agent(built: Path, tmp_path: Path) -> Iterator[Agent]:
    """An agent on this machine, with a state directory of its own; its runs end with the test."""
    state = tmp_path / "state"
    (state / "bin").mkdir(parents=True)
    shutil.copy(built, state / "bin")
    one = Agent(state / "bin" / built.name, state)
    yield one
    one.end_everything()
