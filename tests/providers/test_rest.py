"""What may be told of a provider before anybody has a key for it, and what its refusals mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.clock import SystemClock
from runctl.core.config import SANDBOX_VARIABLE
from runctl.core.errors import Conflict, ProviderError, RunctlError, Unreachable, UsageError, passes_by_itself
from runctl.core.journal import Journal
from runctl.providers.lyceum.context import LyceumContext
from runctl.providers.lyceum.settings import LyceumConfig
from runctl.providers.rest import leads_to_sandbox, usual_refusal
from runctl.providers.runpod.context import RunPodContext
from runctl.providers.runpod.settings import RunPodConfig

SANDBOX = "http://127.0.0.1:4566"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LYCEUM_API_KEY", "RUNPOD_API_KEY", SANDBOX_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("address", "leads"),
    [
        (f"{SANDBOX}/lyceum", True),
        ("https://api.lyceum.technology", False),
        (f"{SANDBOX}7/v2", False),
        (None, False),
    ],
)
def test_only_an_address_below_the_sandboxes_leads_to_it(
    monkeypatch: pytest.MonkeyPatch, address: str | None, leads: bool
) -> None:
    assert not leads_to_sandbox(address)

    monkeypatch.setenv(SANDBOX_VARIABLE, SANDBOX)

    assert leads_to_sandbox(address) is leads


@pytest.mark.parametrize("address", [f"{SANDBOX}/there", None])
def test_whether_it_costs_money_is_known_without_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str | None
) -> None:
    monkeypatch.setenv(SANDBOX_VARIABLE, SANDBOX)
    shared = (SystemClock(), tmp_path, Journal())

    assert LyceumContext(LyceumConfig(base_url=address), *shared).in_sandbox is (address is not None)
    assert RunPodContext(RunPodConfig(base_url=address), *shared).in_sandbox is (address is not None)


@pytest.mark.parametrize(
    ("status", "kind", "passes"),
    [
        (400, UsageError, False),
        (409, Conflict, False),
        (413, UsageError, False),
        (418, ProviderError, False),
        (422, UsageError, False),
        (429, ProviderError, True),
        (500, Unreachable, True),
        (503, Unreachable, True),
    ],
)
def test_a_status_means_the_same_of_every_api(status: int, kind: type[RunctlError], passes: bool) -> None:
    error = usual_refusal(status, "it refused")

    assert (type(error), passes_by_itself(error)) == (kind, passes)
