"""What is looked up by name or tag is what has just that name: EC2's wildcards never apply."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import runctl.providers.aws
from runctl.core.errors import NotFound, UsageError
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Volume
from runctl.providers.abilities.volume_plans import SnapshotRequest, VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.filters import has_tags, literal
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.instance_plans import InstanceRequest
from runctl.sandbox.ec2.filter_patterns import matches

ODD = ["z*", "z?bra", "*", "[z]ebra", "back\\slash", "tail\\", "\\*"]


@pytest.mark.parametrize(
    ("value", "pattern", "expected"),
    [
        ("zebra", "z*", True),
        ("zebra", "z?bra", True),
        ("zbra", "z?bra", True),
        ("zebra", "Z*", False),
        ("zebra", "[z]ebra", False),
        ("[z]ebra", "[z]ebra", True),
        ("z*", r"z\*", True),
        ("zebra", r"z\*", False),
        ("*amazon?\\", r"\*amazon\?\\", True),
        ("a\nb", "a*b", True),
        ("zebra-2", "zebra", False),
    ],
)
def test_the_sandbox_reads_filter_values_as_ec2_does(value: str, pattern: str, expected: bool) -> None:
    assert matches(value, [pattern]) is expected


@pytest.mark.parametrize("text", [*ODD, "zebra"])
def test_an_escaped_value_matches_itself_and_nothing_else(text: str) -> None:
    assert [other for other in (*ODD, "zebra") if matches(other, [literal(text)])] == [text]


def test_tags_that_come_back_are_compared_once_more() -> None:
    item = {"Tags": [{"Key": "Name", "Value": "zebra"}]}

    assert has_tags(item, {"Name": ["zebra"]})
    assert not has_tags(item, {"Name": ["z*"]})
    assert not has_tags({}, {"Name": ["zebra"]})


def volume(provider: AwsProvider, name: str) -> Volume:
    return provider.volumes.create(provider.volumes.plan(VolumeRequest(1, name=name, zone="us-east-1a")))


def test_volumes_and_snapshots_are_found_by_their_whole_name_only(provider: AwsProvider) -> None:
    zebra = volume(provider, "zebra")
    named = {name: volume(provider, name) for name in ODD}
    request = SnapshotRequest(zebra.id, name="savanna*")
    snapshot = provider.snapshots.create(provider.snapshots.plan(request))

    assert {name: provider.volumes.find(name).id for name in ODD} == {
        name: it.id for name, it in named.items()
    }
    assert provider.snapshots.find("savanna*").id == snapshot.id
    for pattern in ("zebr*", "?ebra", "ze*a", "Zebra", "zebra "):
        with pytest.raises(NotFound):
            provider.volumes.find(pattern)
    with pytest.raises(NotFound):
        provider.snapshots.find("sav*")


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_name_is_nobodys(provider: AwsProvider, session: AwsSession, empty: str) -> None:
    nameless: Any = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": empty}]}]
    session.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, TagSpecifications=nameless)

    with pytest.raises(UsageError, match="empty"):
        provider.volumes.find(empty)
    with pytest.raises(UsageError, match="empty"):
        provider.snapshots.find(empty)


@pytest.mark.parametrize("name", ["a/b", "a,b", "../../etc", "", "i-0123456789abcdef0"])
def test_an_instance_cannot_have_a_name_that_cannot_be_used(provider: AwsProvider, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a name"):
        provider.renting.plan(InstanceRequest(name=name))


def test_every_call_of_the_client_compares_as_it_is_written(
    provider: AwsProvider, session: AwsSession
) -> None:
    zebra = volume(provider, "zebra")

    def found(name: str) -> list[VolumeId]:
        answer = session.ec2.describe_volumes(Filters=[{"Name": "tag:Name", "Values": [name]}])
        return [VolumeId(item["VolumeId"]) for item in answer["Volumes"]]

    assert found("zebra") == [zebra.id]
    assert found("z*") == []


def test_only_the_session_makes_ec2_clients() -> None:
    """A client made elsewhere would take names for patterns again."""
    folder = Path(runctl.providers.aws.__file__).parent
    trees = [(file.name, ast.parse(file.read_text())) for file in folder.rglob("*.py")]
    of_s3 = {
        node.func
        for _, tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value == "s3"
    }
    makers = {
        name
        for name, tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"client", "create_client", "resource"}
        and node not in of_s3
        # boto3's resources are made by a session, or by boto3 itself.
        and not (node.attr == "resource" and isinstance(node.value, ast.Name) and node.value.id == "folder")
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    }

    assert makers == {"session.py"}
