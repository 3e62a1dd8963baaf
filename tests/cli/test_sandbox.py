"""``sandbox``, over a stand-in for the sandbox's own control."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from runctl.cli import sandbox
from runctl.core.config import NOWHERE, SANDBOX_VARIABLE
from runctl.sandbox import connection
from runctl.sandbox.record import Keys
from tests.cli.conftest import Invoke, data_of, error_of

NASTY = 'it\'s $HOME "quoted" \\ `x`'


@dataclass(frozen=True)
class Info:
    home: Path = Path("/somewhere")
    endpoint_url: str = "http://127.0.0.1:4566"
    pid: int = 42
    region: str = "us-east-1"
    kind: str = "folders"
    docker: bool = False
    left_out: tuple[str, ...] = ("no containers: there is no Docker engine here",)
    started_at: datetime = datetime(2026, 5, 1, tzinfo=UTC)

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        return connection.environment(self.endpoint_url, NASTY, Keys("AKIA0", "secret", "token"), inherited)


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A sandbox that is not running; `start` says how it was started."""
    stand_in = SimpleNamespace(running=None, started_with=None)

    def start(*, report: Callable[[str], None], region: str | None, **options: object) -> Info:
        report("making machines")
        stand_in.started_with = {"region": region, **options}
        info: Info = stand_in.running or Info(region=region or "us-east-1")
        stand_in.running = info
        return info

    def stop(*, report: Callable[[str], None]) -> tuple[str, ...]:
        ended = ("process 42",) if stand_in.running else ()
        stand_in.running = None
        return ended

    stand_in.start, stand_in.stop, stand_in.status = start, stop, lambda: stand_in.running
    monkeypatch.setattr(sandbox, "sandbox_library", lambda: stand_in)
    return stand_in


@pytest.mark.parametrize("option", ["--machines", "--kind"])
def test_start_says_what_is_left_out_and_how_to_get_in(
    invoke: Invoke, control: SimpleNamespace, option: str
) -> None:
    result = invoke("sandbox", "start", option, "folders", "--region", "eu-west-1")
    assert result.exit_code == 0
    assert "left out: no containers" in result.stderr
    assert 'eval "$(runctl sandbox env)"' in result.stderr
    assert "http://127.0.0.1:4566" in result.stdout
    assert control.started_with == {"kind": "folders", "docker": "auto", "region": "eu-west-1"}


def test_status_of_none_is_exit_code_1(invoke: Invoke, control: SimpleNamespace) -> None:
    result = invoke("sandbox", "status")
    assert result.exit_code == 1
    assert "not running" in result.stdout


def test_status_is_data(invoke: Invoke, control: SimpleNamespace) -> None:
    control.running = Info()
    shown = data_of(invoke("sandbox", "status", "--output", "json"))
    assert (shown["running"], shown["home"], shown["started_at"]) == (
        True,
        "/somewhere",
        "2026-05-01T00:00:00Z",
    )


def test_stop_names_what_it_ended_and_is_fine_with_nothing(invoke: Invoke, control: SimpleNamespace) -> None:
    control.running = Info()
    assert data_of(invoke("sandbox", "stop", "--output", "json")) == ["process 42"]
    assert data_of(invoke("sandbox", "stop", "--output", "json")) == []


