"""Temporary keys act with the rights of their role, at the API, at ECR's registry, and from inside a machine."""

from __future__ import annotations

import json
import secrets
import shlex
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from runctl.sandbox.fault_client import Faults
from runctl.sandbox.record import TOKEN_HEADER
from tests.sandbox.account import Account, Machine, code_of, until
from tests.sandbox.conftest import Launch
from tests.sandbox.ecr.images import Client, password_of

pytestmark = pytest.mark.namespaces

Statement = dict[str, Any]
MakeRole = Callable[..., str]


def allow(action: object, resource: object) -> Statement:
    return {"Effect": "Allow", "Action": action, "Resource": resource}


@pytest.fixture
def role(account: Account) -> Iterator[MakeRole]:
    """A role with these statements; its name. It is gone after the test."""
    iam, created = account.client("iam"), []

    def call(*statements: Statement, attached: tuple[str, ...] = ()) -> str:
        name = f"role-{secrets.token_hex(4)}"
        trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
        created.append(name)
        if statements:
            document = {"Version": "2012-10-17", "Statement": statements}
            iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(document))
        for policy in attached:
            iam.attach_role_policy(RoleName=name, PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
        return name

    yield call
    for name in created:
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            iam.delete_role_policy(RoleName=name, PolicyName=policy)
        for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            iam.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
        iam.delete_role(RoleName=name)


@pytest.fixture(scope="module")
def bucket(account: Account) -> str:
    """It has ``train/a``."""
    account.s3.create_bucket(Bucket="rights")
    account.s3.put_object(Bucket="rights", Key="train/a", Body=b"0123456789")
    return "rights"


class Acting:
    """Clients that act as a role."""

    def __init__(self, account: Account, role: str, policy: Statement | None = None) -> None:
        more = {} if policy is None else {"Policy": json.dumps({"Statement": policy})}
        self.keys = account.client("sts").assume_role(
            RoleArn=f"arn:aws:iam::123456789012:role/{role}", RoleSessionName="tester", **more
        )["Credentials"]
        self._account = account

    def client(self, service: str, **changed: str) -> Any:
        """A boto3 client; ``changed`` replaces keys."""
        keys = {**self.keys, **changed}
        session = boto3.Session(
            keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], self._account.info.region
        )
        return session.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self._account.info.endpoint_url,
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )


def refusal(call: Callable[..., Any], **parameters: Any) -> tuple[str, str]:
    """AWS's code and sentence."""
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    return code_of(raised.value), str(raised.value.response["Error"]["Message"])


def test_a_role_without_policies_may_nothing_but_ask_who_it_is(
    account: Account, role: MakeRole, bucket: str
) -> None:
    name = role()
    acting = Acting(account, name)

    who = acting.client("sts").get_caller_identity()
    assert who["Arn"] == f"arn:aws:sts::123456789012:assumed-role/{name}/tester"
    code, text = refusal(acting.client("s3").get_object, Bucket=bucket, Key="train/a")
    assert code == "AccessDenied"
    assert text == (
        f"User: {who['Arn']} is not authorized to perform: s3:GetObject on resource:"
        " arn:aws:s3:::rights/train/a because no identity-based policy allows the s3:GetObject action"
    )
    assert refusal(acting.client("ecr").get_authorization_token)[0] == "AccessDeniedException"
    assert refusal(acting.client("ec2").describe_instances)[0] == "UnauthorizedOperation"
    assert refusal(acting.client("ssm").describe_instance_information)[0] == "AccessDeniedException"


def test_a_role_may_detach_what_has_the_tag_and_nothing_else(account: Account, role: MakeRole) -> None:
    statement = allow("ec2:DetachVolume", "*")
    statement["Condition"] = {"StringEquals": {"aws:ResourceTag/mine": "true"}}
    acting, owner = Acting(account, role(statement)).client("ec2"), account.client("ec2")
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "mine", "Value": "true"}]}]
    zone = {"AvailabilityZone": "us-east-1a", "Size": 1}
    mine, other = (
        owner.create_volume(**zone, **more)["VolumeId"] for more in ({"TagSpecifications": tags}, {})
    )

    assert refusal(acting.detach_volume, VolumeId=mine)[0] == "IncorrectState"
    assert refusal(acting.detach_volume, VolumeId=other)[0] == "UnauthorizedOperation"
    assert refusal(acting.detach_volume, VolumeId=mine, InstanceId="i-0abc")[0] == "UnauthorizedOperation"
    for volume in (mine, other):
        owner.delete_volume(VolumeId=volume)


