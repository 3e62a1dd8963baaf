"""What a group's machine may do, and the program that it starts with."""

from __future__ import annotations

import ast
import base64
import gzip
import json
import sys
import zlib
from dataclasses import replace
from typing import Any

import pytest

from runctl.core import tags as tag
from runctl.providers.abilities.groups import GroupPlan, GroupRequest, TakeUp
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.aws.autoscaling import first_boot
from runctl.providers.aws.autoscaling.rights import POLICY, run_policy
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.first_boot import LIMIT_BYTES, compressed
from runctl.providers.instance_plans import VolumeMount
from runctl.sandbox.api.needs import ec2_needs
from runctl.sandbox.api.policies import Verdict, verdict
from tests.providers.aws.autoscaling.group_requests import MACHINE, NAME, REQUEST, RUN, URL


def test_the_role_allows_what_the_machine_does_on_this_runs_resources(
    provider: AwsProvider, session: AwsSession, bucket: None
) -> None:
    volume = provider.volumes.create(
        provider.volumes.plan(VolumeRequest(size_gib=1, name="data", zone="us-east-1a"))
    )
    machine = replace(MACHINE, volumes=(VolumeMount(str(volume.id)),))
    plan = provider.groups.plan(GroupRequest(machine, REQUEST.take_up, reads=("s3://mine/other",)))
    provider.groups.create(plan)

    document: Any = session.iam.get_role_policy(RoleName=NAME, PolicyName=POLICY)["PolicyDocument"]
    account = session.identity.account
    assert document == json.loads(
        json.dumps(
            run_policy(
                run_id=RUN,
                partition="aws",
                region="us-east-1",
                account=account,
                volumes=[str(volume.id)],
                writes=machine.writes,
                reads=("s3://mine/other",),
            )
        )
    )
    text = json.dumps(document)
    for forbidden in ("CreateTags", "UpdateAutoScalingGroup", "RunInstances", "PassRole", "iam:"):
        assert forbidden not in text
    assert plan.subnets == (
        next(
            item["SubnetId"]
            for item in session.ec2.describe_subnets()["Subnets"]
            if item["AvailabilityZone"] == "us-east-1a"
        ),
    ), "the volume decides the zone"
    assert f"attach and detach {volume.id}, on the run's own machines" in plan.rights
    assert any(each.startswith(f"take off the tags by which {volume.id} is known") for each in plan.rights)


@pytest.mark.parametrize(
    ("form", "allowed"),
    [
        ({"ResourceId.1": "vol-1a", "Tag.1.Key": tag.CONTENT}, True),
        ({"ResourceId.1": "vol-1a", "Tag.1.Key": tag.CONTENT, "Tag.2.Key": tag.FILLED_FROM}, True),
        ({"ResourceId.1": "vol-1a", "Tag.1.Key": tag.CONTENT, "Tag.2.Key": tag.PERSISTENT}, False),
        ({"ResourceId.1": "vol-1a", "Tag.1.Key": tag.OWNED}, False),
        ({"ResourceId.1": "vol-1a"}, False),
        ({"ResourceId.1": "vol-2b", "Tag.1.Key": tag.CONTENT}, False),
        ({"ResourceId.1": "vol-3c", "Tag.1.Key": tag.CONTENT}, False),
    ],
    ids=["one", "two", "another tag, too", "another tag", "all tags", "what is only read", "another volume"],
)
def test_the_role_takes_off_only_what_is_said_of_the_data_of_volumes_that_the_run_writes_to(
    form: dict[str, str], allowed: bool
) -> None:
    where = {"run_id": RUN, "partition": "aws", "region": "us-east-1", "account": "123456789012"}
    rights: Any = run_policy(**where, volumes=("vol-1a", "vol-2b"), writes=(), read_only={"vol-2b"})  # type: ignore[arg-type]

    (need,) = ec2_needs("DeleteTags", form, "us-east-1")

    assert (verdict([rights], need.action, need.resource, need.context) is Verdict.ALLOWED) is allowed


def test_a_role_that_pulls_an_image_may_pull_from_its_repository_alone() -> None:
    where = {"run_id": RUN, "partition": "aws", "region": "us-east-1", "account": "123456789012"}
    without: Any = run_policy(**where, volumes=(), writes=())  # type: ignore[arg-type]
    pulls = "123456789012.dkr.ecr.us-east-1.amazonaws.com/runctl/digits:1"
    widened: Any = run_policy(**where, volumes=(), writes=(), pulls=pulls)  # type: ignore[arg-type]
    more = [each["Resource"] for each in widened["Statement"] if each not in without["Statement"]]
    assert more == ["*", "arn:aws:ecr:us-east-1:123456789012:repository/runctl/digits"], "a token, and pulls"


def user_data_of(session: AwsSession) -> str:
    versions = session.ec2.describe_launch_template_versions(LaunchTemplateName=NAME)
    data: Any = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    return gzip.decompress(base64.b64decode(data["UserData"])).decode()


def test_the_user_data_fits_and_has_the_whole_program(
    provider: AwsProvider, session: AwsSession, bucket: None
) -> None:
    plan: GroupPlan = provider.groups.plan(REQUEST)
    provider.groups.create(plan)

    text = user_data_of(session)
    assert len(compressed(text)) < LIMIT_BYTES - 2048, "others have to add to it"
    packed = text.partition("take-up.py\" <<'END'\n")[2].partition("\nEND\n")[0]
    program = ast.parse(zlib.decompress(base64.b64decode(packed)).decode(), feature_version=(3, 9))
    used = {
        name.partition(".")[0]
        for node in ast.walk(program)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert used <= set(sys.stdlib_module_names)
    assert f'"url":"{URL}","run_id":"{RUN}"' in text


def test_a_value_is_data_and_never_run() -> None:
    odd = TakeUp("s3://mine/it's $(touch /tmp/never)", RUN, "0" * 64)
    text = first_boot.take_up_script(
        odd, group=NAME, login_user="ec2-user", region="us-east-1", store_region="us-east-1"
    )
    assert text.startswith('RUNCTL_TAKE_UP=\'{"url":"s3://mine/it\'"\'"\'s $(touch /tmp/never)"')
