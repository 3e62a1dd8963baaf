"""How many vCPUs the account may run at once, by kind of machine and market; EC2 refuses launches above that.

Sources: "Amazon EC2 instance type quotas" in the EC2 user guide, and the Service Quotas API reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moto.ec2.exceptions import EC2ClientError

TARGET = "ServiceQuotasV20190624."
Start = Callable[..., Any]
Wsgi = Callable[[dict[str, Any], Start], Iterable[bytes]]


@dataclass(frozen=True)
class Quota:
    """One quota, and what an account of some age has of it."""

    code: str
    name: str
    kind: str
    """As ``runctl sandbox quota`` calls it."""
    market: str
    families: str
    """A regular expression that instance types begin with."""
    vcpus: int


_STANDARD = r"([acdhimrtz]|im|is)\d"
QUOTAS = (
    Quota(
        "L-1216C47A",
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        "standard",
        "on-demand",
        _STANDARD,
        1152,
    ),
    Quota(
        "L-34B43A08",
        "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
        "standard",
        "spot",
        _STANDARD,
        1440,
    ),
    Quota("L-DB2E81BA", "Running On-Demand G and VT instances", "g", "on-demand", r"(g|gr|vt)\d", 768),
    Quota("L-3819A6DF", "All G and VT Spot Instance Requests", "g", "spot", r"(g|gr|vt)\d", 768),
    Quota("L-417A185B", "Running On-Demand P instances", "p", "on-demand", r"p[2345]", 384),
    Quota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests", "p", "spot", r"p[234]", 384),
)
KINDS = ("standard", "g", "p")
QUOTA_OF: Mapping[tuple[str, str], Quota] = {(quota.kind, quota.market): quota for quota in QUOTAS}


def quota_of(instance_type: str, market: str) -> Quota | None:
    """The quota that a machine counts against; ``None``: the sandbox has none for it."""
    return next((q for q in QUOTAS if q.market == market and re.match(q.families, instance_type)), None)


def check(
    instance_type: str,
    market: str,
    count: int,
    running: Iterable[tuple[str, str]],
    vcpus: Callable[[str], int],
    limits: Mapping[str, int],
) -> None:
    """Raises what EC2 answers where ``count`` more of the type are above the quota.

    ``running`` are the types and markets of what runs; ``limits`` are by a quota's code.
    """
    quota = quota_of(instance_type, market)
    if quota is None:
        return
    limit = limits.get(quota.code, quota.vcpus)
    used = sum(vcpus(kind) for kind, where in running if quota_of(kind, where) == quota)
    if used + count * vcpus(instance_type) <= limit:
        return
    if market == "spot":
        raise EC2ClientError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    raise EC2ClientError(
        "VcpuLimitExceeded",
        f"You have requested more vCPU capacity than your current vCPU limit of {limit} allows for the instance bucket"
        " that the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to"
        " request an adjustment to this limit.",
    )


class QuotaService:
    """WSGI middleware that answers Service Quotas for EC2, which moto has not."""

    def __init__(self, application: Wsgi, limits: Callable[[], Mapping[str, int]]) -> None:
        self._application = application
        self._limits = limits

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if not target.startswith(TARGET):
            return self._application(environ, start)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        query = json.loads(environ["wsgi.input"].read(length) or b"{}")
        answer = self._answer(target.removeprefix(TARGET), query)
        status = "400 Bad Request" if "__type" in answer else "200 OK"
        body = json.dumps(answer).encode()
        start(status, [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, operation: str, query: Mapping[str, Any]) -> dict[str, Any]:
        if query.get("ServiceCode") != "ec2":
            return {"__type": "NoSuchResourceException", "Message": "The sandbox has quotas of ec2 only."}
        if operation == "ListServiceQuotas":
            return {"Quotas": [self._described(quota) for quota in QUOTAS]}
        if operation == "GetServiceQuota":
            found = next((quota for quota in QUOTAS if quota.code == query.get("QuotaCode")), None)
            if found is not None:
                return {"Quota": self._described(found)}
            return {
                "__type": "NoSuchResourceException",
                "Message": "The request failed because the quota does not exist.",
            }
        return {"__type": "UnknownOperationException", "Message": f"{operation} is not part of the sandbox"}

    def _described(self, quota: Quota) -> dict[str, Any]:
        return {
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "QuotaCode": quota.code,
            "QuotaName": quota.name,
            "Value": float(self._limits().get(quota.code, quota.vcpus)),
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }
