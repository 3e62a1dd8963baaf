"""Labels do not depend on the order, and tell resources of one name apart."""

from __future__ import annotations

import itertools

import pytest

from runctl.providers.abilities.inventory import Resource, ResourceKind
from runctl.providers.abilities.terraform import Reference
from runctl.providers.aws.inventory.regional import resource
from runctl.providers.aws.terraform.names import Names, label_of


def volume(identifier: str, name: str | None, region: str = "us-east-1") -> Resource:
    return resource(ResourceKind.VOLUME, identifier, {}, region, name=name)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("datasets", "datasets"),
        ("My data-2", "my_data_2"),
        ("2nd", "_2nd"),
        ("日本", "unnamed"),
        ("a//b", "a_b"),
    ],
)
def test_a_label_is_an_identifier_like_the_name(text: str, label: str) -> None:
    assert label_of(text) == label


def test_resources_of_one_name_have_their_ids_in_their_labels_in_any_order() -> None:
    listed = [volume("vol-1", "data"), volume("vol-2", "Data", "eu-west-1"), volume("vol-3", None)]
    for order in itertools.permutations(listed):
        names = Names(order)
        labels = [names.label(each.kind, each.id, each.region) for each in listed]
        assert labels == ["data_vol_1", "data_vol_2", "vol_3"]


def test_repositories_of_one_name_are_told_apart_by_their_regions() -> None:
    kind = ResourceKind.REPOSITORY
    both = [
        resource(kind, "runctl/digits", {}, region, name="runctl/digits")
        for region in ("us-east-1", "eu-west-1")
    ]
    labels = [Names(both).label(kind, "runctl/digits", each.region) for each in both]
    assert labels == ["runctl_digits_us_east_1", "runctl_digits_eu_west_1"]


def test_what_is_not_written_is_referred_to_by_its_id() -> None:
    names = Names([volume("vol-1", "data")])
    assert names.refer(ResourceKind.VOLUME, "vol-1", "us-east-1") == Reference("aws_ebs_volume.data.id")
    assert names.refer(ResourceKind.VOLUME, "vol-9", "us-east-1") == "vol-9"
