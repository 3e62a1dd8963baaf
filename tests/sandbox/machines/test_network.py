"""The network of a sandbox's machines."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import pytest

from runctl.sandbox.layout import Layout
from runctl.sandbox.machines import network
from runctl.sandbox.machines.network import Network

pytestmark = pytest.mark.namespaces


@pytest.fixture
def layout(tmp_path: Path) -> Generator[Layout]:
    """A sandbox's folder, whose network is gone after the test."""
    yield Layout(tmp_path)
    network.remove(Layout(tmp_path))


def test_the_gateway_keeps_its_address_as_machines_come_and_go(layout: Layout) -> None:
    """A machine that remembers it would otherwise send into nothing until it asks again."""
    created = Network(layout)
    created.make()
    device = Path("/sys/class/net", layout.bridge, "address")
    seen = {device.read_text()}
    numbers = []
    for _ in range(6):
        number, _address = created.connect()
        numbers.append(number)
        seen.add(device.read_text())
    for number in numbers:
        created.disconnect(number)
        seen.add(device.read_text())
    assert len(seen) == 1


def test_a_machine_reaches_the_gateway_just_after_others_came(layout: Layout) -> None:
    created = Network(layout)
    created.make()
    first, _address = created.connect()

    def call(port: int) -> None:
        socket.create_connection((created.gateway, port), timeout=2).close()

    with socket.create_server((created.gateway, 0), backlog=16) as server:
        port = server.getsockname()[1]
        network.inside(layout.namespace(first), partial(call, port))
        for _ in range(4):
            created.connect()
            network.inside(layout.namespace(first), partial(call, port))


@pytest.fixture
def stranger(layout: Layout) -> Iterator[tuple[str, str]]:
    """Another computer, on a cable of its own: its namespace, and this computer's address on that cable."""
    tag = layout.tag
    namespace, here, there = f"rctt-{tag}", f"rh{tag}", "eth0"
    subnet = f"10.253.{int(tag[:2], 16)}"
    network.run("ip", "netns", "add", namespace)
    try:
        network.run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", namespace)
        network.run("ip", "address", "add", f"{subnet}.1/24", "dev", here)
        network.run("ip", "link", "set", here, "up")
        network.run("ip", "-netns", namespace, "address", "add", f"{subnet}.2/24", "dev", there)
        network.run("ip", "-netns", namespace, "link", "set", there, "up")
        yield namespace, f"{subnet}.1"
    finally:
        network.run("ip", "netns", "delete", namespace)
        network.run("ip", "link", "delete", here, check=False)


def reaches(namespace: str | None, address: str, port: int) -> bool:
    """Whether somebody answers."""

    def call() -> bool:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            return False
        return True

    return call() if namespace is None else network.inside(namespace, call)


def test_another_computer_reaches_neither_the_sandbox_nor_its_machines(
    layout: Layout, stranger: tuple[str, str]
) -> None:
    """Linux takes packets for any of its addresses on every device, and forwards what a route sends its way."""
    created = Network(layout)
    created.make()
    number, address = created.connect()
    namespace, way = stranger
    network.run("ip", "-netns", namespace, "route", "add", str(created.subnet), "via", way)
    machine = layout.namespace(number)
    with (
        socket.create_server((created.gateway, 0)) as server,
        network.listen(machine, address, 22),
        socket.create_server((way, 0)) as outside,
    ):
        port = server.getsockname()[1]
        assert reaches(namespace, way, outside.getsockname()[1])

        assert not reaches(namespace, created.gateway, port)
        assert not reaches(namespace, address, 22)
        assert reaches(None, created.gateway, port)
        assert reaches(None, address, 22)
        assert reaches(machine, created.gateway, port)


def test_another_user_of_this_computer_does_not_reach_the_machines_registry(layout: Layout) -> None:
    created = Network(layout)
    created.make()
    with socket.create_server((created.gateway, network.REGISTRY_PORT)):
        call = f"import socket; socket.create_connection(('{created.gateway}', {network.REGISTRY_PORT}), timeout=2)"

        assert reaches(None, created.gateway, network.REGISTRY_PORT)
        stranger = subprocess.run(
            ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", call],
            capture_output=True,
            text=True,
            check=False,
        )

    assert "ConnectionRefusedError" in stranger.stderr


def test_forwarding_is_as_it_was_once_the_last_sandbox_is_gone(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file in the setting's place: others on this computer may need what the setting really is."""
    setting = tmp_path / "ip_forward"
    setting.write_text("0\n")
    monkeypatch.setattr(network, "_IP_FORWARD", setting)
    monkeypatch.setattr(network, "_FORWARDING", tmp_path / "holders")
    monkeypatch.setattr(network, "_others_forward", lambda: False)

    network.hold_forwarding("lo")
    network.hold_forwarding("rctl-crashed")
    assert setting.read_text() == "1"
    network.release_forwarding("rctl-crashed")
    assert setting.read_text() == "1"
    network.hold_forwarding("rctl-crashed")
    network.release_forwarding("lo")

    assert setting.read_text() == "0"
    network.release_forwarding("lo")


def test_forwarding_stays_where_another_program_relies_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = tmp_path / "ip_forward"
    setting.write_text("0\n")
    monkeypatch.setattr(network, "_IP_FORWARD", setting)
    monkeypatch.setattr(network, "_FORWARDING", tmp_path / "holders")
    monkeypatch.setattr(network, "_others_forward", lambda: True)

    network.hold_forwarding("lo")
    network.release_forwarding("lo")

    assert setting.read_text() == "1"
