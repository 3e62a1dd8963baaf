"""A volume of an instance that is shutting down is waited for; one of a running instance is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runctl.core.errors import Unreachable
from runctl.core.machine_models import Volume, VolumeState
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2 import releasing
from runctl.testing.progress import RecordedProgress
from tests.cli.fake_provider import INSTANCE_ID, a_volume

HELD = a_volume(state=VolumeState.IN_USE, attached_to=INSTANCE_ID, instances=(INSTANCE_ID,))
FREE = a_volume()
LEAVING = replace(HELD, attached_to=None, instances=())


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """EC2's: the instance's ``state`` (``None``: unknown to it), and ``volumes``, one for each look."""
    answers: dict[str, Any] = {"state": "shutting-down", "volumes": [HELD, LEAVING, FREE]}

    def find_described(_context: AwsContext, _id: str) -> Any:
        return answers["state"] and {"State": {"Name": answers["state"]}}

    def find_volume(_context: AwsContext, _id: str) -> Volume:
        volumes: list[Volume] = answers["volumes"]
        return volumes.pop(0) if len(volumes) > 1 else volumes[0]

    monkeypatch.setattr(releasing, "find_described", find_described)
    monkeypatch.setattr(releasing, "find_volume", find_volume)
    return answers


@pytest.mark.parametrize("state", ["shutting-down", "terminated", None])
def test_a_volume_is_free_when_its_instance_has_let_go_of_it(
    context: AwsContext, answers: dict[str, Any], state: str | None
) -> None:
    answers["state"], progress = state, RecordedProgress()

    assert releasing.released(context, HELD, progress) == FREE
    assert progress.steps == [f"waiting until {INSTANCE_ID}, which is shutting down, releases datasets"]


@pytest.mark.parametrize("state", ["running", "pending", "stopping", "stopped"])
def test_an_instance_that_goes_on_keeps_its_volume(
    context: AwsContext, answers: dict[str, Any], state: str
) -> None:
    answers["state"] = state

    assert releasing.released(context, HELD, RecordedProgress()) is HELD
    assert not releasing.is_being_released(context, HELD)


def test_the_waiting_has_a_limit(context: AwsContext, answers: dict[str, Any]) -> None:
    answers["volumes"] = [HELD]

    with pytest.raises(Unreachable, match=r"still attached to .* after 15m"):
        releasing.released(context, HELD, RecordedProgress())
