"""When a provider's word on an instance ends the waiting for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from runctl.core.errors import InstanceEnded, NotFound, RunctlError, Unreachable
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.providers.aws.calls.parse import instance_of
from runctl.providers.ended import ended, what_became_of
from runctl.providers.interface import Provider

MACHINE = Instance(
    id=InstanceId("i-0abc"),
    provider="aws",
    state=InstanceState.RUNNING,
    instance_type="t3.micro",
    market=Market.SPOT,
    zone=None,
    public_ip=None,
    private_ip=None,
    price_per_hour=None,
    project=None,
    owner=None,
    created_at=datetime(2026, 5, 1, tzinfo=UTC),
)


@pytest.mark.parametrize(
    ("state", "silent", "is_over"),
    [
        (InstanceState.PENDING, 1e9, False),
        (InstanceState.RUNNING, 1e9, False),
        (InstanceState.SHUTTING_DOWN, 11.0, False),
        (InstanceState.SHUTTING_DOWN, 12.0, True),
        (InstanceState.STOPPING, 11.0, False),
        (InstanceState.STOPPING, 12.0, True),
        (InstanceState.STOPPED, 0.0, True),
        (InstanceState.TERMINATED, 0.0, True),
    ],
)
def test_a_machine_that_shuts_down_may_still_speak(
    state: InstanceState, silent: float, is_over: bool
) -> None:
    assert (ended(replace(MACHINE, state=state), silent) is not None) is is_over


@pytest.mark.parametrize(
    ("code", "interrupted"),
    [
        ("Server.SpotInstanceTermination", True),
        ("Server.SpotInstanceShutdown", True),
        ("Client.UserInitiatedShutdown", False),
        ("Client.InstanceInitiatedShutdown", False),
        ("Server.InternalError", False),
    ],
)
def test_what_ec2_calls_a_spot_termination_is_an_interruption(code: str, interrupted: bool) -> None:
    described = {
        "InstanceId": "i-0abc",
        "State": {"Name": "terminated"},
        "InstanceType": "t3.micro",
        "StateReason": {"Code": code, "Message": f"{code}: in EC2's words"},
    }

    error = ended(instance_of(described))

    assert error is not None
    assert error.interrupted is interrupted
    assert "in EC2's words" in error.message
    assert error.exit_code == 7


class Account:
    """A provider that answers so."""

    def __init__(self, answer: Instance | RunctlError) -> None:
        self.answer = answer

    def instance(self, _identifier: str) -> Any:
        if isinstance(self.answer, RunctlError):
            raise self.answer
        return self.answer


def test_what_does_not_exist_is_over_and_what_cannot_be_seen_is_not() -> None:
    def became(answer: Instance | RunctlError) -> object:
        return what_became_of(cast("Provider", Account(answer)), MACHINE.id)

    gone = became(NotFound("no such instance"))
    assert isinstance(gone, InstanceEnded)
    assert gone.forgotten
    assert became(Unreachable("EC2 does not answer")) is None
    assert became(MACHINE) is None
