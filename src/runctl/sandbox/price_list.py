"""What AWS asks for machines and volumes, from the shipped snapshot: spot price history, and the price list API."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from importlib import resources
from typing import Any

from botocore.session import get_session
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS
from moto.ec2.responses.spot_instances import SpotInstances

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
LINUX = "Linux/UNIX"
_LINUX_NAMES = frozenset({LINUX, "Linux/UNIX (Amazon VPC)"})
HISTORY_DAYS = 90
ZONE_SPREAD = Decimal("0.08")
DAY_SPREAD = Decimal("0.02")
_CENT_OF_A_CENT = Decimal("0.0001")

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
class SpotQuery:
    """What a DescribeSpotPriceHistory asks for; empty means all."""

    instance_types: frozenset[str] = frozenset()
    zones: frozenset[str] = frozenset()
    products: frozenset[str] = frozenset()
    prices: frozenset[str] = frozenset()
    start: datetime | None = None
    end: datetime | None = None


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


def spot_price_on(instance_type: str, region: str, zone: str, day: datetime) -> Decimal | None:
    """USD per hour on that day: the region's median, some percent off by zone and day, never above on-demand."""
    row = price_rows().get((instance_type, region))
    if row is None or row.spot_median is None:
        return None
    off = ZONE_SPREAD * _swing(instance_type, zone) + DAY_SPREAD * _swing(
        instance_type, zone, f"{day:%Y-%m-%d}"
    )
    price = (row.spot_median * (1 + off)).quantize(_CENT_OF_A_CENT, ROUND_HALF_UP)
    price = max(price, _CENT_OF_A_CENT)
    return price if row.on_demand is None else min(price, row.on_demand)


def spot_price(instance_type: str, region: str, zone: str, moment: datetime) -> Decimal | None:
    """USD per hour at that moment, as the history has it; ``None`` where there is no spot."""
    change = _change_before(moment, instance_type, zone)
    return spot_price_on(instance_type, region, zone, change)


def spot_history(region: str, query: SpotQuery, now: datetime) -> list[dict[str, Any]]:
    """The API's rows, the newest first: every change in the time asked for, and the price that it began with.

    A price changes once a day, at an hour of its own.
    """
    if query.products and not query.products & _LINUX_NAMES:
        return []
    end = min(query.end or now, now)
    start = max(query.start or now - timedelta(days=HISTORY_DAYS), now - timedelta(days=HISTORY_DAYS))
    start = min(start, end)
    rows: list[dict[str, Any]] = []
    for offering in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, []):
        kind, zone = offering["InstanceType"], offering["Location"]
        if query.instance_types and kind not in query.instance_types:
            continue
        if query.zones and zone not in query.zones:
            continue
        rows += _zone_history(kind, region, zone, start, end)
    if query.prices:
        rows = [row for row in rows if row["SpotPrice"] in query.prices]
    rows.sort(key=lambda row: (row["InstanceType"], row["AvailabilityZone"]))
    rows.sort(key=lambda row: row["Timestamp"], reverse=True)
    return rows


def _zone_history(
    instance_type: str, region: str, zone: str, start: datetime, end: datetime
) -> Iterator[dict[str, Any]]:
    change = _change_before(end, instance_type, zone)
    while True:
        price = spot_price_on(instance_type, region, zone, change)
        if price is None:
            return
        yield {
            "AvailabilityZone": zone,
            "InstanceType": instance_type,
            "ProductDescription": LINUX,
            "SpotPrice": f"{price:.6f}",
            "Timestamp": change,
        }
        if change <= start:
            return
        change -= timedelta(days=1)


def _change_before(moment: datetime, instance_type: str, zone: str) -> datetime:
    minutes = int.from_bytes(_digest(instance_type, zone, "hour")[:4], "big") % (24 * 60)
    change = moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(minutes=minutes)
    return change if change <= moment else change - timedelta(days=1)


def _swing(*parts: str) -> Decimal:
    """From -1 to 1, always the same for the same words."""
    return Decimal(int.from_bytes(_digest(*parts)[:4], "big")) / Decimal(2**31) - 1


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("/".join(parts).encode()).digest()


def describe_spot_price_history(self: Any) -> ActionResult:
    """moto's response to DescribeSpotPriceHistory, with prices, times and pages."""
    filters = self._filters_from_querystring()
    known = {"availability-zone", "instance-type", "product-description", "spot-price", "timestamp"}
    for name in filters:
        if name not in known:
            raise EC2ClientError("InvalidParameterValue", f"The filter '{name}' is invalid")
    zone = self._get_param("AvailabilityZone")
    query = SpotQuery(
        instance_types=_both(self._get_param("InstanceTypes", []), filters.get("instance-type", [])),
        zones=_both([zone] if zone else [], filters.get("availability-zone", [])),
        products=_both(self._get_param("ProductDescriptions", []), filters.get("product-description", [])),
        prices=frozenset(filters.get("spot-price", [])),
        start=_moment(self._get_param("StartTime")),
        end=_moment(self._get_param("EndTime")),
    )
    self.error_on_dryrun()
    rows = spot_history(self.region, query, utcnow().replace(tzinfo=UTC))
    size = min(max(int(self._get_param("MaxResults") or 1000), 1), 1000)
    try:
        start = offset_of(self._get_param("NextToken"))
    except ValueError as error:
        raise EC2ClientError("InvalidNextToken", "The token is invalid or has expired") from error
    # EC2 ends this listing with an empty token, not without one.
    token = token_at(start + size) if start + size < len(rows) else ""
    return ActionResult({"SpotPriceHistory": rows[start : start + size], "NextToken": token})


def install() -> None:
    """moto's EC2 answers with these prices from now on. `PriceListService` has to be put before moto besides."""
    SpotInstances.describe_spot_price_history = describe_spot_price_history  # type: ignore[method-assign]


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
        return base64.b32encode(_digest(*parts))[:16].decode()


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


def _both(first: Sequence[str], second: Sequence[str]) -> frozenset[str]:
    """What satisfies a parameter and a filter that mean the same; a name that no row has when nothing does."""
    if first and second:
        return frozenset(first) & frozenset(second) or frozenset({""})
    return frozenset(first or second)


def _moment(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value if value is None or value.tzinfo is not None else value.replace(tzinfo=UTC)
    return datetime.fromisoformat(str(value)).astimezone(UTC)
