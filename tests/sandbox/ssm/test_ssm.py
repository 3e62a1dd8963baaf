"""Run Command and its relatives against machines of the sandbox, through boto3."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runctl.sandbox.fault_client import Faults
from tests.sandbox.account import AMAZON_LINUX, Account, code_of, until

pytestmark = pytest.mark.namespaces

SSM_POLICY = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
OVER = {"Success", "Failed", "TimedOut", "Cancelled", "Undeliverable"}
Run = Callable[..., dict[str, Any]]
Managed = Callable[..., str]


@pytest.fixture
def profile(account: Account) -> Iterator[str]:
    """An instance profile with which the SSM agent can register."""
    iam, name = account.client("iam"), f"ssm-{secrets.token_hex(4)}"
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    iam.attach_role_policy(RoleName=name, PolicyArn=SSM_POLICY)
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    yield name
    iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
    iam.delete_instance_profile(InstanceProfileName=name)
    iam.detach_role_policy(RoleName=name, PolicyArn=SSM_POLICY)
    iam.delete_role(RoleName=name)


@pytest.fixture
def managed(account: Account, run_instances: Callable[..., dict[str, Any]], profile: str) -> Managed:
    """An instance whose agent is online. It ends with the test."""

    def call(**more: Any) -> str:
        instance_id = str(run_instances(IamInstanceProfile={"Name": profile}, **more)["InstanceId"])
        until(lambda: ping(account, instance_id) == "Online", f"the agent of {instance_id}")
        return instance_id

    return call


def ping(account: Account, instance_id: str) -> str | None:
    answer = account.ssm.describe_instance_information(
        Filters=[{"Key": "InstanceIds", "Values": [instance_id]}]
    )
    return next((row["PingStatus"] for row in answer["InstanceInformationList"]), None)


def send(account: Account, instance_id: str, *commands: str, **more: Any) -> str:
    parameters = {"commands": list(commands), **more.pop("parameters", {})}
    answer = account.ssm.send_command(
        InstanceIds=[instance_id], DocumentName="AWS-RunShellScript", Parameters=parameters, **more
    )
    return str(answer["Command"]["CommandId"])


def look(account: Account, command_id: str, instance_id: str) -> dict[str, Any]:
    try:
        answer = account.ssm.get_command_invocation(CommandId=command_id, InstanceId=instance_id)
    except ClientError as error:
        if code_of(error) != "InvocationDoesNotExist":
            raise
        return {"Status": None}
    return dict(answer)


def end_of(account: Account, command_id: str, instance_id: str) -> dict[str, Any]:
    until(lambda: look(account, command_id, instance_id)["Status"] in OVER, "the command's end")
    return look(account, command_id, instance_id)


def test_a_command_runs_in_the_machine_as_root_without_a_home(account: Account, managed: Managed) -> None:
    instance_id = managed()

    answer = end_of(
        account,
        send(account, instance_id, 'id -un; pwd; echo "${HOME-unset}"; hostname', "exit 3"),
        instance_id,
    )

    hostname = "ip-" + account.describe(instance_id)["PrivateIpAddress"].replace(".", "-")
    assert answer["StandardOutputContent"].splitlines() == ["root", "/usr/bin", "unset", hostname]
    assert (answer["Status"], answer["ResponseCode"]) == ("Failed", 3)
    assert answer["StandardErrorContent"] == "failed to run commands: exit status 3"


def test_a_command_can_do_no_more_to_this_computer_than_a_login(account: Account, managed: Managed) -> None:
    instance_id = managed()

    answer = end_of(
        account, send(account, instance_id, "date -s @0 && echo 1 > /proc/sys/vm/drop_caches"), instance_id
    )

    assert answer["Status"] == "Failed"
    assert "Operation not permitted" in answer["StandardErrorContent"]


def test_a_command_just_sent_may_not_be_known_yet(account: Account, managed: Managed) -> None:
    instance_id = managed()
    command_id = send(account, instance_id, "true")

    with pytest.raises(ClientError) as refused:
        account.ssm.get_command_invocation(CommandId=command_id, InstanceId=instance_id)

    assert code_of(refused.value) == "InvocationDoesNotExist"


def test_what_is_cut_from_the_answer_is_in_the_bucket(account: Account, managed: Managed) -> None:
    instance_id, bucket = managed(), f"outputs-{secrets.token_hex(4)}"
    account.s3.create_bucket(Bucket=bucket)

    command_id = send(
        account, instance_id, "seq 1 20000", OutputS3BucketName=bucket, OutputS3KeyPrefix="runs/"
    )
    answer = end_of(account, command_id, instance_id)

    key = f"runs/{command_id}/{instance_id}/awsrunShellScript/0.awsrunShellScript/stdout"
    whole = account.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    assert whole == "".join(f"{number}\n" for number in range(1, 20001))
    assert answer["StandardOutputContent"] == whole[:24000]
    assert answer["StandardOutputUrl"].endswith(f"/{bucket}/{key}")
    assert [row["Key"] for row in account.s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]


def test_cancelling_kills_the_command_in_the_machine(account: Account, managed: Managed) -> None:
    instance_id, seconds = managed(), 600000 + secrets.randbelow(99999)
    command_id = send(account, instance_id, f"sleep {seconds} & wait")
    until(lambda: look(account, command_id, instance_id)["Status"] == "InProgress", "the command")

    account.ssm.cancel_command(CommandId=command_id)

    assert end_of(account, command_id, instance_id)["Status"] == "Cancelled"
    rest = end_of(account, send(account, instance_id, f"pgrep -fx 'sleep {seconds}'"), instance_id)
    assert rest["StandardOutputContent"] == ""


def test_a_machine_that_dies_leaves_its_command_in_progress(
    account: Account, managed: Managed, faults: Faults
) -> None:
    instance_id = managed()
    command_id = send(account, instance_id, "sleep 600")
    until(lambda: look(account, command_id, instance_id)["Status"] == "InProgress", "the command")

    faults.kill_instance(instance_id)
    account.wait_state(instance_id, "terminated")

    limit = time.monotonic() + 1.5
    while time.monotonic() < limit:
        assert look(account, command_id, instance_id)["Status"] == "InProgress"
        time.sleep(0.1)
    with pytest.raises(ClientError) as refused:
        send(account, instance_id, "true")
    assert code_of(refused.value) == "InvalidInstanceId"


def test_an_instance_without_a_profile_never_registers(
    account: Account, run_instances: Callable[..., dict[str, Any]]
) -> None:
    instance_id = run_instances()["InstanceId"]
    account.wait_state(instance_id, "running")

    with pytest.raises(ClientError) as refused:
        send(account, instance_id, "true")

    assert code_of(refused.value) == "InvalidInstanceId"
    assert ping(account, instance_id) is None


def test_a_role_without_the_policy_does_not_register(
    account: Account, run_instances: Callable[..., dict[str, Any]], profile: str
) -> None:
    account.client("iam").detach_role_policy(RoleName=profile, PolicyArn=SSM_POLICY)
    instance_id = run_instances(IamInstanceProfile={"Name": profile})["InstanceId"]
    account.wait_state(instance_id, "running")
    try:
        with pytest.raises(ClientError) as refused:
            send(account, instance_id, "true")
    finally:
        account.client("iam").attach_role_policy(RoleName=profile, PolicyArn=SSM_POLICY)

    assert code_of(refused.value) == "InvalidInstanceId"


def test_an_agent_that_is_offline_has_lost_its_connection(
    account: Account, managed: Managed, faults: Faults
) -> None:
    instance_id = managed()

    faults.ssm_offline(instance_id)

    assert ping(account, instance_id) == "ConnectionLost"
    with pytest.raises(ClientError) as refused:
        send(account, instance_id, "true")
    assert code_of(refused.value) == "InvalidInstanceId"


def test_commands_and_their_invocations_are_listed(account: Account, managed: Managed) -> None:
    instance_id = managed()
    command_id = send(account, instance_id, "echo out; echo err >&2", Comment="a comment")
    end_of(account, command_id, instance_id)

    commands = account.ssm.list_commands(CommandId=command_id)["Commands"]
    found = account.ssm.list_command_invocations(CommandId=command_id, Details=True)["CommandInvocations"]

    assert [(row["Status"], row["Comment"], row["CompletedCount"]) for row in commands] == [
        ("Success", "a comment", 1)
    ]
    plugin = found[0]["CommandPlugins"][0]
    assert (plugin["Status"], plugin["ResponseCode"]) == ("Success", 0)
    assert plugin["Output"] == "out\n\n----------ERROR-------\nerr\n"


def test_a_tag_chooses_instances(account: Account, managed: Managed) -> None:
    tag = secrets.token_hex(4)
    argv = [{"ResourceType": "instance", "Tags": [{"Key": "group", "Value": tag}]}]
    instance_id = managed(TagSpecifications=argv)

    sent = account.ssm.send_command(
        Targets=[{"Key": "tag:group", "Values": [tag]}],
        DocumentName="AWS-RunShellScript",
        Parameters={"commands": ["echo chosen"]},
    )

    answer = end_of(account, sent["Command"]["CommandId"], instance_id)
    assert answer["StandardOutputContent"] == "chosen\n"


def test_a_document_that_is_not_there_is_refused(account: Account, managed: Managed) -> None:
    with pytest.raises(ClientError) as refused:
        account.ssm.send_command(
            InstanceIds=[managed()], DocumentName="AWS-Nothing", Parameters={"commands": ["true"]}
        )

    assert code_of(refused.value) == "InvalidDocument"


def test_public_parameters_name_images_that_exist(account: Account) -> None:
    image = account.ssm.get_parameter(Name=AMAZON_LINUX)["Parameter"]["Value"]

    assert account.ec2.describe_images(ImageIds=[image])["Images"][0]["ImageId"] == image
