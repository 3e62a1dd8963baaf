"""This computer is one instance that nobody pays for and nobody may end."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from runctl.core.config import Config
from runctl.core.errors import NotFound, Unsupported
from runctl.core.ids import InstanceId
from runctl.core.machine_models import InstanceState, Market
from runctl.providers.interface import DoctorStatus, require
from runctl.providers.local.computer import LOCAL, LocalProvider
from runctl.providers.local.plugin import make as factory


@pytest.fixture
def local(tmp_path: Path) -> LocalProvider:
    return LocalProvider(
        project="digits", state_directory=tmp_path / "state", cache_directory=tmp_path / "cache"
    )


def test_this_computer_is_the_only_instance(local: LocalProvider) -> None:
    (instance,) = local.instances()

    assert (instance.id, instance.state, instance.market) == (LOCAL, InstanceState.RUNNING, Market.OWNED)
    assert instance.price_per_hour == Decimal(0)
    assert instance.created_at < datetime.now(UTC)


def test_the_time_of_the_start_does_not_move(local: LocalProvider) -> None:
    first, second = (local.instance(LOCAL).created_at for _ in range(2))

    assert abs((first - second).total_seconds()) <= 1


def test_an_owner_without_a_name_is_a_number(local: LocalProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)

    assert local.instance(LOCAL).owner == "54321"


def test_another_id_points_at_where_it_may_be(local: LocalProvider) -> None:
    with pytest.raises(NotFound) as caught:
        local.instance(InstanceId("i-0123456789abcdef0"))

    assert "runctl aws" in caught.value.hint


def test_it_is_neither_created_nor_ended(local: LocalProvider) -> None:
    with pytest.raises(Unsupported, match="neither creates"):
        require(local.renting)


def test_it_is_not_stopped(local: LocalProvider) -> None:
    with pytest.raises(Unsupported, match="does not stop"):
        require(local.stop_and_start)


def test_commands_run_here_and_know_the_agents_state_folder(local: LocalProvider, tmp_path: Path) -> None:
    done = local.transport(local.instance(LOCAL)).run(["sh", "-c", "printf %s $RUNCTL_AGENT_STATE"])

    assert done.stdout.decode() == str(tmp_path / "state")


def test_the_agent_keeps_its_state_in_the_users_own_folder(local: LocalProvider, tmp_path: Path) -> None:
    agent = local.agent(local.instance(LOCAL))

    agent.version()

    assert list((tmp_path / "state" / "bin").glob("agent-*.pyz"))


@pytest.mark.parametrize("choice", ["ssh", "ssm"])
def test_no_other_transport_leads_here(local: LocalProvider, choice: str) -> None:
    with pytest.raises(Unsupported, match=choice):
        local.transport(local.instance(LOCAL), choice)


def test_the_doctor_says_what_to_do_about_a_state_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    local = LocalProvider(project=None, state_directory=tmp_path / "file" / "state", cache_directory=tmp_path)

    state = next(check for check in local.doctor() if check.name == "local: state")

    assert state.status is DoctorStatus.FAILED
    assert state.fix


def test_the_factory_uses_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    done = (
        factory(Config())
        .transport(factory(Config()).instance(LOCAL))
        .run(["sh", "-c", "echo $RUNCTL_AGENT_STATE"])
    )

    assert done.stdout.decode().startswith(str(tmp_path))
