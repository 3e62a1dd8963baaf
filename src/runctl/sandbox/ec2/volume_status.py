"""What DescribeVolumeStatus says of a volume: that it works, and how far it is initialized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from moto.ec2.exceptions import EC2ClientError


def volume_status(volume: Any, progress: int | None) -> dict[str, Any]:
    """The API's row. ``progress`` is the initialization's, in percent; ``None`` for a volume that began empty."""
    details = [
        {"Name": "io-enabled", "Status": "passed"},
        {"Name": "io-performance", "Status": "not-applicable"},
    ]
    row: dict[str, Any] = {
        "VolumeId": volume.id,
        "AvailabilityZone": volume.availability_zone,
        "Actions": [],
        "Events": [],
        "AttachmentStatuses": [],
        "VolumeStatus": {"Status": "ok", "Details": details},
    }
    if progress is not None:
        state = "completed" if progress == 100 else "initializing"
        details.append({"Name": "initialization-state", "Status": state})
        row["InitializationStatusDetails"] = {
            "InitializationType": volume.initialization.kind,
            "Progress": progress,
            "EstimatedTimeToCompleteInSeconds": volume.initialization.seconds_left(progress),
        }
    return row


def matches(row: Mapping[str, Any], filters: Mapping[str, Sequence[str]]) -> bool:
    """Whether a row passes the API's filters. Raises EC2's own error for one that it does not have."""
    details = {detail["Name"]: detail["Status"] for detail in row["VolumeStatus"]["Details"]}
    known = {
        "availability-zone": [row["AvailabilityZone"]],
        "volume-status.status": [row["VolumeStatus"]["Status"]],
        "volume-status.details-name": list(details),
        "volume-status.details-status": list(details.values()),
    }
    for name, wanted in filters.items():
        if name not in known:
            raise EC2ClientError("InvalidParameterValue", f"The filter '{name}' is invalid")
        if not any(fnmatchcase(value, pattern) for value in known[name] for pattern in wanted):
            return False
    return True
