"""What volumes, snapshots, addresses, traffic, objects and images cost in the sandbox, as products of the price list.

Its own numbers, as AWS has: the sandbox does not ask its client. Of us-east-1 they are AWS's public list of 2026; the
other regions cost more by a factor each, about as on AWS.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

DATA_TRANSFER = "AWSDataTransfer"
SERVICES = ("AmazonEC2", "AmazonVPC", "AmazonS3", DATA_TRANSFER, "AmazonECR")
_REGIONS = {
    "us-east-1": ("", "1"),
    "us-east-2": ("USE2-", "1"),
    "us-west-2": ("USW2-", "1"),
    "eu-west-1": ("EU-", "1.1"),
    "eu-central-1": ("EUC1-", "1.19"),
    "eu-north-1": ("EUN1-", "1.045"),
    "ap-northeast-1": ("APN1-", "1.2"),
    "ap-southeast-2": ("APS2-", "1.2"),
}
"""The prefix of the region's usage types, and the factor by which EBS and NAT cost more there."""
_VOLUMES = (
    ("gp3", "gp3", "General Purpose", "SSD-backed", "0.08"),
    ("gp2", "gp2", "General Purpose", "SSD-backed", "0.10"),
    ("io1", "piops", "Provisioned IOPS", "SSD-backed", "0.125"),
    ("io2", "io2", "Provisioned IOPS", "SSD-backed", "0.125"),
    ("st1", "st1", "Throughput Optimized HDD", "HDD-backed", "0.045"),
    ("sc1", "sc1", "Cold HDD", "HDD-backed", "0.015"),
    ("standard", "", "Magnetic", "HDD-backed", "0.05"),
)
_IOPS = (
    ("gp3", "gp3", "0.005"),
    ("io1", "piops", "0.065"),
    ("io2", "io2", "0.065"),
    ("io2", "io2.tier2", "0.0455"),
    ("io2", "io2.tier3", "0.03185"),
)
GIBPS_USD = "40.96"
"""The list has gp3's throughput by the GiB/s."""
SNAPSHOT_USD = "0.05"
"""A GB-month of what snapshots store."""


@dataclass(frozen=True)
class Product:
    """One line of the price list."""

    service: str
    family: str
    attributes: Mapping[str, str]
    unit: str
    tiers: tuple[tuple[int, Decimal], ...]
    """USD for a unit, from so many units in a month on."""
    description: str

    @property
    def sku(self) -> str:
        """Its number: the same for the same product."""
        parts = [self.family, *(f"{name}={value}" for name, value in sorted(self.attributes.items()))]
        return base64.b32encode(digest_of(*parts))[:16].decode()


def digest_of(*parts: str) -> bytes:
    """The same bytes for the same parts, everywhere and always: what prices are drawn from."""
    return hashlib.sha256("/".join(parts).encode()).digest()


def other_products(region: str) -> Iterator[Product]:
    """Everything but machines, without where it is."""
    prefix, factor = _REGIONS.get(region, (f"{region.upper()}-", "1.25"))
    dearer = Decimal(factor)
    for name, usage, kind, media, usd in _VOLUMES:
        suffix = f".{usage}" if usage else ""
        attributes = {"volumeApiName": name, "volumeType": kind, "storageMedia": media, "operation": ""}
        usage_type = f"{prefix}EBS:VolumeUsage{suffix}"
        yield _flat("AmazonEC2", "Storage", usage_type, "GB-Mo", Decimal(usd) * dearer, attributes)
    for name, usage, usd in _IOPS:
        attributes = {"volumeApiName": name, "group": "EBS IOPS"}
        usage_type = f"{prefix}EBS:VolumeP-IOPS.{usage}"
        yield _flat("AmazonEC2", "System Operation", usage_type, "IOPS-Mo", Decimal(usd) * dearer, attributes)
    yield _flat(
        "AmazonEC2",
        "Provisioned Throughput",
        f"{prefix}EBS:VolumeP-Throughput.gp3",
        "GiBps-mo",
        Decimal(GIBPS_USD) * dearer,
        {"volumeApiName": "gp3", "group": "EBS Throughput"},
    )
    snapshot = {"storageMedia": "Amazon S3", "operation": "CreateSnapshot"}
    usd_stored = Decimal(SNAPSHOT_USD) * dearer
    yield _flat("AmazonEC2", "Storage Snapshot", f"{prefix}EBS:SnapshotUsage", "GB-Mo", usd_stored, snapshot)
    archived = f"{prefix}EBS:SnapshotArchiveStorage"
    yield _flat("AmazonEC2", "Storage Snapshot", archived, "GB-Mo", Decimal("0.0125") * dearer, snapshot)
    for usage, unit in (("NatGateway-Hours", "Hrs"), ("NatGateway-Bytes", "GB")):
        group = {"group": "NGW:NatGateway", "operation": "NatGateway"}
        yield _flat("AmazonEC2", "NAT Gateway", f"{prefix}{usage}", unit, Decimal("0.045") * dearer, group)
    yield from _addresses(prefix or "USE1-")
    yield from _objects(prefix)
    yield Product(
        DATA_TRANSFER,
        "Data Transfer",
        {
            "servicecode": DATA_TRANSFER,
            "transferType": "AWS Outbound",
            "toLocation": "External",
            "usagetype": f"{prefix}DataTransfer-Out-Bytes",
        },
        "GB",
        _tiers((0, "0.09"), (10240, "0.085"), (51200, "0.07"), (153600, "0.05")),
        "per GB - data transfer out beyond the global free tier",
    )
    images = f"{prefix}TimedStorage-ByteHrs"
    yield _flat("AmazonECR", "EC2 Container Registry", images, "GB-Mo", Decimal("0.10"), {})


def _addresses(prefix: str) -> Iterator[Product]:
    for usage, usd in (("InUseAddress", "0.005"), ("IdleAddress", "0.005"), ("ContiguousBlock", "0.008")):
        attributes = {"group": "VPCPublicIPv4Address"}
        yield _flat("AmazonVPC", "", f"{prefix}PublicIPv4:{usage}", "Hrs", Decimal(usd), attributes)


def _objects(prefix: str) -> Iterator[Product]:
    yield Product(
        "AmazonS3",
        "Storage",
        {
            "servicecode": "AmazonS3",
            "volumeType": "Standard",
            "storageClass": "General Purpose",
            "usagetype": f"{prefix}TimedStorage-ByteHrs",
        },
        "GB-Mo",
        _tiers((0, "0.023"), (51200, "0.022"), (512000, "0.021")),
        "per GB of storage used",
    )
    for tier, usd in (("Tier1", "0.000005"), ("Tier2", "0.0000004")):
        attributes = {"group": f"S3-API-{tier}"}
        yield _flat(
            "AmazonS3", "API Request", f"{prefix}Requests-{tier}", "Requests", Decimal(usd), attributes
        )


def _flat(
    service: str, family: str, usage: str, unit: str, usd: Decimal, attributes: Mapping[str, str]
) -> Product:
    named = {"servicecode": service, "usagetype": usage, **attributes}
    return Product(service, family, named, unit, ((0, usd),), f"${usd} per {unit} of {usage}")


def _tiers(*tiers: tuple[int, str]) -> tuple[tuple[int, Decimal], ...]:
    return tuple((start, Decimal(usd)) for start, usd in tiers)
