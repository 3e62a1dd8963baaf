"""Resources of every kind, made as runctl makes them, and how they are listed."""

from __future__ import annotations

import json
from typing import Any

from runctl.core import tags as tag
from runctl.providers.abilities.inventory import Resource, ResourceKind
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.iam.machine_role import trust_policy
from runctl.providers.aws.iam.roles import reach_policy
from runctl.providers.aws.inventory.inventory import AwsInventory
from tests.aws_fixtures import REGION

OTHER = "eu-west-1"

REGIONS = (REGION, OTHER)

OURS = {tag.OWNED: tag.OWNED_VALUE, tag.OWNER: "ada", tag.NAME: "data"}

K = ResourceKind


def listed(inventory: AwsInventory, **more: Any) -> dict[K, list[Resource]]:
    found: dict[K, list[Resource]] = {}
    listing = inventory.list(regions=REGIONS, **more)
    assert listing.unread == ()
    for each in listing.resources:
        found.setdefault(each.kind, []).append(each)
    return found


def pairs(tags: dict[str, str]) -> Any:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def specification(kind: str, tags: dict[str, str]) -> Any:
    return [{"ResourceType": kind, "Tags": pairs(tags)}] if tags else []


def a_volume(session: AwsSession, tags: dict[str, str], region: str = REGION) -> str:
    ec2 = session.ec2 if region == REGION else session.in_region(region).ec2
    made = ec2.create_volume(
        AvailabilityZone=f"{region}a", Size=1, TagSpecifications=specification("volume", tags)
    )
    return made["VolumeId"]


def a_machine(session: AwsSession, tags: dict[str, str], **more: Any) -> str:
    both = [*specification("instance", tags), *specification("volume", tags)]
    made = session.ec2.run_instances(
        ImageId="ami-12c6146b",
        InstanceType="m5.large",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=both,
        **more,
    )
    return made["Instances"][0]["InstanceId"]


def a_role(session: AwsSession, name: str, tags: dict[str, str]) -> None:
    session.iam.create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps(trust_policy()), Tags=pairs(tags)
    )
    session.iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(reach_policy()))
    session.iam.create_instance_profile(InstanceProfileName=name, Tags=pairs(tags))
    session.iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


def a_bucket(session: AwsSession, name: str, tags: dict[str, str]) -> None:
    session.s3.create_bucket(Bucket=name)
    if tags:
        session.s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": pairs(tags)})


def a_repository(session: AwsSession, name: str, tags: dict[str, str]) -> None:
    session.ecr.create_repository(repositoryName=name, tags=pairs(tags))
    media = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": media,
        "config": {"digest": f"sha256:{'0' * 64}", "size": 7},
        "layers": [],
    }
    session.ecr.put_image(repositoryName=name, imageManifest=json.dumps(manifest), imageTag="v1")


def everything(session: AwsSession, tags: dict[str, str]) -> None:
    """One of each kind, with these tags."""
    volume = a_volume(session, tags)
    session.ec2.create_snapshot(VolumeId=volume, TagSpecifications=specification("snapshot", tags))
    a_machine(session, tags)
    session.ec2.create_launch_template(
        LaunchTemplateName="runctl-fleet-1",
        LaunchTemplateData={"InstanceType": "m5.large"},
        TagSpecifications=specification("launch-template", tags),
    )
    session.ec2.create_key_pair(KeyName="runctl", TagSpecifications=specification("key-pair", tags))
    session.ec2.create_security_group(
        GroupName="runctl", Description="x", TagSpecifications=specification("security-group", tags)
    )
    a_role(session, "runctl-writes-1", tags)
    a_repository(session, "runctl/digits", tags)
    a_bucket(session, "runctl-staging-1", tags)
    session.s3.put_object(Bucket="runctl-staging-1", Key="staging/i-1/c/in", Body=b"12345")
    session.s3.create_multipart_upload(Bucket="runctl-staging-1", Key="staging/i-1/d/in")
