"""A machine's body, without the API around it."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from runctl.sandbox.layout import Layout
from runctl.sandbox.machines import network
from runctl.sandbox.machines.hardware import Hardware
from runctl.sandbox.machines.machine import BootFailed, Machine
from runctl.sandbox.machines.network import Network
from tests.sandbox.traces import traces

pytestmark = pytest.mark.namespaces


@pytest.fixture
def layout(tmp_path: Path) -> Generator[Layout]:
    yield Layout(tmp_path)
    network.remove(Layout(tmp_path))


def test_one_that_was_removed_before_it_booted_starts_nothing(layout: Layout) -> None:
    """As when a sandbox stops while its machines are booting."""
    created = Network(layout)
    created.make()
    machine = Machine(layout, created, Hardware("i-0123456789abcdef0", "ec2-user", False, None, None, {}))
    machine.remove()
    with pytest.raises(BootFailed, match="has been removed"):
        machine.boot(first=True)
    assert not machine.is_up
    assert not any(line.startswith(("process", "namespace")) for line in traces(layout.home))