def test_what_is_made_is_asked_about_with_the_tags_that_it_is_to_have(
    account: Account, role: MakeRole
) -> None:
    statement = allow("ec2:CreateVolume", "arn:aws:ec2:us-east-1:123456789012:volume/*")
    statement["Condition"] = {"StringEquals": {"aws:RequestTag/mine": "true"}}
    acting = Acting(account, role(statement, allow("ec2:CreateTags", "*"))).client("ec2")

    def tagged(value: str) -> dict[str, Any]:
        tags = [{"ResourceType": "volume", "Tags": [{"Key": "mine", "Value": value}]}]
        return {"AvailabilityZone": "us-east-1a", "Size": 1, "TagSpecifications": tags}

    account.client("ec2").delete_volume(VolumeId=acting.create_volume(**tagged("true"))["VolumeId"])
    assert refusal(acting.create_volume, **tagged("false"))[0] == "UnauthorizedOperation"


def test_a_machine_gets_only_a_role_that_may_be_passed_to_it(account: Account, role: MakeRole) -> None:
    iam, passed = account.client("iam"), role()
    iam.create_instance_profile(InstanceProfileName=passed)
    iam.add_role_to_instance_profile(InstanceProfileName=passed, RoleName=passed)
    run, pass_role = allow("ec2:RunInstances", "*"), allow("iam:PassRole", f"arn:aws:iam::*:role/{passed}")
    # What is allowed is refused afterwards: there is no such image.
    launch = {"ImageId": "ami-0000000000000000f", "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro"}
    launch["IamInstanceProfile"] = {"Name": passed}

    code, text = refusal(Acting(account, role(run)).client("ec2").run_instances, **launch)
    assert (code, "iam:PassRole" in text) == ("UnauthorizedOperation", True)
    code, _ = refusal(Acting(account, role(run, pass_role)).client("ec2").run_instances, **launch)
    assert code == "InvalidAMIID.NotFound"
    iam.remove_role_from_instance_profile(InstanceProfileName=passed, RoleName=passed)
    iam.delete_instance_profile(InstanceProfileName=passed)


def test_a_command_needs_the_document_and_the_machine(account: Account, role: MakeRole) -> None:
    machines = allow("ssm:SendCommand", "arn:aws:ec2:*:*:instance/*")
    document = allow("ssm:SendCommand", "arn:aws:ssm:*:*:document/AWS-RunShellScript")
    command = {
        "InstanceIds": ["i-0123456789abcdef0"],
        "DocumentName": "AWS-RunShellScript",
        "Parameters": {"commands": ["true"]},
    }

    for statement in (machines, document):
        acting = Acting(account, role(statement)).client("ssm")
        assert refusal(acting.send_command, **command)[0] == "AccessDeniedException"
    both = Acting(account, role(machines, document)).client("ssm")
    assert refusal(both.send_command, **command)[0] == "InvalidInstanceId"


def test_a_role_may_what_its_policy_says_and_no_more(account: Account, role: MakeRole, bucket: str) -> None:
    read = allow("s3:GetObject", f"arn:aws:s3:::{bucket}/train/*")
    listing = allow("s3:ListBucket", f"arn:aws:s3:::{bucket}")
    listing["Condition"] = {"StringLike": {"s3:prefix": "train/*"}}
    s3 = Acting(account, role(read, listing)).client("s3")

    assert s3.get_object(Bucket=bucket, Key="train/a", Range="bytes=2-3")["Body"].read() == b"23"
    assert s3.head_object(Bucket=bucket, Key="train/a")["ContentLength"] == 10
    assert s3.list_objects_v2(Bucket=bucket, Prefix="train/")["KeyCount"] == 1
    assert refusal(s3.list_objects_v2, Bucket=bucket)[0] == "AccessDenied"
    assert refusal(s3.put_object, Bucket=bucket, Key="train/b", Body=b"")[0] == "AccessDenied"
    assert refusal(s3.delete_object, Bucket=bucket, Key="train/a")[0] == "AccessDenied"
    assert refusal(s3.get_object, Bucket=bucket, Key="other")[0] == "AccessDenied"
    assert refusal(s3.list_buckets)[0] == "AccessDenied"
    assert refusal(s3.head_object, Bucket=bucket, Key="other")[0] == "403"


