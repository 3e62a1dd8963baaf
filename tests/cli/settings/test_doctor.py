"""``doctor``, and the checks of this computer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from runctl.cli.framework.checks import check_computer
from runctl.cli.settings.doctor import report
from runctl.core.config import read
from runctl.core.errors import CredentialsError
from runctl.core.files import state_file
from runctl.providers.interface import Check, DoctorStatus
from tests.cli.conftest import Invoke
from tests.cli.fake_provider import Script


def checks(
    installed: Sequence[str] = ("ssh", "ssh-keygen", "git", "docker", "apt-get"),
    answers: dict[str, tuple[int, str]] | None = None,
    state: Path | None = None,
) -> dict[str, Check]:
    """By name, on a computer with these programs, where commands answer so."""
    found = check_computer(
        read(Path.cwd()),
        state or state_file(),
        which=lambda name: f"/usr/bin/{name}" if name in installed else None,
        run=lambda argv: (answers or {}).get(argv[0], (0, f"{argv[0]} 1.2.3\nmore")),
    )
    return {check.name: check for check in found}


def test_a_computer_that_has_everything_passes() -> None:
    assert {check.status for check in checks().values()} == {DoctorStatus.OK}


@pytest.mark.parametrize(
    ("tools", "fix"),
    [
        (("apt-get",), "sudo apt-get install openssh-client"),
        (("dnf",), "sudo dnf install openssh-clients"),
        ((), "install ssh with"),
    ],
)
def test_a_missing_ssh_fails_with_the_command_that_installs_it(tools: tuple[str, ...], fix: str) -> None:
    ssh = checks(installed=tools)["ssh"]
    assert ssh.status is DoctorStatus.FAILED
    assert ssh.fix.startswith(fix)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        ((1, "Cannot connect to the Docker daemon"), "does not run"),
        ((1, "permission denied while trying to connect"), "may not use"),
        ((124, "no answer within 10 s"), "does not run"),
    ],
)
def test_a_docker_engine_that_cannot_be_used_is_a_warning_with_a_fix(
    answer: tuple[int, str], phrase: str
) -> None:
    docker = checks(answers={"docker": answer})["docker"]
    assert docker.status is DoctorStatus.WARNING
    assert phrase in docker.detail
    assert docker.fix


def test_a_missing_git_is_a_warning() -> None:
    assert checks(installed=("ssh", "ssh-keygen", "docker"))["git"].status is DoctorStatus.WARNING


def test_a_damaged_state_file_fails(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    file.write_text("this is no database, and long enough to be looked at as one" * 20)
    state = checks(state=file)["state"]
    assert state.status is DoctorStatus.FAILED
    assert state.fix


def test_each_configuration_problem_is_a_failed_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".runctl.toml").write_text("[aws]\nspot = 3\n")
    monkeypatch.chdir(tmp_path)
    configuration = checks()["configuration"]
    assert configuration.status is DoctorStatus.FAILED
    assert ".runctl.toml:2: aws.spot" in configuration.detail


def test_a_failed_check_of_a_provider_is_exit_code_1_and_shows_its_fix(
    invoke: Invoke, script: Script
) -> None:
    script.answers["doctor"] = (
        Check("credentials", DoctorStatus.FAILED, "there are none", "aws configure"),
        Check("region", DoctorStatus.OK, "eu-west-1"),
    )
    result = invoke("doctor", "aws")
    assert result.exit_code == 1
    assert "failed   credentials" in result.stdout
    assert "fix: aws configure" in result.stdout
    assert result.stdout.endswith("1 failed\n")


def test_a_provider_that_cannot_be_made_is_a_check_that_failed(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runctl.providers import registry

    def load(*_: object, **__: object) -> None:
        raise CredentialsError("no credentials", hint="aws configure")

    monkeypatch.setattr(registry, "load", load)
    result = invoke("doctor", "aws", "--quiet")
    assert (result.exit_code, result.stdout) == (1, "aws.aws\n")


def test_an_unknown_provider_is_named(invoke: Invoke) -> None:
    result = invoke("doctor", "asw")
    assert result.exit_code == 5
    assert 'did you mean "aws"?' in result.stderr


def test_the_report_groups_checks_by_part() -> None:
    text = report(
        [
            ("computer", Check("ssh", DoctorStatus.OK, "9.2", "never shown")),
            ("aws", Check("region", DoctorStatus.WARNING, "none", "set it")),
        ]
    )
    assert text == (
        "computer\n  ok       ssh     9.2\n\naws\n  warning  region  none\n                   fix: set it\n\n"
        "everything that is needed works"
    )
