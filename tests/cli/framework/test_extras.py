"""What an installation lacks is named with the command that adds it."""

from __future__ import annotations

import sys

import pytest

from runctl.cli.framework import extras


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
    monkeypatch.setattr(extras, "find_spec", lambda name: object() if pip else None)
    assert extras.install_command("sandbox").endswith(command)
