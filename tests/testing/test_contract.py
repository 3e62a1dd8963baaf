"""The contract finds providers that break it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from runctl.core.errors import Unsupported
from runctl.core.ids import InstanceId
from runctl.core.models import Instance
from runctl.core.progress import SILENT, Progress
from runctl.providers.interface import Capability, Check, DoctorStatus
from runctl.providers.local.computer import LOCAL, LocalProvider
from runctl.testing.contract import ProviderContract

CONTRACT = ProviderContract()


class Silent(LocalProvider):
    def capabilities(self) -> Mapping[Capability, Unsupported | None]:
        return {Capability.SPOT: None}


class Boastful(LocalProvider):
    def capabilities(self) -> Mapping[Capability, Unsupported | None]:
        return dict.fromkeys(Capability)


class Forgetful(LocalProvider):
    def instance(self, instance_id: InstanceId) -> Instance:
        return super().instance(LOCAL)


class Fatal(LocalProvider):
    def stop(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        return self.instance(instance_id)


class Helpless(LocalProvider):
    def doctor(self) -> tuple[Check, ...]:
        return (Check("everything", DoctorStatus.FAILED, "is broken"),)


def broken(kind: type[LocalProvider], folder: Path) -> LocalProvider:
    return kind(project=None, state_directory=folder, cache_directory=folder)


def test_capabilities_that_are_not_stated_are_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        CONTRACT.test_every_capability_is_there_or_the_reason_is_stated(broken(Silent, tmp_path))


def test_capabilities_that_are_not_there_are_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        CONTRACT.test_block_volumes_are_claimed_exactly_by_volume_providers(broken(Boastful, tmp_path))


def test_an_instance_made_up_is_found(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception):
        CONTRACT.test_an_unknown_instance_is_not_found(broken(Forgetful, tmp_path), InstanceId("i-0"))


def test_a_stop_that_was_said_to_be_impossible_is_found(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception):
        CONTRACT.test_stopping_where_it_cannot_be_done_is_unsupported_and_says_why(broken(Fatal, tmp_path))


def test_a_failure_without_a_fix_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="without a fix"):
        CONTRACT.test_the_doctor_never_raises_and_names_a_fix_for_what_failed(broken(Helpless, tmp_path))
