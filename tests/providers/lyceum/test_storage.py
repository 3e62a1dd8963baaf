"""The account's bucket from this computer: by keys that end, with newer ones in time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runctl.core.errors import NotFound, PermissionDenied, Unreachable
from runctl.core.journal import Journal
from runctl.providers.lyceum.context import LyceumContext
from runctl.providers.lyceum.settings import LyceumConfig
from runctl.providers.lyceum.storage import LEAST_SECONDS, USUAL_SECONDS, LyceumStorage
from runctl.testing.clock import ManualClock
from tests.providers.scripted_rest import ScriptedNetwork

KEYS = {
    "access_key": "ASIA1",
    "secret_key": "not-to-be-seen",
    "session_token": "nor-this",
    "endpoint": "store.lyceum.test",
    "bucket_name": "ada",
}
ASKED = ("POST", "/api/v2/external/storage/credentials")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> LyceumStorage:
    monkeypatch.setenv("LYCEUM_API_KEY", "lk_mine")
    settings = LyceumConfig(base_url="https://lyceum.test")
    return LyceumStorage(LyceumContext(settings, clock, tmp_path, Journal()))


def access_key(storage: LyceumStorage) -> Any:
    client: Any = storage._access.s3
    return client._request_signer._credentials.access_key


def test_only_the_accounts_own_bucket_is_read_by_its_keys_at_its_address(
    storage: LyceumStorage, network: ScriptedNetwork
) -> None:
    network.answer(*ASKED, KEYS)
    assert storage.holds("ada")
    assert not storage.holds("anybodys")
    client = storage._access.s3
    assert (client.meta.endpoint_url, client.meta.region_name) == ("https://store.lyceum.test", "us-east-1")
    assert access_key(storage) == "ASIA1"
    assert len(network.sent) == 1


@pytest.mark.parametrize(("told", "good_for"), [(True, 3600 - LEAST_SECONDS), (False, USUAL_SECONDS)])
def test_new_keys_are_asked_for_before_those_before_end(
    storage: LyceumStorage, network: ScriptedNetwork, clock: ManualClock, told: bool, good_for: float
) -> None:
    end = clock.now() + timedelta(hours=1)
    network.answer(*ASKED, {**KEYS, **({"expiry": end.isoformat()} if told else {})})
    assert access_key(storage) == "ASIA1"
    clock.sleep(good_for - 1)
    assert access_key(storage) == "ASIA1"
    network.answer(*ASKED, {**KEYS, "access_key": "ASIA2"})
    clock.sleep(1)
    assert access_key(storage) == "ASIA2"


def test_keys_that_are_refused_are_not_used_again_and_whoever_reads_tries_again(
    storage: LyceumStorage, network: ScriptedNetwork
) -> None:
    network.answer(*ASKED, KEYS)
    assert access_key(storage) == "ASIA1"
    with (
        pytest.raises(Unreachable, match="keys of Lyceum's bucket ada") as raised,
        storage._explaining("ada", "k"),
    ):
        raise PermissionDenied("AccessDenied")
    assert "not-to-be-seen" not in str(raised.value)
    network.answer(*ASKED, {**KEYS, "access_key": "ASIA2"})
    assert access_key(storage) == "ASIA2"
    with pytest.raises(NotFound), storage._explaining("ada", "k"):
        raise NotFound("no such key")
    assert access_key(storage) == "ASIA2"
