"""What the tests of checkpoints share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints.stores import open_store
from tests.agent.checkpoints.saving import Run
from tests.agent.s3_bucket import Bucket


@pytest.fixture(params=["folder", "s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "checkpoints").mkdir()
    if request.param == "folder":
        (tmp_path / "store").mkdir()
        store = open_store(StoreSpec(str(tmp_path / "store")), "run-1", {})
    else:
        bucket: Bucket = request.getfixturevalue("bucket")
        store = open_store(StoreSpec(f"s3://{bucket.name}/a b"), "run-1", bucket.account)
    yield Run(tmp_path / "checkpoints", store)
    store.close()
