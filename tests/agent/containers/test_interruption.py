"""A machine that is taken back while a run is in a container, in Compose, or still being built."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from runctl.agent.end_reason import EndReason
from tests.agent.containers.test_compose import FILE, service
from tests.agent.driver import Agent, until
from tests.agent.engine import BASE
from tests.agent.metadata_service import MetadataService, metadata_service
from tests.agent.supervising.test_interruption import SAVES

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.docker]


@pytest.fixture
def metadata(machine: Agent) -> Iterator[MetadataService]:
    with metadata_service() as announced:
        machine.env.update(announced.variables)
        yield announced


@pytest.mark.parametrize(
    ("container", "files"),
    [
        pytest.param({"image": BASE, "code": "mount"}, {}, id="container"),
        pytest.param(service(), {"compose.yaml": FILE}, id="compose", marks=pytest.mark.compose),
    ],
)
def test_the_training_in_a_container_is_asked_to_save_and_has_saved(
    machine: Agent, metadata: MetadataService, container: dict[str, object], files: dict[str, str]
) -> None:
    # The shell above it would die of a signal that it has no handler for.
    machine.sync({"train.py": SAVES, "go.sh": "python3 -u train.py\necho ended with $?\n", **files})
    machine.start("r", "go.sh", container=container)
    machine.says("r", "up")
    metadata.recommend_rebalance()
    machine.says("r", f"saved by {int(signal.SIGUSR1)}")
    metadata.interrupt(90)
    end = machine.ended("r")
    assert end.reason is EndReason.INTERRUPTED, machine.log("r")
    assert machine.output("r")[-2:] == [f"saved by {int(signal.SIGTERM)}", "ended with 0"]
    assert end.hand_off is not None
    assert end.hand_off.checkpoint == f"step-{end.hand_off.step}.json"
    assert {"heard", "signalled", "script_ended", "verified"} == set(end.hand_off.stages)
    assert end.hand_off.left == ()


def test_a_notice_during_an_image_build_is_an_interruption(machine: Agent, metadata: MetadataService) -> None:
    machine.sync({"train.py": "print('never')\n", "Dockerfile": f"FROM {BASE}\nRUN sleep 600\n"})
    machine.start("r", "train.py", container={"dockerfile": "Dockerfile"})
    until(lambda: "sleep 600" in machine.log("r"), "the build")
    metadata.interrupt(60)
    end = machine.ended("r")
    assert end.reason is EndReason.INTERRUPTED, machine.log("r")
    assert "never" not in machine.output("r")
