"""The network of a sandbox's machines."""

from __future__ import annotations

import socket
from collections.abc import Generator
from functools import partial
from pathlib import Path

import pytest

from runctl.sandbox import network
from runctl.sandbox.layout import Layout
from runctl.sandbox.network import Network

pytestmark = pytest.mark.namespaces


@pytest.fixture
def layout(tmp_path: Path) -> Generator[Layout]:
    """A sandbox's folder, whose network is gone after the test."""
    yield Layout(tmp_path)
    network.remove(Layout(tmp_path))


def test_the_gateway_keeps_its_address_as_machines_come_and_go(layout: Layout) -> None:
    """A machine that remembers it would otherwise send into nothing until it asks again."""
    made = Network(layout)
    made.make()
    device = Path("/sys/class/net", layout.bridge, "address")
    seen = {device.read_text()}
    numbers = []
    for _ in range(6):
        number, _address = made.connect()
        numbers.append(number)
        seen.add(device.read_text())
    for number in numbers:
        made.disconnect(number)
        seen.add(device.read_text())
    assert len(seen) == 1


def test_a_machine_reaches_the_gateway_just_after_others_came(layout: Layout) -> None:
    made = Network(layout)
    made.make()
    first, _address = made.connect()

    def call(port: int) -> None:
        socket.create_connection((made.gateway, port), timeout=2).close()

    with socket.create_server((made.gateway, 0), backlog=16) as server:
        port = server.getsockname()[1]
        network.inside(layout.namespace(first), partial(call, port))
        for _ in range(4):
            made.connect()
            network.inside(layout.namespace(first), partial(call, port))
