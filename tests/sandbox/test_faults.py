"""What the sandbox lets go wrong on request, and credentials that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from runctl.core.errors import NotFound
from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.sandbox.account import Account, Machine, code_of, until
from tests.sandbox.conftest import Launch, MakeVolume

pytestmark = pytest.mark.namespaces

Run = Callable[..., dict[str, Any]]
SPOT = {"InstanceMarketOptions": {"MarketType": "spot"}}
METADATA = "http://169.254.169.254/latest"


def refusal(call: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    return code_of(refused.value)


def notice(machine: Machine, path: str) -> tuple[str, str]:
    """Status and text of the metadata service's answer."""
    token = f"$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {METADATA}/api/token)"
    said = machine.run(
        f"curl -s -w '\\n%{{http_code}}' -H \"X-aws-ec2-metadata-token: {token}\" {METADATA}/meta-data/{path}"
    )
    text, _, status = said.rpartition("\n")
    return status.strip(), text


def test_an_instance_is_lost_without_notice(
    account: Account, launch: Launch, make_volume: MakeVolume, faults: Faults
) -> None:
    machine, volume = launch(), make_volume()
    machine.attach(volume)
    machine.root("mkfs.ext4 -q /dev/sdf; mkdir /mnt/data; mount /dev/sdf /mnt/data")

    faults.kill_instance(machine.id)

    described = account.wait_state(machine.id, "terminated")
    assert described["StateReason"]["Code"].startswith("Server.")
    account.wait_volume(volume, "available")


def test_losing_an_instance_that_is_not_there_is_an_error(faults: Faults) -> None:
    with pytest.raises(NotFound, match="i-0123456789abcdef0"):
        faults.kill_instance("i-0123456789abcdef0")


def test_a_zone_without_capacity_is_said_to_be_that_and_others_have_some(
    account: Account, run_instances: Run, faults: Faults
) -> None:
    faults.no_capacity(zone="us-east-1a")

    assert (
        refusal(run_instances, Placement={"AvailabilityZone": "us-east-1a"}) == "InsufficientInstanceCapacity"
    )
    instance = run_instances(Placement={"AvailabilityZone": "us-east-1b"})
    assert account.describe(instance["InstanceId"])["Placement"]["AvailabilityZone"] == "us-east-1b"


def test_a_type_without_capacity_leaves_other_types(run_instances: Run, faults: Faults) -> None:
    faults.no_capacity(instance_type="g5.xlarge")

    assert refusal(run_instances, InstanceType="g5.xlarge") == "InsufficientInstanceCapacity"
    run_instances(InstanceType="t3.small")


def test_a_call_is_throttled_as_often_as_asked(account: Account, faults: Faults) -> None:
    faults.throttle("DescribeInstances", 2)

    assert [refusal(account.ec2.describe_instances) for _ in range(2)] == ["RequestLimitExceeded"] * 2
    account.ec2.describe_instances()


def test_a_throttled_call_goes_through_with_botocores_own_retries(account: Account, faults: Faults) -> None:
    faults.throttle("DescribeVolumes", 1)
    patient = account.session.client(
        "ec2", endpoint_url=account.info.endpoint_url, config=Config(retries={"mode": "standard"})
    )

    assert "Volumes" in patient.describe_volumes()


def test_a_denied_action_is_unauthorized_and_nothing_happens(
    account: Account, run_instances: Run, faults: Faults
) -> None:
    before = len(account.ec2.describe_instances()["Reservations"])
    faults.deny("ec2:RunInstances")

    assert refusal(run_instances) == "UnauthorizedOperation"
    assert len(account.ec2.describe_instances()["Reservations"]) == before


def test_a_slow_boot_keeps_the_instance_pending(account: Account, run_instances: Run, faults: Faults) -> None:
    faults.boot_delay(2)

    instance = run_instances()

    with pytest.raises(AssertionError, match="to be running"):
        account.wait_state(instance["InstanceId"], "running", seconds=1.5)
    account.wait_state(instance["InstanceId"], "running")


def test_an_instance_that_never_boots_can_be_terminated(
    account: Account, run_instances: Run, faults: Faults
) -> None:
    faults.boot_never()

    instance = run_instances()["InstanceId"]

    with pytest.raises(AssertionError):
        account.wait_state(instance, "running", seconds=1)
    account.ec2.terminate_instances(InstanceIds=[instance])
    account.wait_state(instance, "terminated")


def test_an_interruption_is_announced_and_then_comes(
    account: Account, launch: Launch, faults: Faults
) -> None:
    machine = launch(**SPOT)
    assert notice(machine, "spot/instance-action")[0] == "404"

    faults.interrupt(machine.id, 4)

    text = until(lambda: _heard(machine, "spot/instance-action"), "the notice")
    assert json.loads(text)["action"] == "terminate"
    assert account.state(machine.id) == "running"
    described = account.wait_state(machine.id, "terminated")
    assert described["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    (request,) = account.ec2.describe_spot_instance_requests(
        SpotInstanceRequestIds=[described["SpotInstanceRequestId"]]
    )["SpotInstanceRequests"]
    assert (request["State"], request["Status"]["Code"]) == ("closed", "instance-terminated-no-capacity")


def _heard(machine: Machine, path: str) -> str:
    status, text = notice(machine, path)
    return text if status == "200" else ""


def test_a_rebalance_is_recommended(launch: Launch, faults: Faults) -> None:
    machine = launch(**SPOT)
    assert notice(machine, "events/recommendations/rebalance")[0] == "404"

    faults.rebalance(machine.id)

    status, text = notice(machine, "events/recommendations/rebalance")
    assert status == "200"
    assert "noticeTime" in json.loads(text)


def test_clearing_ends_every_fault(account: Account, run_instances: Run, faults: Faults) -> None:
    faults.no_capacity()
    faults.deny("ec2:DescribeVolumes")
    faults.throttle("DescribeInstances", 100)

    faults.clear()

    account.ec2.describe_volumes()
    account.ec2.describe_instances()
    run_instances()


def client(info: SandboxInfo, service: str, key: str, token: str | None = None) -> Any:
    return boto3.Session(
        aws_access_key_id=key, aws_secret_access_key="x", aws_session_token=token, region_name=info.region
    ).client(
        service,  # type: ignore[call-overload]
        endpoint_url=info.endpoint_url,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("ec2", "describe_instances", "RequestExpired"),
        ("sts", "get_caller_identity", "ExpiredToken"),
        ("s3", "list_buckets", "ExpiredToken"),
        ("ssm", "describe_instance_information", "ExpiredTokenException"),
    ],
)
def test_expired_credentials_are_refused_in_each_services_words(
    sandbox: SandboxInfo, service: str, operation: str, code: str
) -> None:
    expired = client(sandbox, service, "ASIAEXPIRED000000000", "expired")

    assert refusal(getattr(expired, operation)) == code


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("ec2", "describe_instances", "AuthFailure"),
        ("sts", "get_caller_identity", "InvalidClientTokenId"),
        ("s3", "list_buckets", "InvalidAccessKeyId"),
        ("ssm", "describe_instance_information", "UnrecognizedClientException"),
    ],
)
def test_an_unknown_key_is_refused_in_each_services_words(
    sandbox: SandboxInfo, service: str, operation: str, code: str
) -> None:
    unknown = client(sandbox, service, "AKIAINVALID")

    assert refusal(getattr(unknown, operation)) == code
