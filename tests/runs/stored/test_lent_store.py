"""Keys that end, for a run's store in the provider's own bucket."""

from __future__ import annotations

import json
import threading
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runctl.agent.checkpoint_spec import KEYS_FILE, StoreKeys, StoreSpec
from runctl.checkpoints.keeping import Keeping
from runctl.core.errors import Unreachable, Unsupported, UsageError
from runctl.providers.abilities.lent_bucket import Lent, LentBucket
from runctl.runs.stored.lent_store import (
    LEAST_SECONDS,
    USUAL_SECONDS,
    bring_first_keys,
    keys_renewed,
    pause_of,
    settle_store,
)


class Bucket(LentBucket):
    def __init__(self) -> None:
        self.lent = 0
        self.fails = 0

    def lend(self) -> Lent:
        self.lent += 1
        if self.fails:
            self.fails -= 1
            raise Unreachable("not now")
        return Lent("theirs", "https://s3.example", "eu", StoreKeys(f"ASIA{self.lent}", "secret"))


class Machine:
    """It has what was put there."""

    def __init__(self, bucket: LentBucket | Unsupported) -> None:
        self.provider = SimpleNamespace(name="there", lent_bucket=bucket)
        self.transport = self
        self.files: list[tuple[str, Any, int]] = []
        self.has_one = threading.Event()

    def put(self, data: bytes, target: PurePosixPath, *, mode: int) -> None:
        self.files.append((str(target), json.loads(data), mode))
        self.has_one.set()


def test_the_providers_bucket_is_named_and_its_keys_are_in_a_file_of_the_machine() -> None:
    provider: Any = SimpleNamespace(name="there", lent_bucket=Bucket())
    kept = settle_store(provider, Keeping(s3="own/digits/", keep_last=2))
    assert kept.store() == StoreSpec(
        "s3://theirs/digits", "https://s3.example", "eu", keep_last=2, keys_file=KEYS_FILE
    )
    assert settle_store(provider, Keeping(s3="own")).s3 == "s3://theirs/runctl"
    for other in (Keeping(s3="s3://mine/runs"), Keeping(folder="/mnt/x"), Keeping(), kept):
        assert settle_store(provider, other) == other
    with pytest.raises(UsageError, match="names another"):
        settle_store(provider, Keeping(s3="own", endpoint="https://minio.example"))


def test_a_provider_without_one_says_so() -> None:
    provider: Any = SimpleNamespace(name="there", lent_bucket=Unsupported("it has none"))
    with pytest.raises(Unsupported, match="it has none"):
        settle_store(provider, Keeping(s3="own"))
    with pytest.raises(UsageError, match="no bucket of the provider's"):
        Keeping(s3="own/x").store()


def test_the_machine_has_keys_before_its_run_starts_that_only_its_user_reads() -> None:
    machine = Machine(Bucket())
    with_keys: Any = SimpleNamespace(store=StoreSpec("s3://theirs/x", keys_file=KEYS_FILE))
    bring_first_keys(cast(Any, machine), with_keys)
    assert machine.files == [
        (KEYS_FILE, {"access_key": "ASIA1", "secret_key": "secret", "token": "", "ends_at": None}, 0o600)
    ]
    for store in (None, StoreSpec("s3://mine/x")):
        bring_first_keys(cast(Any, machine), cast(Any, SimpleNamespace(store=store)))
    assert len(machine.files) == 1


def test_whoever_follows_brings_newer_ones_also_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runctl.runs.stored.lent_store.LEAST_SECONDS", 0.01)
    bucket = Bucket()
    machine = Machine(bucket)
    bucket.fails = 2
    with keys_renewed(cast(Any, machine), "s3://theirs/digits"):
        assert machine.has_one.wait(20)


@pytest.mark.parametrize(
    ("bucket", "store"),
    [
        (Bucket(), None),
        (Bucket(), "/mnt/shared"),
        (Bucket(), "s3://mine/runs"),
        (Unsupported("it has none"), "s3://theirs/digits"),
    ],
)
def test_a_store_that_is_not_the_providers_gets_none(bucket: Any, store: str | None) -> None:
    machine = Machine(bucket)
    with keys_renewed(cast(Any, machine), store):
        pass
    assert not machine.has_one.wait(0.05)


def test_newer_ones_come_at_half_of_the_time() -> None:
    assert pause_of(StoreKeys("a", "b", ends_at=1000.0), 800.0) == 100.0
    assert pause_of(StoreKeys("a", "b", ends_at=1000.0), 999.0) == LEAST_SECONDS
    assert pause_of(StoreKeys("a", "b"), 0.0) == USUAL_SECONDS
