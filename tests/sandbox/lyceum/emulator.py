"""Lyceum's API in this process, whose VMs run in nothing: asked by HTTP, or by runctl's own provider."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from werkzeug.test import Client

from runctl.sandbox.ec2 import launch
from runctl.sandbox.lyceum import api
from runctl.sandbox.lyceum.account import Account
from runctl.sandbox.machines.hardware import Hardware
from tests.e2e.command_line import until

KEY = "lk_mine"
L40S = {
    "hardware_profile": "l40s",
    "user_public_key": "key",
    "instance_type": "on-demand",
    "display_name": "mine",
}


class Nothing:
    """A machine that is there at once."""

    address = "198.51.100.20"

    def __init__(self) -> None:
        self.on_power_off: Callable[[str], None] = lambda _: None

    def boot(self, *, first: bool) -> None:
        """It has."""


class Lyceum:
    """The API, asked as a client asks it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(launch, "machine_environment", lambda _world: {})
        monkeypatch.setattr("os.chown", lambda *_: None)
        self.account = Account()
        self.account.folder = folder
        self.behaviour = self.account.behaviour
        self.behaviour.create_seconds = self.behaviour.no_address_seconds = 0.0
        self.machines: list[Nothing] = []
        world = SimpleNamespace(
            lyceum=self.account,
            docker=False,
            network=object(),
            new_machine=self._new_machine,
            forget_machine=lambda _id: None,
        )
        self.application = api.LyceumApi(cast(Any, world), KEY)
        self._client = Client(self.application)

    def _new_machine(self, _hardware: Hardware) -> Nothing:
        self.machines.append(Nothing())
        return self.machines[-1]

    def ask(
        self, method: str, path: str, body: Any = None, key: str = KEY, organisation: str | None = None
    ) -> Any:
        """Status and content."""
        answer = self._client.open(
            f"/lyceum/api/v2/external{path}",
            method=method,
            json=body,
            headers={
                "Authorization": f"Bearer {key}",
                **({"X-Org-Slug": organisation} if organisation else {}),
            },
        )
        return answer.status_code, answer.get_json(silent=True)

    def create(self, **more: Any) -> str:
        """The id of a VM that has an address."""
        status, vm = self.ask("POST", "/vms/create", {**L40S, **more})
        assert status == 200, vm
        until(lambda: self.account.vms[vm["vm_id"]].address, what="its address")
        return str(vm["vm_id"])

    def vm(self, vm_id: str) -> Any:
        return self.ask("GET", f"/vms/{vm_id}/status")[1]
