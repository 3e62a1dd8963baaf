"""Machines that answer, and machines that do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from runctl.core.errors import HostKeyChanged, HostKeyUnknown, NotFound, Unreachable
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.providers.interface import DoctorStatus
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from runctl.testing.sshd import Sshd, keygen
from runctl_hosts.facts import FactsMemory
from runctl_hosts.provider import HostsProvider
from runctl_hosts.settings import HostConfig, HostsConfig

Make = Callable[[HostsConfig], HostsProvider]


def test_all_are_listed_whether_they_answer_or_not(hosts: Make, box: HostConfig, dead: HostConfig) -> None:
    found = {str(each.id): each for each in hosts(HostsConfig({"gpu-box": box, "off": dead})).instances()}
    assert found["gpu-box"].state is InstanceState.RUNNING
    assert found["off"].state is InstanceState.UNREACHABLE
    assert "Connection refused" in (found["off"].state_reason or "")
    assert {each.market for each in found.values()} == {Market.OWNED}


def test_a_machine_that_went_silent_is_shown_as_it_was(
    hosts: Make, box: HostConfig, dead: HostConfig
) -> None:
    (before,) = hosts(HostsConfig({"gpu-box": box})).instances()
    (after,) = hosts(HostsConfig({"gpu-box": dead})).instances()
    assert after.state is InstanceState.UNREACHABLE
    assert (after.instance_type, after.created_at) == (before.instance_type, before.created_at)


def test_whoever_wants_to_use_a_silent_machine_is_told_at_once(hosts: Make, dead: HostConfig) -> None:
    with pytest.raises(Unreachable, match="off"):
        hosts(HostsConfig({"off": dead})).instance(InstanceId("off"))


def test_a_misspelt_name_gets_a_suggestion(hosts: Make, dead: HostConfig) -> None:
    with pytest.raises(NotFound) as caught:
        hosts(HostsConfig({"gpu-box": dead})).instance(InstanceId("gpu-bax"))
    assert caught.value.hint == 'did you mean "gpu-box"?'


def test_the_users_known_hosts_vouch_for_a_key(hosts: Make, box: HostConfig, sshd: Sshd) -> None:
    file = Path.home() / ".ssh" / "known_hosts"
    file.parent.mkdir(parents=True)
    file.write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_keys[0]}\n")
    (found,) = hosts(HostsConfig({"gpu-box": box}, strict_host_key=True)).instances()
    assert found.state is InstanceState.RUNNING


def test_a_machine_with_another_key_than_the_users_known_hosts_have_is_refused(
    hosts: Make, box: HostConfig, tmp_path: Path
) -> None:
    other = keygen(tmp_path / "other").with_suffix(".pub").read_text()
    file = Path.home() / ".ssh" / "known_hosts"
    file.parent.mkdir(parents=True)
    file.write_text(f"[127.0.0.1]:{box.port} {other}")
    with pytest.raises(HostKeyChanged):
        hosts(HostsConfig({"gpu-box": box})).instance(InstanceId("gpu-box"))


def test_a_strict_check_refuses_a_key_that_nothing_vouches_for(hosts: Make, box: HostConfig) -> None:
    with pytest.raises(HostKeyUnknown):
        hosts(HostsConfig({"gpu-box": box}, strict_host_key=True)).instance(InstanceId("gpu-box"))


def test_a_key_that_is_taken_on_trust_is_said(hosts: Make, box: HostConfig) -> None:
    provider, progress = hosts(HostsConfig({"gpu-box": box})), RecordedProgress()
    provider.report_to(progress)
    provider.instance(InstanceId("gpu-box"))
    assert any("taken on trust" in said for said in progress.warnings)


def test_waiting_ends_when_the_time_is_up(dead: HostConfig, tmp_path: Path) -> None:
    memory = FactsMemory(tmp_path / "facts.json")
    provider = HostsProvider(HostsConfig({"off": dead}), memory=memory, clock=ManualClock())
    with pytest.raises(Unreachable):
        provider.wait_ready(InstanceId("off"), timeout=timedelta(minutes=5))


def test_the_agents_files_are_the_users_own_where_nothing_else_is_said(hosts: Make, box: HostConfig) -> None:
    provider = hosts(HostsConfig({"gpu-box": replace(box, state_directory=None)}))
    home = provider.transport(provider.instance(InstanceId("gpu-box"))).run(["sh", "-c", "echo $HOME"])
    folder = provider.agent(provider.instance(InstanceId("gpu-box"))).state_directory
    assert str(folder) == f"{home.stdout.decode().strip()}/.local/state/runctl"


def test_images_are_built_for_the_machines_processors(ready: tuple[HostsProvider, Instance]) -> None:
    provider, instance = ready
    machine = provider.transport(instance).run(["uname", "-m"]).stdout.decode().strip()
    expected = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[machine]
    assert provider.platform(instance.instance_type) == expected


def test_the_doctor_says_which_answer(hosts: Make, box: HostConfig, dead: HostConfig) -> None:
    checks = hosts(HostsConfig({"gpu-box": box, "off": dead})).doctor()
    assert [(check.name, check.status) for check in checks] == [
        ("hosts: gpu-box", DoctorStatus.OK),
        ("hosts: off", DoctorStatus.WARNING),
    ]


def test_without_machines_the_doctor_says_how_to_name_one(hosts: Make) -> None:
    (check,) = hosts(HostsConfig()).doctor()
    assert check.status is DoctorStatus.SKIPPED
    assert "hosts.machines" in check.fix
