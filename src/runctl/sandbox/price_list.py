"""What AWS asks for machines and volumes, from the shipped snapshot: the price list API."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from botocore.session import get_session

from runctl.sandbox.api.pages import offset_of, token_at

STORAGE_USD_PER_GIB = {
    "gp3": Decimal("0.08"),
    "gp2": Decimal("0.10"),
    "io1": Decimal("0.125"),
    "io2": Decimal("0.125"),
    "st1": Decimal("0.045"),
    "sc1": Decimal("0.015"),
    "standard": Decimal("0.05"),
}
"""USD a month, of us-east-1's public list. The sandbox has its own, as AWS has: it does not ask its client."""

TARGET = "AWSPriceListService."
PUBLISHED = datetime(2026, 1, 1, tzinfo=UTC)
_ON_DEMAND, _PER_UNIT = "JRTCKXETXF", "6YS6EN2CT7"
"""The price list's own codes for the on-demand offer and its rate."""
SNAPSHOT_USD = Decimal("0.05")
"""A GB-month of what snapshots store, at us-east-1's list price."""
_VOLUME_NAMES = {
    "gp3": ("General Purpose", "SSD-backed"),
    "gp2": ("General Purpose", "SSD-backed"),
    "io1": ("Provisioned IOPS", "SSD-backed"),
    "io2": ("Provisioned IOPS", "SSD-backed"),
    "st1": ("Throughput Optimized HDD", "HDD-backed"),
    "sc1": ("Cold HDD", "HDD-backed"),
}

Start = Callable[..., Any]
Wsgi = Callable[[dict[str, Any], Start], Iterable[bytes]]


