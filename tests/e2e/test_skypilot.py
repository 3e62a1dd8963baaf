"""SkyPilot launches a task on the sandbox, and takes it for AWS."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.sandbox import control
from runctl.sandbox.abilities import why_no_systemd
from tests.sandbox.account import Account
from tests.sandbox.conftest import free_port
from tests.skypilot import KIND, SkyPilot, program, runtime_image

pytestmark = [pytest.mark.slow, pytest.mark.namespaces, pytest.mark.timeout(1800, func_only=True)]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory, no_settings_of_the_user: None) -> Iterator[Account]:
    if reason := why_no_systemd():
        pytest.skip(reason)
    home = tmp_path_factory.mktemp("skypilot") / "runctl" / "sandbox"
    try:
        info = control.start(home=home, kind="systemd", docker="off")
        yield Account(info, tmp_path_factory.mktemp("skypilot-account"))
    finally:
        control.stop(home=home)


@pytest.fixture(scope="module")
def image(account: Account) -> str:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    account.key_file  # noqa: B018 (makes the key pair)
    return runtime_image(account, uv)


@pytest.fixture
def sky(account: Account, tmp_path: Path) -> Iterator[SkyPilot]:
    program()
    sky = SkyPilot(tmp_path, account, free_port())
    try:
        sky.start()
        yield sky
    finally:
        sky.stop()


def test_a_task_is_launched_its_output_shown_and_its_machine_given_back(
    sky: SkyPilot, account: Account, image: str
) -> None:
    checked = sky("check", "aws")
    assert "AWS: enabled" in checked.stdout, checked

    where = ("--infra", f"aws/{account.info.region}", "--image-id", image, "--instance-type", KIND)
    launched = sky("launch", "--yes", "--cluster", "one", *where, "echo", "the task runs as $(id -un)")

    assert launched.returncode == 0, f"{launched.stdout}\n{launched.stderr}\n{sky.log()}"
    assert "the task runs as ubuntu" in launched.stdout
    (machine,) = [
        each
        for group in account.ec2.describe_instances(
            Filters=[{"Name": "tag:skypilot-cluster-name", "Values": ["one-*"]}]
        )["Reservations"]
        for each in group["Instances"]
    ]
    assert machine["State"]["Name"] == "running"
    down = sky("down", "--yes", "one")
    assert down.returncode == 0, f"{down.stdout}\n{down.stderr}"
    account.wait_state(machine["InstanceId"], "terminated", 60)
