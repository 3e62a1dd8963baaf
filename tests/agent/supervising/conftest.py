"""What the tests of the supervisor share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.driver import Agent, Machines
from tests.agent.metadata_service import MetadataService, metadata_service


@pytest.fixture
def metadata(agent: Agent) -> Iterator[MetadataService]:
    with metadata_service() as service:
        agent.env.update(service.variables)
        yield service


@pytest.fixture
def machines(built: Path, unpacked: Path, tmp_path: Path) -> Iterator[Machines]:
    """Makes so many agents, each with a folder of its own for its machine."""
    made: list[Agent] = []

    def make(count: int) -> list[Agent]:
        for rank in range(count):
            state = tmp_path / str(rank)
            state.mkdir()
            shutil.copytree(unpacked, state / "bin", symlinks=True, copy_function=os.link)
            made.append(Agent(state / "bin" / built.name, state))
        return made

    yield make
    for agent in made:
        agent.end_everything()