def test_an_object_that_is_not_there_is_told_only_to_those_who_may_list(
    account: Account, role: MakeRole, bucket: str
) -> None:
    read, listing = allow("s3:GetObject", "*"), allow("s3:ListBucket", f"arn:aws:s3:::{bucket}")
    blind, seeing = (
        Acting(account, role(*statements)).client("s3") for statements in ([read], [read, listing])
    )

    assert refusal(blind.get_object, Bucket=bucket, Key="none")[0] == "AccessDenied"
    assert refusal(seeing.get_object, Bucket=bucket, Key="none")[0] == "NoSuchKey"


def test_awss_own_policies_count(account: Account, role: MakeRole, bucket: str) -> None:
    acting = Acting(account, role(attached=("AmazonS3ReadOnlyAccess", "AmazonEC2ContainerRegistryReadOnly")))

    assert acting.client("s3").get_object(Bucket=bucket, Key="train/a")["ContentLength"] == 10
    assert refusal(acting.client("s3").put_object, Bucket=bucket, Key="b")[0] == "AccessDenied"
    assert acting.client("ecr").describe_repositories()["repositories"] is not None
    assert (
        refusal(acting.client("ecr").create_repository, repositoryName="mine")[0] == "AccessDeniedException"
    )


def test_a_policy_of_the_session_takes_away(account: Account, role: MakeRole, bucket: str) -> None:
    acting = Acting(account, role(allow("s3:*", "*")), allow("s3:ListBucket", "*"))
    s3 = acting.client("s3")

    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    assert "no session policy" in refusal(s3.get_object, Bucket=bucket, Key="train/a")[1]


def test_a_presigned_address_has_the_rights_of_who_signed(
    account: Account, role: MakeRole, bucket: str
) -> None:
    able, unable = (Acting(account, role(*s)).client("s3") for s in ([allow("s3:GetObject", "*")], []))
    words = {"Params": {"Bucket": bucket, "Key": "train/a"}}

    with urllib.request.urlopen(able.generate_presigned_url("get_object", **words), timeout=10) as answer:
        assert answer.read() == b"0123456789"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(unable.generate_presigned_url("get_object", **words), timeout=10)


def test_keys_that_nobody_was_given_open_nothing(account: Account, role: MakeRole, bucket: str) -> None:
    acting = Acting(account, role(allow("*", "*")))

    other_token = acting.client("s3", SessionToken="other")
    other_key = acting.client("s3", AccessKeyId="ASIA0000000000000000")
    assert refusal(other_token.list_objects_v2, Bucket=bucket)[0] == "InvalidAccessKeyId"
    assert refusal(other_key.list_objects_v2, Bucket=bucket)[0] == "InvalidAccessKeyId"
    assert refusal(acting.client("ec2", SessionToken="x").describe_instances)[0] == "AuthFailure"


def test_s3_can_be_denied_and_throttled_by_its_actions(account: Account, bucket: str, faults: Faults) -> None:
    faults.throttle("GetObject", 1)
    assert refusal(account.s3.get_object, Bucket=bucket, Key="train/a")[0] == "SlowDown"
    assert account.s3.get_object(Bucket=bucket, Key="train/a")["ContentLength"] == 10

    faults.deny("s3:PutObject")
    assert refusal(account.s3.put_object, Bucket=bucket, Key="b")[0] == "AccessDenied"


@pytest.fixture
def repository(account: Account) -> Iterator[dict[str, Any]]:
    """It has an image ``1``."""
    ecr = account.client("ecr")
    made = ecr.create_repository(repositoryName=f"rights/{secrets.token_hex(4)}")["repository"]
    Client(made["repositoryUri"], password_of(ecr)).push_image("1", b"layer")
    yield made
    ecr.delete_repository(repositoryName=made["repositoryName"], force=True)


