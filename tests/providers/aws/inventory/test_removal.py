"""What was listed is removed, stopped or taken over, only while it is ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from runctl.core import tags as tag
from runctl.core.errors import Conflict, PermissionDenied
from runctl.providers.abilities.inventory import Listing, Resource
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.inventory.inventory import AwsInventory
from tests.aws_fixtures import REGION
from tests.providers.aws.inventory.sample_resources import (
    OURS,
    K,
    a_machine,
    a_role,
    a_volume,
    everything,
    listed,
    pairs,
)


def _in_order(listing: Listing) -> list[Resource]:
    last = [K.BUCKET, K.REPOSITORY, K.ROLE, K.SECURITY_GROUP]
    return sorted(listing.resources, key=lambda each: (each.kind in last, each.kind is not K.INSTANCE))


def test_everything_that_is_listed_can_be_removed_and_is_seen_to_be_gone(
    session: AwsSession, inventory: AwsInventory
) -> None:
    everything(session, OURS)
    resources = _in_order(inventory.list(regions=[REGION]))

    for resource in resources:
        inventory.remove(resource)

    assert [each for each in resources if not inventory.is_gone(each)] == []
    assert inventory.list(regions=[REGION]).resources == ()
    # Again, it is fine.
    for resource in resources:
        inventory.remove(resource)


def test_what_lost_our_tag_since_it_was_listed_is_left_alone(
    session: AwsSession, inventory: AwsInventory
) -> None:
    volume = a_volume(session, OURS)
    (resource,) = inventory.list(regions=[REGION]).resources
    changes: Sequence[Callable[[], Any]] = (
        lambda: session.ec2.delete_tags(Resources=[volume], Tags=[{"Key": tag.OWNED}]),
        lambda: session.ec2.create_tags(
            Resources=[volume], Tags=pairs({tag.OWNED: "true", tag.OWNER: "bob"})
        ),
        lambda: session.ec2.create_tags(
            Resources=[volume], Tags=pairs({tag.OWNER: "ada", tag.PERSISTENT: "true"})
        ),
    )

    for change, code in zip(changes, ("not-ours", "not-yours", "protected"), strict=True):
        change()
        with pytest.raises((PermissionDenied, Conflict)) as refused:
            inventory.remove(resource)
        assert refused.value.code == code

    assert session.ec2.describe_volumes(VolumeIds=[volume])["Volumes"]


def test_what_is_taken_over_has_the_caller_as_its_owner(session: AwsSession, inventory: AwsInventory) -> None:
    theirs = a_volume(session, {**OURS, tag.OWNER: "bob"})
    foreign = a_volume(session, {tag.OWNER: "bob"})
    (resource,) = listed(inventory)[K.VOLUME]

    inventory.take_over(resource)
    with pytest.raises(PermissionDenied):
        inventory.take_over(replace(resource, id=foreign))

    (taken,) = listed(inventory)[K.VOLUME]
    assert (taken.id, taken.owner) == (theirs, inventory.user())


def test_a_profile_that_somebody_elses_machine_has_is_left(
    session: AwsSession, inventory: AwsInventory, provider: AwsProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_role(session, "runctl-writes-1", OURS)
    machine = a_machine(session, {}, IamInstanceProfile={"Name": "runctl-writes-1"})
    profile = next(
        each for each in inventory.list(regions=[REGION]).resources if each.kind is K.INSTANCE_PROFILE
    )
    # It is not ours, and so in no list.
    assert profile.attached_to == ()
    monkeypatch.setattr(inventory, "_used_regions", lambda: ((REGION,), ()))

    with pytest.raises(Conflict, match=machine):
        inventory.remove(profile)

    assert not inventory.is_gone(profile)


def test_machines_are_stopped_and_spot_machines_are_not(session: AwsSession, inventory: AwsInventory) -> None:
    a_machine(session, OURS)
    (machine,) = listed(inventory)[K.INSTANCE]

    with pytest.raises(Conflict, match="spot"):
        inventory.stop(replace(machine, market="spot"))
    inventory.stop(machine)

    assert inventory.is_stopped(machine)


def test_a_role_that_its_profile_carries_keeps_its_rights(
    session: AwsSession, inventory: AwsInventory
) -> None:
    a_role(session, "runctl-writes-1", OURS)
    role = next(each for each in inventory.list(regions=[REGION]).resources if each.kind is K.ROLE)

    with pytest.raises(Conflict, match="instance profile"):
        inventory.remove(role)

    assert session.iam.list_role_policies(RoleName="runctl-writes-1")["PolicyNames"] == ["own"]
