"""``sandbox``, over a stand-in for the sandbox's own control."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from runctl.cli import sandbox
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

    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self.endpoint_url, "NASTY": NASTY}


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A sandbox that is not running; `start` says how it was started."""
    stand_in = SimpleNamespace(running=None, started_with=None)

    def start(*, report: Callable[[str], None], **options: object) -> Info:
        report("making machines")
        stand_in.started_with = options
        stand_in.running = Info()
        return Info()

    def stop(*, report: Callable[[str], None]) -> tuple[str, ...]:
        ended = ("process 42",) if stand_in.running else ()
        stand_in.running = None
        return ended

    stand_in.start, stand_in.stop, stand_in.status = start, stop, lambda: stand_in.running
    monkeypatch.setattr(sandbox, "_control", lambda: stand_in)
    return stand_in


def test_start_says_what_is_left_out_and_how_to_get_in(invoke: Invoke, control: SimpleNamespace) -> None:
    result = invoke("sandbox", "start", "--kind", "folders", "--region", "eu-west-1")
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


def test_env_without_a_sandbox_says_how_to_start_one(invoke: Invoke, control: SimpleNamespace) -> None:
    result = invoke("sandbox", "env", "--output", "json")
    assert result.exit_code == 5
    assert error_of(result)["hint"] == "runctl sandbox start"


@pytest.mark.parametrize("shell", [name for name in ("sh", "bash", "zsh", "fish") if shutil.which(name)])
def test_env_survives_the_shell_whatever_is_in_it(
    invoke: Invoke, control: SimpleNamespace, shell: str
) -> None:
    control.running = Info()
    arguments = ("--shell", "fish") if shell == "fish" else ()
    lines = invoke("sandbox", "env", *arguments).stdout
    unset = invoke("sandbox", "env", *arguments, "--unset").stdout
    show = f"{sys.executable} -c 'import os; print(os.environ.get(\"NASTY\"))'"
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


@pytest.mark.parametrize(
    ("prefix", "pip", "command"),
    [
        ("/home/a/.local/share/uv/tools/runctl", False, "uv tool install 'runctl[sandbox]'"),
        ("/home/a/.local/pipx/venvs/runctl", True, "pipx install --force 'runctl[sandbox]'"),
        ("/venv", True, "/p y/python' -m pip install 'runctl[sandbox]'"),
        ("/venv", False, "uv pip install --python '/p y/python' 'runctl[sandbox]'"),
    ],
)
def test_the_fix_suits_how_runctl_was_installed(
    prefix: str, pip: bool, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "executable", "/p y/python")
    monkeypatch.setattr(sandbox, "find_spec", lambda name: object() if pip else None)
    assert sandbox.install_hint().endswith(command)
