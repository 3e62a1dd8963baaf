"""The local provider keeps the contract, on this computer."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.machine_models import Instance
from runctl.providers.interface import Provider
from runctl.providers.local.computer import LOCAL, LocalProvider
from runctl.testing.contract import READY_TIMEOUT, MachineContract, ProviderContract


@pytest.fixture
def local(tmp_path: Path) -> Provider:
    return LocalProvider(
        project="digits", state_directory=tmp_path / "state", cache_directory=tmp_path / "cache"
    )


class TestLocalProvider(ProviderContract):
    @pytest.fixture
    def provider(self, local: Provider) -> Provider:
        return local


class TestThisComputer(MachineContract):
    @pytest.fixture
    def ready(self, local: Provider) -> tuple[Provider, Instance]:
        return local, local.wait_ready(LOCAL, timeout=READY_TIMEOUT)
