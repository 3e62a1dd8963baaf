"""moto's ECR with bytes: its images are what was pushed to a real registry, behind the address that it names.

``repositoryUri`` begins with an address on loopback. Engines take that for a registry without TLS unasked, and in every
machine of the sandbox the same address leads to the same registry.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moto.ecr.models import ECRBackend, Repository, ecr_backends

from runctl.sandbox.api.listener import Listener
from runctl.sandbox.ecr.front import Front
from runctl.sandbox.ecr.images import RepositoryImages
from runctl.sandbox.machines import network
from runctl.sandbox.world import ACCOUNT, current

HOST = "127.0.0.1"


class SandboxEcr(RepositoryImages):
    """One region of ECR, with the address at which engines find its registry."""

    __module__ = ECRBackend.__module__
    """moto finds a service's addresses by the module of its back-end."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self._front: Front | None = None

    @property
    def front(self) -> Front:
        """What answers at this region's registry address; it listens from the first call on."""
        with self._starting:
            if self._front is None:
                self._front = Front(self, HOST)
            return self._front

    @property
    def is_listening(self) -> bool:
        """Whether its registry address has been asked for."""
        return self._front is not None

    def stop(self) -> None:
        """Nothing listens, and no registry runs."""
        if self._front is not None:
            self._front.stop()
        if self._registry is not None:
            self._registry.stop()

    def create_repository(self, *arguments: Any, **named: Any) -> Repository:
        """The repository is there, at an address that engines reach."""
        repository = super().create_repository(*arguments, **named)
        repository.uri = f"{self.front.address}/{repository.name}"
        return repository

    def delete_repository(
        self, repository_name: str, registry_id: str | None = None, force: bool = False
    ) -> Repository:
        """The repository, its images and layers are gone."""
        with self.lock:
            repository = super().delete_repository(repository_name, registry_id, force)
            if self._registry is not None:
                _forget_repository(self._registry.home, repository_name)
        return repository


def backend(region: str | None = None) -> SandboxEcr:
    """ECR of a region; by default the sandbox's own."""
    found = ecr_backends[ACCOUNT][region or current().region]
    if not isinstance(found, SandboxEcr):
        raise AssertionError("install() has not run")
    return found


def expire_now() -> list[str]:
    """Every region's lifecycle policies are carried out, as AWS does once a day; what is gone."""
    now = datetime.now(UTC)
    return [line for region in _regions() for line in region.expire(now)]


def stop() -> None:
    """No registry of ECR runs."""
    for region in _regions():
        region.stop()


def serve_machine(machine: Any) -> Callable[[], None]:
    """The registries' addresses lead there inside the machine, too, until the returned function is called."""
    namespace = getattr(machine, "namespace", None)
    if namespace is None:
        # A folder machine is on this computer's own loopback.
        return lambda: None
    listeners = [
        Listener(network.listen(namespace, HOST, region.front.port), region.front.answer, "ecr")
        for region in _regions()
        if region.is_listening
    ]

    def end() -> None:
        for listener in listeners:
            listener.stop()

    return end


def _regions() -> list[SandboxEcr]:
    return [region for region in list(ecr_backends[ACCOUNT].values()) if isinstance(region, SandboxEcr)]


def _forget_repository(home: Path, name: str) -> None:
    """Its layers are not found any more, either; repositories below its name stay."""
    folder = home / "registry/docker/registry/v2/repositories" / name
    with contextlib.suppress(FileNotFoundError):
        for part in folder.glob("_*"):
            shutil.rmtree(part)
