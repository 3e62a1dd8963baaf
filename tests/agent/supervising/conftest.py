"""What the tests of the supervisor share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.driver import Agent
from tests.agent.metadata_service import MetadataService, metadata_service


@pytest.fixture
def metadata(agent: Agent) -> Iterator[MetadataService]:
    with metadata_service() as service:
        agent.env.update(service.variables)
        yield service
