"""EBS's answers where moto has none, or leaves parameters and pages out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses.elastic_block_store import ElasticBlockStore

from runctl.sandbox.api.pages import page


def modify_volume(self: Any) -> ActionResult:
    """ModifyVolume."""
    self.error_on_dryrun()
    volume = self.ec2_backend.modify_volume(
        self._get_param("VolumeId"),
        self._get_int_param("Size"),
        self._get_param("VolumeType"),
        self._get_int_param("Iops"),
        self._get_int_param("Throughput"),
        self._get_bool_param("MultiAttachEnabled"),
    )
    return ActionResult({"VolumeModification": volume.changes[-1]})


def describe_volumes_modifications(self: Any) -> ActionResult:
    """DescribeVolumesModifications."""
    rows = self.ec2_backend.describe_volumes_modifications(
        volume_ids=self._get_param("VolumeIds", []), filters=self._filters_from_querystring()
    )
    return _paged(self, "VolumesModifications", rows)


def describe_volumes(self: Any) -> ActionResult:
    """DescribeVolumes."""
    rows = self.ec2_backend.describe_volumes(
        volume_ids=self._get_param("VolumeIds", []), filters=self._filters_from_querystring()
    )
    return _paged(self, "Volumes", rows)


def copy_volumes(self: Any) -> ActionResult:
    """CopyVolumes."""
    tags = self._parse_tag_specification().get("volume", {})
    self.error_on_dryrun()
    volume = self.ec2_backend.copy_volume(
        self._get_param("SourceVolumeId"),
        size=self._get_int_param("Size"),
        volume_type=self._get_param("VolumeType"),
        iops=self._get_int_param("Iops"),
        throughput=self._get_int_param("Throughput"),
        multi_attach_enabled=self._get_bool_param("MultiAttachEnabled"),
        encrypted=self._get_bool_param("Encrypted", False),
        kms_key_id=self._get_param("KmsKeyId"),
    )
    volume.add_tags(tags)
    return ActionResult({"Volumes": [volume]})


def describe_volume_status(self: Any) -> ActionResult:
    """DescribeVolumeStatus."""
    filters = self._filters_from_querystring()
    volumes = self.ec2_backend.describe_volumes(volume_ids=self._get_param("VolumeIds", []))
    progress = self.ec2_backend.initialization_progress
    rows = [_status(volume, progress(volume)) for volume in volumes]
    return _paged(self, "VolumeStatuses", [row for row in rows if _passes(row, filters)])


def describe_snapshots(self: Any) -> ActionResult:
    """DescribeSnapshots."""
    rows = self.ec2_backend.describe_snapshots(
        snapshot_ids=self._get_param("SnapshotIds", []),
        filters=self._filters_from_querystring(),
        owners=self._get_param("OwnerIds", []),
        restorable_by=self._get_param("RestorableByUserIds", []),
    )
    return _paged(self, "Snapshots", rows)


def _status(volume: Any, progress: int | None) -> dict[str, Any]:
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


def _passes(row: Mapping[str, Any], filters: Mapping[str, Sequence[str]]) -> bool:
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


def _paged(self: Any, name: str, rows: Sequence[Any]) -> ActionResult:
    """As many as were asked for, in EC2's pages of 5 to 1,000; all where nothing was."""
    asked = self._get_int_param("MaxResults")
    size = max(len(rows), 1) if asked is None else min(max(asked, 5), 1000)
    try:
        shown, token = page(rows, size, self._get_param("NextToken"))
    except ValueError as error:
        raise EC2ClientError("InvalidNextToken", "The token is invalid or has expired") from error
    return ActionResult({name: shown, "NextToken": token})


ANSWERS: tuple[Callable[[Any], ActionResult], ...] = (
    modify_volume,
    describe_volumes,
    describe_volumes_modifications,
    copy_volumes,
    describe_volume_status,
    describe_snapshots,
)


def install() -> None:
    """From now on moto's EC2 answers with these."""
    for answer in ANSWERS:
        setattr(ElasticBlockStore, answer.__name__, answer)