def test_a_token_for_docker_has_the_rights_of_who_asked_for_it(
    account: Account, role: MakeRole, repository: dict[str, Any]
) -> None:
    pull = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
    mine = allow(pull, repository["repositoryArn"])
    ecr = Acting(account, role(allow("ecr:GetAuthorizationToken", "*"), mine)).client("ecr")
    client = Client(repository["repositoryUri"], password_of(ecr))

    assert client.ask("GET", "manifests/1").status == 200
    push = client.ask("POST", "blobs/uploads/", b"")
    other = Client(f"{client.host}/other", client.password).ask("GET", "manifests/1")
    assert (push.status, push.error[0]) == (other.status, other.error[0]) == (403, "DENIED")
    assert "ecr:InitiateLayerUpload on resource: " + repository["repositoryArn"] in push.error[1]
    name = repository["repositoryName"]
    assert ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": "1"}])["images"]
    assert refusal(ecr.describe_images, repositoryName=name)[0] == "AccessDeniedException"


@pytest.fixture
def reading_machine(account: Account, role: MakeRole, launch: Launch, bucket: str) -> Iterator[Machine]:
    """A machine whose role may read ``train/`` of the bucket."""
    iam = account.client("iam")
    read = allow("s3:GetObject", f"arn:aws:s3:::{bucket}/train/*")
    name = role(read, allow("s3:ListBucket", f"arn:aws:s3:::{bucket}"))
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    yield launch(IamInstanceProfile={"Name": name})
    iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
    iam.delete_instance_profile(InstanceProfileName=name)


IN_MACHINE = """
imds=http://169.254.169.254/latest
token=$(curl -sf -X PUT $imds/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 60')
ask() { curl -sf -H "X-aws-ec2-metadata-token: $token" "$imds/meta-data/iam/security-credentials/$1"; }
ask "$(ask)" > /tmp/keys
value() { python3 -c "import json; print(json.load(open('/tmp/keys'))['$1'])"; }
keys="$(value AccessKeyId):$(value SecretAccessKey)"
curl -s "$AWS_ENDPOINT_URL/$1" -X "$2" --aws-sigv4 "aws:amz:us-east-1:$3" --user "$keys" \
    -H "x-amz-security-token: $(value Token)" -w ' %{http_code}' $4
"""


def test_a_machine_finds_the_api_and_acts_as_its_role(
    account: Account, reading_machine: Machine, bucket: str
) -> None:
    def ask(path: str, method: str = "GET", service: str = "s3", more: str = "") -> str:
        words = shlex.join(["sh", "-c", IN_MACHINE, "sh", path, method, service, more])
        return reading_machine.run(words)

    until(lambda: ask(f"{bucket}/train/a") == "0123456789 200", "the object")
    assert ask(f"{bucket}/train/a", more="--range 2-4") == "234 206"
    assert "<KeyCount>1</KeyCount>" in ask(f"{bucket}?list-type=2")
    assert ask(f"{bucket}/train/a", "DELETE").endswith("403")
    who = ask("?Action=GetCallerIdentity&Version=2011-06-15", service="sts")
    assert f"/{reading_machine.id}</Arn>" in who
    assert reading_machine.run(". /etc/environment; echo $AWS_ENDPOINT_URL") == reading_machine.run(
        "echo $AWS_ENDPOINT_URL"
    )


def test_a_machine_cannot_command_the_sandbox(reading_machine: Machine) -> None:
    """Neither by the bridge nor by the address that is passed on to the server, not even with the token."""
    info = reading_machine.account.info
    header = f"{TOKEN_HEADER}: {info.keys.control_token}"
    for address in ("$AWS_ENDPOINT_URL", info.endpoint_url):
        asked = reading_machine.run(
            f"curl -s -X POST -H {shlex.quote(header)} -d '{{}}' {address}/_sandbox/clear -w ' %{{http_code}}'"
        )

        assert asked.endswith(" 403")
