"""What AWS asks for machines and all else that runctl rents: the price list API, machines from the shipped snapshot."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from botocore.session import get_session

from runctl.sandbox.api.pages import offset_of, token_at
from runctl.sandbox.prices.price_rates import DATA_TRANSFER, SERVICES, Product, other_products

TARGET = "AWSPriceListService."
PUBLISHED = datetime(2026, 1, 1, tzinfo=UTC)
_ON_DEMAND, _PER_UNIT = "JRTCKXETXF", "6YS6EN2CT7"
"""The price list's own codes for the on-demand offer and its rate."""
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
    """GetProducts: the products of a service that have every attribute asked for. Raises `Refused`."""
    service = query.get("ServiceCode")
    if service not in SERVICES:
        raise Refused("NotFoundException", f"Service code {service} not found")
    wanted: list[tuple[str, str]] = []
    for item in query.get("Filters") or []:
        if item.get("Type") != "TERM_MATCH":
            raise Refused(
                "InvalidParameterException", f"Filter type {item.get('Type')} is not supported here"
            )
        wanted.append((item["Field"], item["Value"]))
    found = [
        product
        for product in products()
        if product.service == service and all(_matches(product, *pair) for pair in wanted)
    ]
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


@cache
def products() -> tuple[Product, ...]:
    """On-demand Linux instances, and what else costs, in every region of the snapshot."""
    found = [_instance(row) for row in price_rows().values() if row.on_demand is not None]
    for region in sorted({row.region for row in price_rows().values()}):
        found += [
            replace(each, attributes={**each.attributes, **_location(region, each)})
            for each in other_products(region)
        ]
    return tuple(found)


def _instance(row: PriceRow) -> Product:
    usd = row.on_demand or Decimal(0)
    gpu = {"gpu": str(row.gpu_count)} if row.gpu_count else {}
    return Product(
        "AmazonEC2",
        "Compute Instance",
        {
            "regionCode": row.region,
            "location": _locations().get(row.region, row.region),
            "locationType": "AWS Region",
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
        ((0, usd),),
        f"${usd} per On Demand Linux {row.instance_type} Instance Hour",
    )


def _location(region: str, product: Product) -> dict[str, str]:
    name = _locations().get(region, region)
    if product.service == DATA_TRANSFER:
        return {"fromRegionCode": region, "fromLocation": name, "fromLocationType": "AWS Region"}
    return {"regionCode": region, "location": name, "locationType": "AWS Region"}


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
    ends = [*(str(start) for start, _ in product.tiers[1:]), "Inf"]
    dimensions = {
        f"{offer}.{_PER_UNIT}{number or ''}": {
            "unit": product.unit,
            "endRange": end,
            "description": product.description,
            "appliesTo": [],
            "rateCode": f"{offer}.{_PER_UNIT}{number or ''}",
            "beginRange": str(start),
            "pricePerUnit": {"USD": f"{usd:.10f}"},
        }
        for number, ((start, usd), end) in enumerate(zip(product.tiers, ends, strict=True))
    }
    return json.dumps(
        {
            "product": {
                "productFamily": product.family,
                "attributes": dict(product.attributes),
                "sku": sku,
            },
            "serviceCode": product.service,
            "terms": {
                "OnDemand": {
                    offer: {
                        "priceDimensions": dimensions,
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
        names = {
            service: sorted(
                {name for each in products() if each.service == service for name in each.attributes}
            )
            for service in SERVICES
        }
        return {
            "FormatVersion": "aws_v1",
            "Services": [
                {"ServiceCode": service, "AttributeNames": ["productFamily", *found]}
                for service, found in names.items()
            ],
        }
    raise Refused("UnknownOperationException", f"{operation} is not part of the sandbox")
