"""What the price list API is asked (``GetProducts``) for everything but machines, and what its documents say. Pure.

The list names things by usage type, as the bill does: ``EBS:VolumeUsage.gp3``, in most regions with the region's own
prefix before it (``EUC1-``). A GB of it is 2^30 bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any

from runctl._dataclasses import dataclass
from runctl.costs.rates import Tier
from runctl.providers.aws.ebs.type_table import TYPES, DiskType
from runctl.providers.aws.prices.items import Item


class Group(StrEnum):
    """Items that are asked for together: what one kind of plan needs."""

    EBS = "ebs"
    NETWORK = "network"
    S3 = "s3"
    ECR = "ecr"


@dataclass(frozen=True)
class Question:
    """One call of ``GetProducts``."""

    service: str
    attributes: Mapping[str, str]
    """Each has to be equal."""


@dataclass(frozen=True)
class _Line:
    group: Group
    question: Question
    """Without the region."""
    usages: Mapping[str, Item]
    region_attribute: str = "regionCode"


_EC2, _VPC, _S3, _OUT, _ECR = "AmazonEC2", "AmazonVPC", "AmazonS3", "AWSDataTransfer", "AmazonECR"
_IOPS = "EBS:VolumeP-IOPS"


def _usage_of(kind: str, disk: DiskType) -> str:
    return f"{kind}.{disk.usage}" if disk.usage else kind


_TIERS = {
    f"{_usage_of(_IOPS, disk)}.tier{number}": (disk.iops_price, Decimal(start))
    for disk in TYPES.values()
    if disk.iops_price
    for number, start in enumerate(disk.iops_tiers, start=2)
}
"""The list has each tier as a product of its own: what it is of, and where it begins."""
_LINES = (
    _Line(
        Group.EBS,
        Question(_EC2, {"productFamily": "Storage"}),
        {_usage_of("EBS:VolumeUsage", disk): disk.storage for disk in TYPES.values()},
    ),
    _Line(
        Group.EBS,
        Question(_EC2, {"productFamily": "System Operation"}),
        {
            **{_usage_of(_IOPS, disk): disk.iops_price for disk in TYPES.values() if disk.iops_price},
            **{usage: item for usage, (item, _) in _TIERS.items()},
        },
    ),
    _Line(
        Group.EBS,
        Question(_EC2, {"productFamily": "Provisioned Throughput"}),
        {
            _usage_of("EBS:VolumeP-Throughput", disk): disk.throughput_price
            for disk in TYPES.values()
            if disk.throughput_price
        },
    ),
    _Line(
        Group.EBS,
        Question(_EC2, {"productFamily": "Storage Snapshot"}),
        {"EBS:SnapshotUsage": Item.SNAPSHOT},
    ),
    _Line(
        Group.NETWORK,
        Question(_VPC, {"group": "VPCPublicIPv4Address"}),
        {"PublicIPv4:InUseAddress": Item.PUBLIC_IPV4},
    ),
    _Line(
        Group.NETWORK,
        Question(_EC2, {"productFamily": "NAT Gateway"}),
        {"NatGateway-Hours": Item.NAT_HOUR, "NatGateway-Bytes": Item.NAT_GIB},
    ),
    _Line(
        Group.NETWORK,
        Question(_OUT, {"transferType": "AWS Outbound"}),
        {"DataTransfer-Out-Bytes": Item.DATA_OUT},
        region_attribute="fromRegionCode",
    ),
    _Line(
        Group.S3,
        Question(_S3, {"productFamily": "Storage", "volumeType": "Standard"}),
        {"TimedStorage-ByteHrs": Item.S3_STORAGE},
    ),
    _Line(
        Group.S3,
        Question(_S3, {"productFamily": "API Request", "group": "S3-API-Tier1"}),
        {"Requests-Tier1": Item.S3_WRITES},
    ),
    _Line(
        Group.S3,
        Question(_S3, {"productFamily": "API Request", "group": "S3-API-Tier2"}),
        {"Requests-Tier2": Item.S3_READS},
    ),
    _Line(
        Group.ECR,
        Question(_ECR, {"productFamily": "EC2 Container Registry"}),
        {"TimedStorage-ByteHrs": Item.ECR_STORAGE},
    ),
)
GROUP_OF: Mapping[Item, Group] = {
    **{item: line.group for line in _LINES for item in line.usages.values()},
    Item.INITIALIZATION: Group.EBS,
}
_USAGES = {(line.question.service, usage): item for line in _LINES for usage, item in line.usages.items()}
_PREFIX = re.compile(r"[A-Z]{2,4}[0-9]*-")
_INCLUDED = {
    **{
        d.iops_price: Decimal(d.iops[0])
        for d in TYPES.values()
        if d.minimum_included and d.iops_price and d.iops
    },
    **{
        d.throughput_price: Decimal(d.throughput[0])
        for d in TYPES.values()
        if d.minimum_included and d.throughput_price and d.throughput
    },
    Item.DATA_OUT: Decimal(100),
}
"""What is free: with any volume of some types, and of traffic in a month, across all regions. The list has only what is
paid."""
_UNITS = {"Requests": Decimal(1000), "GiBps-mo": 1 / Decimal(1024)}
"""How many of the list's units our rate is for: 1,000 requests; a MiB/s."""


