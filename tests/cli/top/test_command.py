"""What ``top`` wants before it takes the screen."""

from __future__ import annotations

import pytest

from runctl.cli.top import command
from tests.cli.conftest import Invoke, error_of


def test_it_needs_a_terminal_and_says_what_does_without(invoke: Invoke) -> None:
    error = error_of(invoke("top", "--output", "json"))
    assert error["code"] == "no-terminal"
    assert "runctl status" in error["hint"]


def test_without_textual_the_command_that_installs_it_is_named(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    error = error_of(invoke("top", "--output", "json"))
    assert error["code"] == "missing-extra"
    assert "runctl[tui]" in error["hint"]


def test_machines_are_not_asked_more_than_once_a_second(invoke: Invoke) -> None:
    assert "at least a second" in error_of(invoke("top", "--interval", "0.1s", "--output", "json"))["message"]
