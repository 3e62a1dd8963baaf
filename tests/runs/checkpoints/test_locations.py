"""Whose store an address is in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runctl.core.errors import Unsupported
from runctl.runs.checkpoints import locations
from runctl.runs.checkpoints.locations import stored_at
from tests.runs.memory_storage import MemoryStorage

RUN = "run-98fqp847vr"


class Own(MemoryStorage):
    """A provider's bucket of the account, beside a store that has buckets of all names."""

    def holds(self, bucket: str) -> bool:
        return bucket == "own"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Any:
    storages = {"first": MemoryStorage(), "second": Own(), "third": Unsupported("has none")}
    monkeypatch.setattr(
        locations, "plugins", lambda: [SimpleNamespace(name=name) for name in ("first", "second", "third")]
    )
    record = SimpleNamespace(provider="second")
    known = SimpleNamespace(find=lambda run_id: record if run_id == RUN else None)
    monkeypatch.setattr(locations, "run_store", lambda _session: known)
    return SimpleNamespace(
        storages=storages, provider=lambda name: SimpleNamespace(object_storage=storages[name])
    )


@pytest.mark.parametrize(
    ("address", "provider", "owner"),
    [
        (f"s3://own/digits/{RUN}", None, "second"),
        (f"s3://own/digits/{RUN}", "second", "second"),
        # Somebody's bucket, into which a machine of the second was given keys.
        (f"s3://theirs/digits/{RUN}", None, "first"),
        (f"s3://theirs/digits/{RUN}", "second", "first"),
        ("s3://own/digits/run-unknown", None, "first"),
        (f"s3://theirs/digits/{RUN}", "third", "first"),
    ],
)
def test_the_provider_of_the_run_comes_first_where_the_bucket_is_its_own(
    session: Any, address: str, provider: str | None, owner: str
) -> None:
    assert stored_at(session, address, provider).at.storage is session.storages[owner]
