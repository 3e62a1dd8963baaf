"""Everything that the metadata service has to tell, as a tree of names. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runctl.sandbox.metadata.facts import InstanceFacts
from runctl.sandbox.world import ACCOUNT, Notices

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Credentials:
    """Temporary keys of a role."""

    access_key: str
    secret_key: str
    token: str
    issued: datetime
    expires: datetime


def tree(
    facts: InstanceFacts, notices: Notices | None, credentials: Callable[[], Credentials]
) -> dict[str, Any]:
    """Everything below ``/latest/``: names to texts, to functions that make them, or to trees.

    What is ``None`` is not there.
    """
    hostname = f"ip-{facts.private_ip.replace('.', '-')}.ec2.internal"
    meta: dict[str, Any] = {
        "ami-id": facts.image_id,
        "ami-launch-index": "0",
        "block-device-mapping": dict(facts.block_devices),
        "events": {
            "maintenance": {"history": "[]", "scheduled": "[]"},
            "recommendations": {"rebalance": notices.rebalance} if notices and notices.rebalance else None,
        },
        "hostname": hostname,
        "instance-action": "none",
        "instance-id": facts.instance_id,
        "instance-life-cycle": facts.lifecycle,
        "instance-type": facts.instance_type,
        "local-hostname": hostname,
        "local-ipv4": facts.private_ip,
        "mac": facts.mac,
        "placement": {"availability-zone": facts.zone, "region": facts.region},
        "public-ipv4": facts.public_ip,
        "reservation-id": f"r-{facts.instance_id[2:]}",
        "security-groups": "\n".join(facts.security_groups),
        "services": {"domain": "amazonaws.com", "partition": "aws"},
    }
    if facts.role is not None:
        meta["iam"] = {
            "info": lambda: _iam_info(facts, credentials()),
            "security-credentials": {facts.role.name: lambda: _credentials_text(credentials())},
        }
    if notices is not None and notices.instance_action is not None:
        meta["spot"] = {
            "instance-action": notices.instance_action,
            "termination-time": _termination_time(notices.instance_action),
        }
    if facts.tags is not None:
        meta["tags"] = {"instance": dict(facts.tags)}
    return {
        "meta-data": meta,
        "user-data": facts.user_data,
        "dynamic": {"instance-identity": {"document": lambda: _identity(facts)}},
    }


def text_at(root: Tree, path: str) -> bytes | None:
    """The text at a path, or a listing where it is a folder; ``None`` where there is nothing."""
    here: Any = root
    for name in filter(None, path.split("/")):
        if not isinstance(here, Mapping) or here.get(name) is None:
            return None
        here = here[name]
    if isinstance(here, Mapping):
        lines = [
            name + "/" if isinstance(value, Mapping) else name
            for name, value in sorted(here.items())
            if value is not None
        ]
        return "\n".join(lines).encode()
    if callable(here):
        here = here()
    return here if isinstance(here, bytes) else str(here).encode()


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _iam_info(facts: InstanceFacts, credentials: Credentials) -> str:
    assert facts.role is not None  # noqa: S101 - listed only where there is one
    return json.dumps(
        {
            "Code": "Success",
            "LastUpdated": _iso(credentials.issued),
            "InstanceProfileArn": facts.role.profile_arn,
            "InstanceProfileId": facts.role.profile_id,
        },
        indent=2,
    )


def _credentials_text(credentials: Credentials) -> str:
    return json.dumps(
        {
            "Code": "Success",
            "LastUpdated": _iso(credentials.issued),
            "Type": "AWS-HMAC",
            "AccessKeyId": credentials.access_key,
            "SecretAccessKey": credentials.secret_key,
            "Token": credentials.token,
            "Expiration": _iso(credentials.expires),
        },
        indent=2,
    )


def _identity(facts: InstanceFacts) -> str:
    return json.dumps(
        {
            "accountId": ACCOUNT,
            "architecture": facts.architecture,
            "availabilityZone": facts.zone,
            "billingProducts": None,
            "devpayProductCodes": None,
            "marketplaceProductCodes": None,
            "imageId": facts.image_id,
            "instanceId": facts.instance_id,
            "instanceType": facts.instance_type,
            "kernelId": None,
            "pendingTime": _iso(facts.launched),
            "privateIp": facts.private_ip,
            "ramdiskId": None,
            "region": facts.region,
            "version": "2017-09-30",
        },
        indent=2,
    )


def _termination_time(instance_action: str) -> str | None:
    """The older path, there for instances that are to be terminated or stopped at a known time."""
    try:
        notice = json.loads(instance_action)
        return str(notice["time"]) if notice["action"] in {"terminate", "stop"} else None
    except (ValueError, KeyError, TypeError):
        return None
