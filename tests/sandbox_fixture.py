"""A sandbox for tests: one for the session with namespaces as machines, and one with Docker for those that need it.

Every test has these fixtures (``pytest_plugins`` in tests/conftest.py). The environment of a test leads into a sandbox
only with `in_sandbox` or `in_docker_sandbox`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from runctl.sandbox import control
from runctl.sandbox.connection import SandboxInfo
from tests.availability import reason_against
from tests.forked import client


@contextmanager
def running_sandbox(data_home: Path, *, docker: str) -> Iterator[SandboxInfo]:
    """A sandbox where runctl looks for it when ``XDG_DATA_HOME`` is ``data_home``; it ends with the block."""
    home = data_home / "runctl" / "sandbox"
    try:
        yield client.sandbox(home, kind="namespaces", docker=docker)
    finally:
        control.stop(home=home)


@contextmanager
def namespaces_sandbox(data_home: Path) -> Iterator[SandboxInfo]:
    """Machines without Docker, which start quickest; skips the test where this computer cannot have them."""
    _need("namespaces")
    with running_sandbox(data_home, docker="off") as info:
        yield info


@pytest.fixture(scope="session")
def sandbox(
    tmp_path_factory: pytest.TempPathFactory, no_settings_of_the_user: None
) -> Generator[SandboxInfo]:
    """The one that tests share; a folder of tests that need one of their own overrides it in its conftest."""
    with namespaces_sandbox(tmp_path_factory.mktemp("sandbox")) as info:
        yield info


@pytest.fixture(scope="session")
def docker_sandbox(
    tmp_path_factory: pytest.TempPathFactory, no_settings_of_the_user: None
) -> Generator[SandboxInfo]:
    """Machines with Docker engines, and a registry that has the base images."""
    _need("namespaces")
    _need("docker")
    with running_sandbox(tmp_path_factory.mktemp("docker-sandbox"), docker="on") as info:
        yield info


@pytest.fixture
def in_sandbox(sandbox: SandboxInfo, monkeypatch: pytest.MonkeyPatch) -> SandboxInfo:
    """The test, and every program that it starts, finds `sandbox` as a user does."""
    lead_into(sandbox, monkeypatch)
    return sandbox


@pytest.fixture
def in_docker_sandbox(docker_sandbox: SandboxInfo, monkeypatch: pytest.MonkeyPatch) -> SandboxInfo:
    """The test, and every program that it starts, finds `docker_sandbox` as a user does."""
    lead_into(docker_sandbox, monkeypatch)
    return docker_sandbox


def lead_into(info: SandboxInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what ``eval "$(runctl sandbox env)"`` sets, and the data folder in which runctl finds it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(info.home.parents[1]))
    for name, value in info.environment().items():
        monkeypatch.setenv(name, value)
    # boto3's own session remembers the keys that it found first, and each sandbox has others.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


def _need(marker: str) -> None:
    reason = reason_against(marker)
    if reason:
        pytest.skip(f"{marker}: {reason}")
