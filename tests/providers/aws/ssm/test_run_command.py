"""Run Command's errors, moods and patience."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from runctl.core.errors import (
    CredentialsError,
    InstanceEnded,
    MachineError,
    PermissionDenied,
    ProviderError,
    Unreachable,
)
from runctl.providers.aws.ssm.run_command import RunCommand
from runctl.providers.aws.ssm.transport import SsmTransport
from runctl.testing.clock import ManualClock
from tests.providers.aws.ssm.server import HURRY, FakeSsm, client_error

pytestmark = [pytest.mark.root, pytest.mark.linux]


def test_a_machine_that_its_provider_calls_ended_is_not_waited_for(ssm: FakeSsm) -> None:
    clock, asked = ManualClock(), [0]

    def still_there(_silent: float) -> None:
        asked[0] += 1
        if clock.monotonic() > 12:
            raise InstanceEnded("it is terminated")

    ssm.deaf = True
    commands = RunCommand(ssm, ssm.instance_id, still_there=still_there, clock=clock)
    with pytest.raises(InstanceEnded):
        commands.ask("drop", {"id": "0" * 32})

    assert clock.monotonic() < 20
    assert asked[0] <= 4


def test_an_instance_that_ssm_does_not_know_is_unreachable(ssm: FakeSsm) -> None:
    with pytest.raises(Unreachable) as caught:
        SsmTransport(ssm, "i-other", user="root", clock=HURRY).run(["true"])
    assert "instance profile" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AccessDeniedException", PermissionDenied),
        ("ExpiredTokenException", CredentialsError),
        ("ThrottlingException", Unreachable),
        ("InvalidDocument", ProviderError),
    ],
)
def test_an_api_error_is_the_right_one_of_ours(
    bare: SsmTransport, ssm: FakeSsm, code: str, expected: type[Exception]
) -> None:
    ssm.fail_next.append(client_error("SendCommand", code, "in AWS's words"))
    with pytest.raises(expected, match="in AWS's words"):
        bare.run(["true"])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NoCredentialsError(), CredentialsError),
        (EndpointConnectionError(endpoint_url="https://ssm.invalid"), Unreachable),
    ],
)
def test_no_credentials_and_no_network_are_told_apart(
    bare: SsmTransport, ssm: FakeSsm, error: Any, expected: type[Exception]
) -> None:
    ssm.fail_next.append(error)
    with pytest.raises(expected):
        bare.run(["true"])


def test_throttling_while_waiting_is_waited_out(ssm: FakeSsm) -> None:
    transport = SsmTransport(ssm, ssm.instance_id, user="root", clock=HURRY)
    real = ssm.send_command

    def send(**parameters: Any) -> Any:
        sent = real(**parameters)
        ssm.fail_next += [client_error("GetCommandInvocation", "ThrottlingException", "slow down")] * 3
        return sent

    ssm.send_command = send  # type: ignore[method-assign]
    assert transport.run(["echo", "patient"]).stdout == b"patient\n"


def test_a_machine_that_does_not_take_commands_up_is_unreachable_and_the_command_cancelled(
    ssm: FakeSsm,
) -> None:
    clock = ManualClock()
    ssm.deaf = True
    commands = RunCommand(ssm, ssm.instance_id, clock=clock)
    with pytest.raises(Unreachable, match="does not answer through SSM"):
        commands.ask("drop", {"id": "0" * 32})
    assert ssm.cancelled == [ssm.sent[0]["CommandId"]]
    assert clock.monotonic() < 200


def test_polling_begins_quickly_and_becomes_patient(ssm: FakeSsm) -> None:
    pauses: list[float] = []
    clock = ManualClock()
    clock.on_sleep = pauses.append
    ssm.deaf = True
    with pytest.raises(Unreachable):
        RunCommand(ssm, ssm.instance_id, clock=clock).ask("drop", {"id": "0" * 32})
    assert pauses[0] <= 0.2
    assert max(pauses) <= 1.0


def test_a_cancelled_command_says_so(ssm: FakeSsm) -> None:
    def cancel(_seconds: float) -> None:
        for sent in ssm.sent:
            if sent["CommandId"] not in ssm.cancelled:
                ssm.cancel_command(CommandId=sent["CommandId"], InstanceIds=[ssm.instance_id])

    clock = ManualClock()
    clock.on_sleep = cancel
    with pytest.raises(Unreachable, match="Cancelled"):
        RunCommand(ssm, ssm.instance_id, clock=clock).ask("drop", {"id": "0" * 32})


def test_a_machine_without_python_is_told_so(bare: SsmTransport, ssm: FakeSsm, tmp_path: Path) -> None:
    ssm.path = str(tmp_path)
    with pytest.raises(MachineError) as caught:
        bare.run(["true"])
    assert caught.value.code == "no-python"