def test_start_takes_the_region_of_the_configuration(
    invoke: Invoke, control: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNCTL_AWS_REGION", "eu-central-1")

    invoke("sandbox", "start")

    assert control.started_with["region"] == "eu-central-1"


def test_start_warns_when_the_one_that_runs_is_elsewhere(
    invoke: Invoke, control: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.running = Info()
    monkeypatch.setenv("RUNCTL_AWS_REGION", "eu-central-1")

    result = invoke("sandbox", "start")

    assert result.exit_code == 0
    assert "this sandbox is in us-east-1, and the configuration says eu-central-1" in result.stderr


def test_env_without_a_sandbox_says_how_to_start_one(invoke: Invoke, control: SimpleNamespace) -> None:
    result = invoke("sandbox", "env", "--output", "json")
    assert result.exit_code == 5
    assert error_of(result)["hint"] == "runctl sandbox start"


def test_a_failing_status_leads_nowhere_too(invoke: Invoke, control: SimpleNamespace) -> None:
    def status() -> None:
        raise RuntimeError("whatever it may be")

    control.status = status
    result = invoke("sandbox", "env")

    assert result.exit_code == 1
    assert f"export AWS_ENDPOINT_URL={NOWHERE}" in result.stdout


REAL = {
    "AWS_ACCESS_KEY_ID": "AKIAREAL",
    "AWS_SECRET_ACCESS_KEY": "real",
    "AWS_SESSION_TOKEN": "real",
    "AWS_ENDPOINT_URL_EC2": "https://ec2.us-east-1.amazonaws.com",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
}


@pytest.mark.parametrize("runs", [True, False])
def test_no_variable_of_a_real_account_survives(
    invoke: Invoke, control: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    for name, value in REAL.items():
        monkeypatch.setenv(name, value)
    control.running = Info() if runs else None
    lines = invoke("sandbox", "env").stdout

    done = subprocess.run(
        [
            "sh",
            "-c",
            'eval "$LINES_OF_ENV"; echo $?; env | grep ^AWS_ENDPOINT_URL; echo $AWS_ACCESS_KEY_ID; env',
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LINES_OF_ENV": lines},
    )

    status, endpoint, key, *all_variables = done.stdout.splitlines()
    if runs:
        assert (status, endpoint, key) == ("0", "AWS_ENDPOINT_URL=http://127.0.0.1:4566", "AKIA0")
    else:
        assert (status, endpoint, key) == ("1", f"AWS_ENDPOINT_URL={NOWHERE}", "no-sandbox")
    left = {line.partition("=")[0] for line in all_variables if not line.startswith("LINES_OF_ENV")}
    assert left.isdisjoint(set(REAL) - {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"})


def test_the_way_out_needs_no_running_sandbox(invoke: Invoke, control: SimpleNamespace) -> None:
    result = invoke("sandbox", "env", "--unset")

    assert result.exit_code == 0
    assert {"unset AWS_ENDPOINT_URL", "unset AWS_ACCESS_KEY_ID", f"unset {SANDBOX_VARIABLE}"} <= set(
        result.stdout.splitlines()
    )


@pytest.mark.parametrize(
    ("before", "inside", "after"),
    [
        ("", "127.0.0.1,localhost", ""),
        ("intranet, .corp", "intranet,.corp,127.0.0.1,localhost", "intranet,.corp"),
        ("127.0.0.1,localhost", "127.0.0.1,localhost", ""),
        ("*", "*", "*"),
    ],
)
def test_no_proxy_stands_before_a_sandbox(before: str, inside: str, after: str) -> None:
    variables = Info().environment({"NO_PROXY": before})

    assert (variables["NO_PROXY"], variables["no_proxy"]) == (inside, inside)
    assert connection.proxies_without_sandbox(variables)["NO_PROXY"] == after


def test_stop_says_how_to_leave_where_the_shell_leads_there(
    invoke: Invoke, control: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.running = Info()
    assert "--unset" not in invoke("sandbox", "stop").stderr

    monkeypatch.setenv(SANDBOX_VARIABLE, "http://127.0.0.1:4566")

    assert 'eval "$(runctl sandbox env --unset)"' in invoke("sandbox", "stop").stderr


@pytest.mark.parametrize("shell", [name for name in ("sh", "bash", "zsh", "fish") if shutil.which(name)])
def test_env_survives_the_shell_whatever_is_in_it(
    invoke: Invoke, control: SimpleNamespace, shell: str
) -> None:
    control.running = Info()
    arguments = ("--shell", "fish") if shell == "fish" else ()
    lines = invoke("sandbox", "env", *arguments).stdout
    unset = invoke("sandbox", "env", *arguments, "--unset").stdout
    show = f"{sys.executable} -c 'import os; print(os.environ.get(\"AWS_REGION\"))'"
    done = subprocess.run(
        [shell, "-c", f"{lines}\n{show}\n{unset}\n{show}\n"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{NASTY}\nNone\n"


def test_fish_has_its_own_way_of_quoting() -> None:
    assert sandbox.export_lines({"A": "it's \\ $HOME"}, "fish") == "set -gx A 'it\\'s \\\\ $HOME'"


def test_a_missing_extra_is_an_error_with_the_command_that_adds_it(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "find_spec", lambda name: None)
    error = error_of(invoke("sandbox", "start", "--output", "json"))
    assert error["code"] == "missing-extra"
    assert "moto" in error["message"]
    assert "runctl[sandbox]" in error["hint"]
