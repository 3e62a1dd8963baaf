"""An account of thousands of things of somebody else's: whatever a cleanup is told, it touches none of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

import pytest
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

from runctl.core.tags import OWNED, OWNED_VALUE, OWNER
from runctl.providers import registry
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.iam.machine_role import trust_policy
from tests.aws_fixtures import REGION
from tests.cli.conftest import Invoke, data_of, invoke

__all__ = ["invoke"]

ACCOUNT = "123456789012"
"""moto's."""
FOREIGN = 5_000
REGIONS = (
    REGION,
    "us-east-2",
    "us-west-2",
    "eu-west-1",
    "eu-central-1",
    "ap-south-1",
    "ap-northeast-1",
    "sa-east-1",
)
"""moto compares every tag of a region with every thing there."""
ME = "moto"
LOOKS_ALIKE: Sequence[dict[str, str]] = (
    {},
    {"Name": "runctl"},
    {"Name": "runctl-instance", OWNER: ME},
    {OWNED: "false", OWNER: ME},
    {OWNED: "True", OWNER: ME},
    {OWNED: "true ", OWNER: ME},
    {OWNED.upper(): OWNED_VALUE, OWNER: ME},
    {"runctl.managed": OWNED_VALUE, OWNER: ME},
    {f"x{OWNED}": OWNED_VALUE, OWNER: ME},
    {f"{OWNED}-by": OWNED_VALUE, "runctl:intent": "0" * 32},
    # It is runctl's, and a colleague's.
    {OWNED: OWNED_VALUE, OWNER: "bob"},
    {OWNED: OWNED_VALUE, OWNER: "MOTO"},
    {OWNED: OWNED_VALUE, OWNER: ""},
)


@dataclass
class Calls:
    """Every call that changes something, and the ids in it."""

    changes: list[tuple[str, Any]]

    def named(self) -> set[str]:
        return {text for _, params in self.changes for text in _texts(params)}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


@pytest.fixture
def calls(session: AwsSession) -> Calls:
    found = Calls([])

    def sent(params: Any, model: Any, **_: Any) -> None:
        if not model.name.startswith(("Describe", "Get", "List", "Head", "BatchGet")):
            found.changes.append((model.name, params))

    for client in session._clients.values():
        client.meta.events.register("before-parameter-build.*.*", sent)
    return found


def foreign() -> set[str]:
    """Thousands of things, made in moto's own models; their ids and names."""
    iam = iam_backends[ACCOUNT]["aws"]
    tags = cycle(LOOKS_ALIKE)
    long_ago = datetime.now(UTC) - timedelta(days=400)
    found: set[str] = set()
    for number in range(FOREIGN // 4):
        region = REGIONS[number % len(REGIONS)]
        ec2 = ec2_backends[ACCOUNT][region]
        volume = ec2.create_volume(1, f"{region}a")
        snapshot = ec2.create_snapshot(volume.id, "runctl")
        template = ec2.create_launch_template(f"runctl-fleet-{number:032}", "", {}, {})
        group = ec2.create_security_group(f"runctl-{number}", "runctl")
        for each in (volume, snapshot, template, group):
            ec2.tags[each.id].update(next(tags))
        volume.create_time = snapshot.start_time = template.create_time = long_ago
        found |= {volume.id, snapshot.id, template.id, template.name, group.id}
    for number, given in zip(range(len(LOOKS_ALIKE)), tags, strict=False):
        name = f"runctl-prewarm-vol-{number:017}"
        pairs = [{"Key": key, "Value": value} for key, value in given.items()]
        role = iam.create_role(name, json.dumps(trust_policy()), "/", None, "", pairs, "3600")
        role.create_date = long_ago
        found.add(role.name)
    return found


def test_a_cleanup_that_is_asked_for_everything_touches_nothing_foreign(
    session: AwsSession,
    provider: AwsProvider,
    calls: Calls,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "load", lambda _name, _config, progress: provider)
    theirs = foreign()
    tags: Any = [{"Key": OWNED, "Value": OWNED_VALUE}, {"Key": OWNER, "Value": ME}]
    mine = session.ec2.create_volume(
        AvailabilityZone=f"{REGION}a", Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
    )["VolumeId"]
    calls.changes.clear()
    monkeypatch.setattr(provider.inventory, "_used_regions", lambda: (REGIONS, ()))
    told = ("--provider", "aws", "--yes", "--output", "json")

    stopped = data_of(invoke("resources", "stop-all", "--end", *told))
    cleaned = data_of(invoke("resources", "cleanup", "--include", "all", "--older-than", "0.001s", *told))

    assert (stopped["done"], stopped["failed"]) == ([], [])
    assert [each["id"] for each in cleaned["done"]] == [mine], cleaned
    assert cleaned["failed"] == []
    # Not even by a call that would have been refused.
    assert calls.named() & theirs == set()
    assert [name for name, _ in calls.changes] == ["DeleteVolume"]
    assert len(theirs) > FOREIGN
