"""RunPod's API in this process, whose pods run in nothing: asked by HTTP, or by runctl's own provider."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from werkzeug.test import Client

from runctl.sandbox.runpod import api
from runctl.sandbox.runpod.account import Account
from runctl.sandbox.runpod.runtimes import Door, Runtime
from tests.e2e.command_line import until

KEY = "rpa_mine"
A5000 = {
    "name": "mine",
    "image": "x",
    "gpu": {"id": "NVIDIA RTX A5000", "count": 1},
    "disk": 5,
    "ports": ["22/tcp"],
}


class Nothing(Runtime):
    """It does what the test says."""

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.started = self.ended = 0

    def start(self) -> Door:
        self.started += 1
        if self.fails is not None:
            raise self.fails
        return Door("127.0.0.1", 40_000 + self.started)

    def end(self) -> None:
        self.ended += 1


class RunPod:
    """The API, asked as a client asks it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(api, "machine_environment", lambda _world: {})
        self.account = Account()
        self.account.volumes.folder = folder
        self.behaviour = self.account.behaviour
        self.behaviour.start_seconds = self.behaviour.no_port_seconds = 0.0
        self.runtime = Nothing()
        monkeypatch.setattr(self.account, "_runtime", lambda *_: self.runtime)
        world = SimpleNamespace(
            runpod=self.account, docker=False, network=object(), endpoint_in_machines="http://x"
        )
        self.application = api.RunPodApi(cast(Any, world), KEY)
        self._client = Client(self.application)

    def ask(self, method: str, path: str, body: Any = None, key: str = KEY) -> Any:
        """Status and content."""
        answer = self._client.open(
            f"/runpod{path}",
            method=method,
            json=body,
            headers={"Authorization": f"Bearer {key}", "User-Agent": "tests"},
        )
        return answer.status_code, answer.get_json(silent=True)

    def create(self, **more: Any) -> str:
        """The id of a pod that runs, or tries to."""
        status, pod = self.ask("POST", "/pods", {**A5000, **more})
        assert status == 201, pod
        until(lambda: self.pod(pod["id"])["status"] in {"RUNNING", "ERROR"}, what="the pod to be placed")
        return str(pod["id"])

    def pod(self, pod_id: str) -> Any:
        return self.ask("GET", f"/pods/{pod_id}")[1]