class Refused(Exception):
    """The price list API's refusal."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class PriceRow:
    """An instance type in a region, as the frozen list of prices has it; USD per hour."""

    instance_type: str
    region: str
    vcpus: int
    memory_gib: Decimal
    gpu_name: str | None
    gpu_count: int
    arch: str
    on_demand: Decimal | None
    spot_median: Decimal | None


@cache
def price_rows() -> Mapping[tuple[str, str], PriceRow]:
    """By instance type and region."""
    text = (
        resources.files("runctl.providers.aws").joinpath("data", "aws_prices.csv").read_text(encoding="utf-8")
    )
    rows = [
        PriceRow(
            row["instance_type"],
            row["region"],
            int(float(row["vcpus"])),
            Decimal(row["memory_gib"]),
            row["gpu_name"] or None,
            int(float(row["gpu_count"] or 0)),
            row["arch"],
            _usd(row["on_demand_usd_per_hour"]),
            _usd(row["spot_usd_per_hour_median"]),
        )
        for row in csv.DictReader(text.splitlines())
    ]
    return {(row.instance_type, row.region): row for row in rows}


def _usd(text: str) -> Decimal | None:
    return Decimal(text) if text else None


def digest_of(*parts: str) -> bytes:
    """The same bytes for the same parts, everywhere and always: what prices are drawn from."""
    return hashlib.sha256("/".join(parts).encode()).digest()


class PriceListService:
    """WSGI middleware that answers the price list API, which moto has not."""

    def __init__(self, application: Wsgi) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if not target.startswith(TARGET):
            return self._application(environ, start)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        try:
            query = json.loads(environ["wsgi.input"].read(length) or b"{}")
            answer, status = _answer(target.removeprefix(TARGET), query), "200 OK"
        except Refused as error:
            answer, status = {"__type": error.code, "Message": str(error)}, "400 Bad Request"
        body = json.dumps(answer).encode()
        start(status, [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))])
        return [body]


def get_products(query: Mapping[str, Any]) -> dict[str, Any]:
    """GetProducts: the products of AmazonEC2 that have every attribute asked for. Raises `Refused`."""
    if query.get("ServiceCode") != "AmazonEC2":
        raise Refused("NotFoundException", f"Service code {query.get('ServiceCode')} not found")
    wanted: list[tuple[str, str]] = []
    for item in query.get("Filters") or []:
        if item.get("Type") != "TERM_MATCH":
            raise Refused(
                "InvalidParameterException", f"Filter type {item.get('Type')} is not supported here"
            )
        wanted.append((item["Field"], item["Value"]))
    found = [product for product in products() if all(_matches(product, *pair) for pair in wanted)]
    size = int(query.get("MaxResults") or 100)
    if not 1 <= size <= 100:
        raise Refused("InvalidParameterException", "MaxResults must be between 1 and 100")
    try:
        first = offset_of(query.get("NextToken"))
    except ValueError as error:
        raise Refused("InvalidNextTokenException", "The pagination token is invalid. Try again.") from error
    answer: dict[str, Any] = {
        "FormatVersion": "aws_v1",
        "PriceList": [_document(product) for product in found[first : first + size]],
    }
    if first + size < len(found):
        answer["NextToken"] = token_at(first + size)
    return answer


@dataclass(frozen=True)
class Product:
    """One line of the price list."""

    family: str
    attributes: Mapping[str, str]
    unit: str
    usd: Decimal
    description: str

    @property
    def sku(self) -> str:
        """Its number: the same for the same product."""
        parts = [self.family, *(f"{name}={value}" for name, value in sorted(self.attributes.items()))]
        return base64.b32encode(digest_of(*parts))[:16].decode()


@cache
def products() -> tuple[Product, ...]:
    """On-demand Linux instances, and the storage of volumes and snapshots, in every region of the snapshot."""
    found = [_instance(row) for row in price_rows().values() if row.on_demand is not None]
    for region in sorted({row.region for row in price_rows().values()}):
        found += [_storage(name, region) for name in _VOLUME_NAMES]
        found.append(_snapshots(region))
    return tuple(found)


def _instance(row: PriceRow) -> Product:
    usd = row.on_demand or Decimal(0)
    gpu = {"gpu": str(row.gpu_count)} if row.gpu_count else {}
    return Product(
        "Compute Instance",
        {
            **_location(row.region),
            "servicecode": "AmazonEC2",
            "servicename": "Amazon Elastic Compute Cloud",
            "instanceType": row.instance_type,
            "instanceFamily": "GPU instance" if row.gpu_count else "General purpose",
            "currentGeneration": "Yes",
            "vcpu": str(row.vcpus),
            "memory": f"{row.memory_gib.normalize():f} GiB",
            "operatingSystem": "Linux",
            "preInstalledSw": "NA",
            "tenancy": "Shared",
            "capacitystatus": "Used",
            "licenseModel": "No License required",
            "marketoption": "OnDemand",
            "operation": "RunInstances",
            "usagetype": f"BoxUsage:{row.instance_type}",
            "processorArchitecture": "64-bit",
            **gpu,
        },
        "Hrs",
        usd,
        f"${usd} per On Demand Linux {row.instance_type} Instance Hour",
    )


def _storage(name: str, region: str) -> Product:
    kind, media = _VOLUME_NAMES[name]
    usd = STORAGE_USD_PER_GIB[name]
    return Product(
        "Storage",
        {
            **_location(region),
            "servicecode": "AmazonEC2",
            "servicename": "Amazon Elastic Compute Cloud",
            "volumeApiName": name,
            "volumeType": kind,
            "storageMedia": media,
            "usagetype": f"EBS:VolumeUsage.{name}",
            "operation": "",
        },
        "GB-Mo",
        usd,
        f"${usd} per GB-month of {kind} ({name}) provisioned storage",
    )


def _snapshots(region: str) -> Product:
    return Product(
        "Storage Snapshot",
        {
            **_location(region),
            "servicecode": "AmazonEC2",
            "servicename": "Amazon Elastic Compute Cloud",
            "storageMedia": "Amazon S3",
            "usagetype": "EBS:SnapshotUsage",
            "operation": "CreateSnapshot",
        },
        "GB-Mo",
        SNAPSHOT_USD,
        f"${SNAPSHOT_USD} per GB-Month of snapshot data stored",
    )


def _location(region: str) -> dict[str, str]:
    return {"regionCode": region, "location": _locations().get(region, region), "locationType": "AWS Region"}


@cache
def _locations() -> Mapping[str, str]:
    """Region codes to the names that the price list has for them, which say EU where botocore says Europe."""
    found: dict[str, str] = {}
    for partition in get_session().get_data("endpoints")["partitions"]:
        for region, parts in partition["regions"].items():
            found[region] = parts["description"].replace("Europe (", "EU (")
    return found


def _matches(product: Product, field: str, value: str) -> bool:
    own = product.family if field == "productFamily" else product.attributes.get(field)
    return own is not None and own.lower() == value.lower()


def _document(product: Product) -> str:
    sku = product.sku
    offer = f"{sku}.{_ON_DEMAND}"
    rate = f"{offer}.{_PER_UNIT}"
    return json.dumps(
        {
            "product": {
                "productFamily": product.family,
                "attributes": dict(product.attributes),
                "sku": sku,
            },
            "serviceCode": "AmazonEC2",
            "terms": {
                "OnDemand": {
                    offer: {
                        "priceDimensions": {
                            rate: {
                                "unit": product.unit,
                                "endRange": "Inf",
                                "description": product.description,
                                "appliesTo": [],
                                "rateCode": rate,
                                "beginRange": "0",
                                "pricePerUnit": {"USD": f"{product.usd:.10f}"},
                            }
                        },
                        "sku": sku,
                        "effectiveDate": f"{PUBLISHED:%Y-%m-%dT%H:%M:%SZ}",
                        "offerTermCode": _ON_DEMAND,
                        "termAttributes": {},
                    }
                }
            },
            "version": f"{PUBLISHED:%Y%m%d%H%M%S}",
            "publicationDate": f"{PUBLISHED:%Y-%m-%dT%H:%M:%SZ}",
        }
    )


def _answer(operation: str, query: Mapping[str, Any]) -> dict[str, Any]:
    if operation == "GetProducts":
        return get_products(query)
    if operation == "DescribeServices":
        names = sorted({name for product in products() for name in product.attributes})
        return {
            "FormatVersion": "aws_v1",
            "Services": [{"ServiceCode": "AmazonEC2", "AttributeNames": ["productFamily", *names]}],
        }
    raise Refused("UnknownOperationException", f"{operation} is not part of the sandbox")
