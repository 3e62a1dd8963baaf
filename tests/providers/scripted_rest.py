"""What stands for the network in tests of providers that speak HTTP: it answers what a test scripted, and fails on
everything else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.providers.rest import RestClient
from runctl.testing.clock import ManualClock


class Unscripted(AssertionError):
    """Nobody has said what is answered to this call."""


@dataclass(frozen=True)
class Sent:
    """A call, as it would have gone out."""

    method: str
    url: str
    headers: dict[str, str]
    body: Any = None


@dataclass
class ScriptedNetwork:
    """Answers in turn: each by method and the end of the address, with a status and what is sent as JSON."""

    answers: list[tuple[str, str, int, Any]] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    def answer(self, method: str, path: str, value: Any = None, status: int = 200) -> None:
        """One more."""
        self.answers.append((method, path, status, value))

    def request(self, method: str, url: str, *, headers: dict[str, str], body: Any, **_: Any) -> Any:
        """As urllib3's pool does it."""
        self.sent.append(Sent(method, url, dict(headers), None if body is None else json.loads(body)))
        if not self.answers or self.answers[0][0] != method or not url.endswith(self.answers[0][1]):
            raise Unscripted(f"{method} {url}")
        _method, _path, status, value = self.answers.pop(0)
        data = b"" if value is None else json.dumps(value).encode()
        return SimpleNamespace(status=status, data=data, headers={})


@contextmanager
def interrupted(clock: ManualClock) -> Iterator[None]:
    """In the block Ctrl-C comes at the first wait, and the block ends by it."""

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    clock.on_sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        yield
    clock.on_sleep = None


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> ScriptedNetwork:
    """No call leaves this process."""
    found = ScriptedNetwork()
    monkeypatch.setattr(RestClient, "_pool", found)
    return found
