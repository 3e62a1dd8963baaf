"""The provider keeps runctl's contract, which its own providers keep too."""

from __future__ import annotations

import pytest

from runctl.core.machine_models import Instance
from runctl.providers.interface import Provider
from runctl.testing.contract import MachineContract, ProviderContract
from runctl_hosts.provider import HostsProvider


class TestHosts(ProviderContract):
    @pytest.fixture
    def provider(self, ready: tuple[HostsProvider, Instance]) -> Provider:
        return ready[0]


class TestHost(MachineContract):
    @pytest.fixture
    def ready(self, ready: tuple[HostsProvider, Instance]) -> tuple[Provider, Instance]:
        return ready