def questions(group: Group, region: str) -> tuple[Question, ...]:
    """All that has to be asked for a group."""
    return tuple(
        Question(line.question.service, {**line.question.attributes, line.region_attribute: region})
        for line in _LINES
        if line.group is group
    )


_LINUX = {
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "tenancy": "Shared",
    "capacitystatus": "Used",
}


def machine_question(instance_type: str) -> Question:
    """On-demand Linux machines of one type, in every region that sells them."""
    return Question(_EC2, {"instanceType": instance_type, **_LINUX})


def region_question(region: str) -> Question:
    """On-demand Linux machines of every type in one region."""
    return Question(_EC2, {"regionCode": region, **_LINUX})


def machine_prices(documents: Iterable[str]) -> Mapping[str, Decimal]:
    """USD an hour by region, of the documents that answer `machine_question`; the cheapest where there are several."""
    return _hourly_by("regionCode", documents)


def prices_by_type(documents: Iterable[str]) -> Mapping[str, Decimal]:
    """The same by instance type, of those that answer `region_question`."""
    return _hourly_by("instanceType", documents)


def _hourly_by(attribute: str, documents: Iterable[str]) -> Mapping[str, Decimal]:
    found: dict[str, Decimal] = {}
    for document in map(json.loads, documents):
        attributes = document.get("product", {}).get("attributes", {})
        key = attributes.get(attribute)
        # Local and Wavelength zones have prices of their own, and their region's code.
        if key is None or attributes.get("locationType", "AWS Region") != "AWS Region":
            continue
        for unit, _, usd in _dimensions(document):
            if unit == "Hrs" and usd > 0:
                found[key] = min(usd, found.get(key, usd))
    return found


def rates_in(documents: Iterable[str]) -> Mapping[Item, tuple[Tier, ...]]:
    """What the documents that answer `questions` say, with what is included and free."""
    found: dict[Item, dict[Decimal, Decimal]] = {}
    for document in map(json.loads, documents):
        usage = _usage(document)
        item = _USAGES.get((str(document.get("serviceCode")), usage))
        if item is None:
            continue
        tiers = found.setdefault(item, {})
        first = _TIERS[usage][1] if usage in _TIERS else Decimal(0)
        for unit, start, usd in _dimensions(document):
            tiers[start + first] = usd * _UNITS.get(unit, Decimal(1))
    return {item: _complete(item, tiers) for item, tiers in found.items() if tiers}


def _complete(item: Item, tiers: Mapping[Decimal, Decimal]) -> tuple[Tier, ...]:
    free = _INCLUDED.get(item)
    ordered = [Tier(start, usd) for start, usd in sorted(tiers.items())]
    if free is None:
        return tuple(ordered)
    return (Tier(Decimal(0), Decimal(0)), Tier(free, ordered[0].usd), *ordered[1:])


def _usage(document: Mapping[str, Any]) -> str:
    usage = str(document.get("product", {}).get("attributes", {}).get("usagetype", ""))
    return _PREFIX.sub("", usage, count=1) if _PREFIX.match(usage) else usage


def _dimensions(document: Mapping[str, Any]) -> Iterable[tuple[str, Decimal, Decimal]]:
    """Unit, where the tier begins, and USD, of each on-demand price."""
    for term in document.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            usd = decimal_of(dimension.get("pricePerUnit", {}).get("USD"))
            start = decimal_of(dimension.get("beginRange") or "0")
            if usd is not None and start is not None:
                yield dimension.get("unit", ""), start, usd


def decimal_of(text: str | None) -> Decimal | None:
    """A finite number, ``None`` for anything else."""
    try:
        amount = Decimal(text) if text else None
    except ArithmeticError:
        return None
    return amount if amount is not None and amount.is_finite() else None
