"""A machine to reach: an sshd on this computer, with keys and a configuration of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runctl.core.machine_models import Instance
from runctl.testing.sshd import Sshd, free_port, running
from runctl_hosts.facts import FactsMemory
from runctl_hosts.provider import HostsProvider
from runctl_hosts.settings import HostConfig, HostsConfig


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the agent is packed once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's known hosts are asked, nor are those of runctl changed."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    for folder in ("DATA", "STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{folder}_HOME", str(tmp_path / folder.lower()))


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def box(sshd: Sshd, tmp_path: Path) -> HostConfig:
    """How that machine is written in a configuration."""
    return HostConfig("127.0.0.1", sshd.user, sshd.port, str(sshd.identity), str(tmp_path / "agent"))


@pytest.fixture
def dead() -> HostConfig:
    """A machine that is switched off."""
    return HostConfig("127.0.0.1", port=free_port())


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Callable[[HostsConfig], HostsProvider]]:
    """Makes providers, which remember the same, and closes their connections."""
    made: list[HostsProvider] = []

    def make(settings: HostsConfig) -> HostsProvider:
        made.append(HostsProvider(settings, memory=FactsMemory(tmp_path / "facts.json")))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


@pytest.fixture
def ready(hosts: Callable[[HostsConfig], HostsProvider], box: HostConfig) -> tuple[HostsProvider, Instance]:
    provider = hosts(HostsConfig({"gpu-box": box}))
    (instance,) = provider.instances()
    return provider, instance
