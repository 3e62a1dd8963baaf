"""Systems Manager with one instance, this computer, and a way to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runctl.providers.aws.ssm import spool as ssm_spool
from runctl.providers.aws.ssm.transport import SsmTransport
from tests.providers.aws.ssm.server import HURRY, FakeSsm, FolderStaging, staging


@pytest.fixture
def ssm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeSsm]:
    """It leaves the machine as it was."""
    server = FakeSsm(tmp_path_factory.mktemp("ssm"))
    yield server
    server.close()
    ours = [ssm_spool.spool(request) for request in server.requests() if len(request["id"]) == 32]
    assert [path for path in ours if path.exists()] == []
    for path in ours:
        # It stays for an hour, so that a request that arrives twice is carried out once.
        path.with_name(path.name + ssm_spool.DONE).unlink(missing_ok=True)


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderStaging]:
    """A staging store."""
    with staging(tmp_path_factory.mktemp("staging")) as served:
        yield served


@pytest.fixture
def bare(ssm: FakeSsm) -> SsmTransport:
    """Without a staging store."""
    return SsmTransport(ssm, ssm.instance_id, user="root", clock=HURRY)


@pytest.fixture
def staged(ssm: FakeSsm, store: FolderStaging) -> SsmTransport:
    return SsmTransport(ssm, ssm.instance_id, user="root", staging=store, clock=HURRY)
