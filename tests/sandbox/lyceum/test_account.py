"""VMs that are ended before they have come up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from runctl.sandbox.lyceum import account
from runctl.sandbox.lyceum.account import Account
from runctl.sandbox.machines.hardware import Hardware
from runctl.sandbox.machines.machine import BootFailed


class Machine:
    """It does what the test says while it boots."""

    address = "198.51.100.20"

    def __init__(self, boot: Callable[[], None]) -> None:
        self._boot = boot

    def boot(self, *, first: bool) -> None:
        assert first
        self._boot()


class World:
    """Machines that are never made, and threads that begin when the test says."""

    docker = False

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made, self.forgotten = list[str](), list[str]()
        self.threads: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.on_boot: Callable[[], None] = lambda: None
        monkeypatch.setattr(account, "threading", self)
        self.account = Account()
        self.account.behaviour.create_seconds = self.account.behaviour.no_address_seconds = 0.0

    RLock = staticmethod(threading.RLock)

    def Thread(  # noqa: N802 (threading's own name)
        self, *, target: Callable[..., None], args: tuple[Any, ...], daemon: bool
    ) -> World:
        assert daemon
        self.threads.append((target, args))
        return self

    def start(self) -> None:
        """It is begun by `go_on`."""

    def go_on(self) -> None:
        while self.threads:
            target, args = self.threads.pop(0)
            target(*args)

    def new_machine(self, hardware: Hardware) -> Any:
        self.made.append(hardware.instance_id)
        return Machine(self.on_boot)

    def forget_machine(self, instance_id: str) -> None:
        self.forgotten.append(instance_id)

    def create(self) -> Any:
        return self.account.create(self, {"hardware_profile": "h100", "user_public_key": "key"}, {})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_one_that_is_ended_at_once_does_not_come_back(world: World) -> None:
    vm = world.create()
    world.account.terminate(world, vm.vm_id)
    world.go_on()
    assert (vm.status, vm.address, world.made) == ("terminated", None, [])


@pytest.mark.parametrize("fails", [False, True])
def test_one_that_is_ended_while_it_boots_leaves_nothing(world: World, fails: bool) -> None:
    vm = world.create()

    def end() -> None:
        world.account.terminate(world, vm.vm_id)
        world.go_on()
        world.forgotten.clear()
        if fails:
            raise BootFailed

    world.on_boot = end
    world.go_on()
    assert (vm.status, vm.address) == ("terminated", None)
    assert world.forgotten == world.made


@pytest.mark.parametrize(
    ("fails", "status", "address"), [(False, "ready", Machine.address), (True, "error", None)]
)
def test_one_that_nobody_ends_comes_up_or_fails(
    world: World, fails: bool, status: str, address: str | None
) -> None:
    def boot() -> None:
        if fails:
            raise BootFailed

    world.on_boot = boot
    vm = world.create()
    world.go_on()
    assert (vm.status, vm.address) == (status, address)
