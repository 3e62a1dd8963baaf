"""What filling volumes needs of AWS: what S3 holds, where a volume comes from, helper machines and their rights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runctl.core import tags as tag
from runctl.core.errors import NotFound, PermissionDenied
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Instance, Volume
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.filling import Filling, MachineSpeed, StoredData, VolumeOrigin
from runctl.providers.abilities.volume_plans import DiskShape
from runctl.providers.aws.calls.errors import error_code, raising_our_errors
from runctl.providers.aws.calls.filters import describe
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.initialization import RATES, initialization
from runctl.providers.aws.ebs.types import baseline_mibps
from runctl.providers.aws.ec2 import network
from runctl.providers.aws.ec2.instances import LIVE, priced
from runctl.providers.aws.iam import helper_role

MOST_PAGES = 100
"""Of a thousand objects: a plan is not to take minutes; the machine lists all of them."""


@raising_our_errors
class EbsFilling(Filling):
    """EBS volumes that are filled from S3; see `Filling`."""

    helper_types = (
        "t3.medium",
        "m6i.large",
        "m7i.large",
        "c6in.large",
        "c6in.xlarge",
        "c6in.2xlarge",
        "c6in.4xlarge",
        "m7i.xlarge",
        "m7i.2xlarge",
    )

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def stored_data(self, bucket: str, prefix: str, progress: Progress = SILENT) -> StoredData:
        """What is to be fetched, up to `MOST_PAGES` of it counted."""
        session = self._context.session
        progress.step(f"looking at s3://{bucket}/{prefix}".rstrip("/"))
        region = _bucket_region(session.s3, bucket)
        try:
            return _counted(session.s3, bucket, prefix, region)
        except Exception as error:
            if error_code(error) not in {"AccessDenied", "403"}:
                raise
            return StoredData(
                region, None, None, whole=False, why_not="your account is not allowed to list it"
            )

    def volume_origin(self, volume_id: VolumeId) -> VolumeOrigin:
        """From DescribeVolumes and DescribeVolumeStatus."""
        session = self._context.session
        volume: Any = session.ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]
        snapshot = volume.get("SnapshotId") or volume.get("SourceVolumeId") or None
        if snapshot is None:
            return VolumeOrigin(None, None, complete=True, progress=None, remaining_seconds=None)
        found: Any = session.ec2.describe_volume_status(VolumeIds=[volume_id])["VolumeStatuses"]
        details = found[0].get("InitializationStatusDetails", {}) if found else {}
        whole = initialization(max(RATES), None, volume["Size"], self._context.prices.rates)
        percent, left = details.get("Progress"), details.get("EstimatedTimeToCompleteInSeconds")
        return VolumeOrigin(
            snapshot,
            volume.get("VolumeInitializationRate"),
            complete=percent == 100,
            progress=percent,
            remaining_seconds=left,
            rate_price=whole.price,
            rate_seconds=whole.takes.total_seconds() if whole.takes else None,
        )

    def volume_mibps(self, volume: Volume) -> float:
        """By its type's documented baseline."""
        return baseline_mibps(DiskShape(volume.type, volume.size_gib, volume.iops, volume.throughput))

    def machine_speeds(
        self, names: tuple[str, ...], zone: str | None, progress: Progress = SILENT
    ) -> tuple[MachineSpeed, ...]:
        """Baselines from DescribeInstanceTypes; a type that the region does not know is left out."""
        session = self._context.session
        progress.step("looking for a machine that is fast enough")
        # A filter, not a list of names: an unknown name in a list is an error.
        pages = session.ec2.get_paginator("describe_instance_types").paginate(
            Filters=[{"Name": "instance-type", "Values": list(names)}]
        )
        described = {str(item["InstanceType"]): item for page in pages for item in page["InstanceTypes"]}
        found = []
        for name in names:
            if name not in described or not self._is_offered(name, zone):
                continue
            price = self._context.prices.on_demand(name, progress)
            ebs, net = baselines(described[name])
            found.append(MachineSpeed(name, ebs, net, price))
        return tuple(found)

    def helpers(self, volume_id: VolumeId) -> tuple[Instance, ...]:
        """By their tag."""
        session = self._context.session
        items = describe(
            session.ec2,
            "describe_instances",
            {
                f"tag:{tag.OWNED}": [tag.OWNED_VALUE],
                f"tag:{tag.HELPER_FOR}": [volume_id],
                "instance-state-name": [*LIVE, "shutting-down"],
            },
        )
        found = [priced(self._context, item) for item in items]
        return tuple(sorted(found, key=lambda helper: helper.created_at, reverse=True))

    def plan_role(self, volume_id: VolumeId) -> tuple[str, str]:
        """Its name says whose it is."""
        name = helper_role.role_name(volume_id)
        return name, f"IAM role and instance profile {name}, which may read just that; deleted at the end"

    def ensure_role(self, name: str, policy: Mapping[str, Any], progress: Progress = SILENT) -> None:
        """Role, inline policy and profile."""
        helper_role.ensure(self._context.session, name, policy, self._context.clock, progress)

    def drop_role(self, name: str) -> None:
        """Role, inline policy and profile."""
        helper_role.drop(self._context.session, name)

    def machine_variables(self) -> Mapping[str, str]:
        """The address that stands in for AWS, where one does."""
        endpoint = self._context.session.endpoint
        return {"AWS_ENDPOINT_URL": endpoint} if endpoint else {}

    def _is_offered(self, name: str, zone: str | None) -> bool:
        return zone is None or zone in network.offered_zones(self._context.session, [name])[name]


