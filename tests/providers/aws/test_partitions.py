"""Regions, domains and ARNs are what botocore's table says, in every partition."""

from __future__ import annotations

import json
from importlib import resources

import pytest
from botocore.session import Session

from runctl.agent.cloud.s3 import Location
from runctl.agent.object_store import PARTITIONS, Source, domain_of, partition_of, statements
from runctl.providers.aws.calls.errors import zones_named
from runctl.providers.aws.ecr import registry_hosts

SESSION = Session()
REGIONS = [
    region
    for partition in SESSION.get_available_partitions()
    for region in SESSION.get_available_regions("ec2", partition)
]


TABLE = json.loads((resources.files("botocore") / "data" / "partitions.json").read_text())["partitions"]
SUFFIXES = {row["id"]: row["outputs"]["dnsSuffix"] for row in TABLE}


def test_the_machines_table_is_botocores() -> None:
    theirs = {(row["id"], SUFFIXES[row["id"]], row["regionRegex"]) for row in TABLE}
    assert set(PARTITIONS) == theirs


@pytest.mark.parametrize("region", [*REGIONS, "xx-future-1"])
def test_every_region_is_in_its_partition(region: str) -> None:
    partition = SESSION.get_partition_for_region(region) if region in REGIONS else "aws"
    suffix = SUFFIXES[partition]

    assert (partition_of(region), domain_of(region)) == (partition, suffix)
    assert Location(region).host_and_base("data")[1] == f"data.s3.{region}.{suffix}"
    assert Location(region).host_and_base("my.data")[1] == f"s3.{region}.{suffix}"
    assert registry_hosts().fullmatch(f"123456789012.dkr.ecr.{region}.{suffix}")
    assert registry_hosts().fullmatch(f"123456789012.dkr.ecr-fips.{region}.{suffix}")
    assert zones_named(f"no capacity in {region}a.") == (f"{region}a",)
    rights = json.dumps(statements(Source("data", "x"), partition))
    assert f"arn:{partition}:s3:::data" in rights
    assert f"s3.*.{suffix}" in rights


@pytest.mark.parametrize(
    "domain", ["evil.example", "amazonaws.com.evil.example", "amazonaws.co", "xamazonaws.com"]
)
def test_other_hosts_are_no_registries_of_ecr(domain: str) -> None:
    assert not registry_hosts().fullmatch(f"123456789012.dkr.ecr.us-east-1.{domain}")
