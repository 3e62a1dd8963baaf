"""What a run was entrusted with is its own as long as it goes on."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from runctl.agent import records
from runctl.agent.images import credentials
from tests.agent.driver import Agent


@pytest.mark.parametrize(("ended", "kept"), [(False, True), (True, False), (None, False)])
def test_secrets_are_stale_only_when_no_attempt_of_their_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool | None, kept: bool
) -> None:
    for module in (credentials, records):
        monkeypatch.setattr(module, "state_directory", lambda: tmp_path)
    (tmp_path / "runs").mkdir()
    secret = {"token": base64.b64encode(b"x").decode()}
    credentials.entrust({"run_id": "run-building", "secrets": secret})
    os.utime(credentials.folder_of("run-building"), (1_000_000, 1_000_000))
    if ended is not None:
        attempt = tmp_path / "runs" / "run-building" / "1"
        attempt.mkdir(parents=True)
        (attempt / "spec.json").write_text("{}")
        if ended:
            (attempt / "end.json").write_text("{}")

    credentials.entrust({"run_id": "run-another", "secrets": secret})

    assert credentials.folder_of("run-building").exists() is kept
    assert credentials.folder_of("run-another").exists()


def test_an_attempt_that_ends_without_an_image_leaves_no_secrets(agent: Agent) -> None:
    agent.sync({"train.py": "print(1)"})
    secret = base64.b64encode(b"x").decode()
    assert agent.call("entrust", {"run_id": "run-1", "secrets": {"token": secret}}).ok == {}

    agent.start("run-1", "train.py")
    agent.ended("run-1")

    assert not (agent.state / "entrusted" / "run-1").exists()