def baselines(described: Mapping[str, Any]) -> tuple[float, float]:
    """MiB/s to EBS and of the network that an item of ``DescribeInstanceTypes`` promises for good. Pure."""
    ebs = described.get("EbsInfo", {}).get("EbsOptimizedInfo", {}).get("BaselineThroughputInMBps")
    cards = described.get("NetworkInfo", {}).get("NetworkCards", ())
    gbps = sum(float(card.get("BaselineBandwidthInGbps") or 0) for card in cards)
    return float(ebs or 40) * 1e6 / (1 << 20), (gbps or 0.25) * 1e9 / 8 / (1 << 20)


def _bucket_region(s3: Any, bucket: str) -> str:
    try:
        answer = s3.head_bucket(Bucket=bucket)
    except Exception as error:
        code = error_code(error)
        if code in {"404", "NoSuchBucket"}:
            raise NotFound(
                f"bucket {bucket} does not exist", hint="aws s3 ls shows yours", code="no-bucket"
            ) from error
        headers = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if headers.get("x-amz-bucket-region"):
            return str(headers["x-amz-bucket-region"])
        if code in {"403", "AccessDenied"}:
            raise PermissionDenied(
                f"you have no access to the bucket {bucket}",
                hint="s3:ListBucket on it is needed, to see in which region it is and how much there is",
            ) from error
        raise
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return str(answer.get("BucketRegion") or headers.get("x-amz-bucket-region") or s3.meta.region_name)


def _counted(s3: Any, bucket: str, prefix: str, region: str) -> StoredData:
    objects = size = 0
    for number, page in enumerate(
        s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix), 1
    ):
        for item in page.get("Contents", ()):
            if not prefix or item["Key"] == prefix or item["Key"].startswith(prefix + "/"):
                objects += 1
                size += item["Size"]
        if number >= MOST_PAGES and page.get("IsTruncated"):
            return StoredData(region, objects, size, whole=False)
    if not objects:
        source = f"s3://{bucket}/{prefix}".rstrip("/")
        raise NotFound(
            f"there is nothing in {source}", hint=f"check the name: aws s3 ls {source}/", code="nothing-there"
        )
    return StoredData(region, objects, size)
