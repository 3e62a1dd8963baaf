"""The contract finds providers that break it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.errors import Unsupported
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance
from runctl.providers.interface import Check, DoctorStatus
from runctl.providers.local.computer import LOCAL, LocalProvider
from runctl.testing.contract import ProviderContract
from tests.cli.fake_provider import FakeVolumes, Script

CONTRACT = ProviderContract()


class Silent(LocalProvider):
    volumes = Unsupported("")


class Boastful(LocalProvider):
    volumes = FakeVolumes(Script())  # type: ignore[assignment]
    snapshots = FakeVolumes(Script())  # type: ignore[assignment]


class Forgetful(LocalProvider):
    def instance(self, instance_id: InstanceId) -> Instance:
        return super().instance(LOCAL)


class Helpless(LocalProvider):
    def doctor(self) -> tuple[Check, ...]:
        return (Check("everything", DoctorStatus.FAILED, "is broken"),)


def broken(kind: type[LocalProvider], folder: Path) -> LocalProvider:
    return kind(project=None, state_directory=folder, cache_directory=folder)


def test_an_ability_that_is_missing_without_a_reason_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        CONTRACT.test_an_ability_is_there_or_the_reason_is_stated(broken(Silent, tmp_path), "volumes")


def test_an_ability_that_is_something_else_is_found(tmp_path: Path) -> None:
    provider = broken(Boastful, tmp_path)
    CONTRACT.test_an_ability_is_there_or_the_reason_is_stated(provider, "volumes")
    with pytest.raises(AssertionError):
        CONTRACT.test_an_ability_is_there_or_the_reason_is_stated(provider, "snapshots")


def test_an_instance_made_up_is_found(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception):
        CONTRACT.test_an_unknown_instance_is_not_found(broken(Forgetful, tmp_path), InstanceId("i-0"))


def test_a_failure_without_a_fix_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="without a fix"):
        CONTRACT.test_the_doctor_never_raises_and_names_a_fix_for_what_failed(broken(Helpless, tmp_path))
