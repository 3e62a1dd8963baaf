"""The command line as a test runs it: in this process, with a scripted provider."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner, Result

from runctl.cli.framework.commands import RootGroup
from runctl.cli.main import run as run_program
from runctl.providers import registry
from tests.cli.fake_provider import FakeProvider, Script

Invoke = Callable[..., Result]


class Program(RootGroup):
    """The command line, run by click's test runner as a shell runs it: errors are reported, and decide the code."""

    def main(self, args: Sequence[str] | None = None, *_positional: Any, **_extra: Any) -> NoReturn:
        sys.exit(run_program(list(args or ())))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """What the provider answers; it stands in for every provider."""
    script = Script()
    monkeypatch.setattr(registry, "load", lambda name, config, progress: FakeProvider(script))
    return script


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run one command line in an empty project."""
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)

    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(Program(), arguments, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def data_of(result: Result) -> Any:
    """The one JSON document on stdout of a command that succeeded."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def error_of(result: Result) -> Any:
    """The one JSON error on stderr of a command that failed and printed nothing else."""
    assert result.exit_code != 0
    assert result.stdout == ""
    return json.loads(result.stderr)["error"]


def last_error(result: Any) -> Any:
    """The JSON error that is the last thing on stderr, after the plan."""
    return json.loads(result.stderr[result.stderr.rindex('{\n  "error"') :])["error"]
