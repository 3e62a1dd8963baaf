"""The command line in this process against a sandbox, cut off at any of its calls."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.endpoint
import pytest

from runctl.cli.main import run
from runctl.sandbox.connection import SandboxInfo
from tests.sandbox_fixture import namespaces_sandbox


@pytest.fixture(scope="session")
def sandbox(
    tmp_path_factory: pytest.TempPathFactory, no_settings_of_the_user: None
) -> Generator[SandboxInfo]:
    """One for these tests: they count what is in the account, and leave calls unfinished there."""
    with namespaces_sandbox(tmp_path_factory.mktemp("cut-short")) as info:
        yield info


@dataclass
class Cut:
    """Ctrl-C at a call to AWS: as it is about to be sent, or when it was carried out and its answer is not heard."""

    operation: str = ""
    occurrence: int = 1
    """The how manieth call of that operation."""
    before: bool = False
    calls: list[str] = field(default_factory=list)
    made: bool = False
    """The command has come to that call."""

    def send(self, make_request: Any, endpoint: Any, model: Any, request: Any) -> Any:
        self.calls.append(model.name)
        mine = model.name == self.operation and self.calls.count(model.name) == self.occurrence
        self.made |= mine
        if mine and self.before:
            raise KeyboardInterrupt
        answer = make_request(endpoint, model, request)
        if mine:
            raise KeyboardInterrupt
        return answer


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    calls: tuple[str, ...]

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The JSON error at the end of stderr."""
        found: dict[str, Any] = json.loads(self.err[self.err.rindex('{\n  "error"') :])["error"]
        return found


class Runctl:
    """One command after another, each as if in a process of its own."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._capsys = capsys
        self._make_request = botocore.endpoint.Endpoint.make_request

    def __call__(self, *argv: str, cut: Cut | None = None) -> Ended:
        """Run to its end, or to the cut."""
        cut, make_request = cut or Cut(), self._make_request
        self._patch.setattr(
            botocore.endpoint.Endpoint,
            "make_request",
            lambda endpoint, model, request: cut.send(make_request, endpoint, model, request),
        )
        self._capsys.readouterr()
        code = run([*argv, "--output", "json", "--yes"])
        out, err = self._capsys.readouterr()
        return Ended(code, out, err, tuple(cut.calls))

    def ok(self, *argv: str) -> Ended:
        """Itself, where it succeeded."""
        ended = self(*argv)
        assert ended.code == 0, ended
        return ended


@pytest.fixture
def runctl(
    in_sandbox: SandboxInfo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Runctl]:
    """In an empty project, with a state file of its own."""
    (tmp_path / "project" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with pytest.MonkeyPatch.context() as patch:
        yield Runctl(patch, capsys)
