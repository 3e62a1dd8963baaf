"""What CloudWatch has measured of machines and volumes in the last day, and what they could be instead.

Sources: "List the available CloudWatch metrics for your instances" (EC2 User Guide), "Amazon CloudWatch metrics for
Amazon EBS" (EBS User Guide), and the GetMetricData page of the CloudWatch API reference. It measures neither memory
nor GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core.errors import RunctlError
from runctl.providers.abilities.inventory import MEASURED_HOURS, Measurement, Resource, ResourceKind
from runctl.providers.abilities.volume_plans import DiskShape
from runctl.providers.aws.calls.errors import our_errors
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ebs.type_table import TYPES
from runctl.providers.aws.ec2.images import describe_instance_types

DAY = timedelta(days=1)
HOUR_SECONDS, BUSY_SECONDS = 3600, 300
MOST_QUERIES = 500
"""Of one GetMetricData."""
SPARE = 2
"""So many times what the busiest minutes needed is kept of a volume's IOPS."""
_STEP = 100
_COMPLETE = "Complete"
_SIZES = ("medium", "large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge", "32xlarge")
"""Each is half of the next one in every family that has both."""


@dataclass(frozen=True)
class Query:
    """One series of numbers."""

    resource_id: str
    namespace: str
    metric: str
    dimension: str
    seconds: int
    stat: str

    def as_aws(self, number: int) -> dict[str, Any]:
        """As GetMetricData takes it."""
        dimensions = [{"Name": self.dimension, "Value": self.resource_id}]
        metric = {"Namespace": self.namespace, "MetricName": self.metric, "Dimensions": dimensions}
        return {
            "Id": f"m{number}",
            "MetricStat": {"Metric": metric, "Period": self.seconds, "Stat": self.stat},
        }


def queries(resources: Sequence[Resource]) -> list[Query]:
    """What is asked of the machines that run and the volumes that are attached. Pure."""
    found = []
    for each in resources:
        if each.kind is ResourceKind.INSTANCE and each.state == "running":
            found.append(Query(each.id, "AWS/EC2", "CPUUtilization", "InstanceId", HOUR_SECONDS, "Average"))
        elif each.kind is ResourceKind.VOLUME and each.attached_to:
            found += [
                Query(each.id, "AWS/EBS", metric, "VolumeId", BUSY_SECONDS, "Sum")
                for metric in ("VolumeReadOps", "VolumeWriteOps")
            ]
    return found


Series = Mapping[Query, Mapping[datetime, float]]


def read(session: AwsSession, asked: Sequence[Query], now: datetime) -> tuple[Series, Mapping[str, str]]:
    """The numbers of the last day, by their times, of the resources of which CloudWatch has told all; and what it said
    instead of the others, by their ids. Raises what it answers, as ours."""
    found: dict[Query, dict[datetime, float]] = {query: {} for query in asked}
    said: dict[Query, str] = {}
    with our_errors(session.endpoint):
        for first in range(0, len(asked), MOST_QUERIES):
            part = asked[first : first + MOST_QUERIES]
            pages = session.cloudwatch.get_paginator("get_metric_data").paginate(
                MetricDataQueries=[query.as_aws(number) for number, query in enumerate(part)],
                StartTime=now - DAY,
                EndTime=now,
            )
            for page in pages:
                for result in page["MetricDataResults"]:
                    query = part[int(result["Id"][1:])]
                    found[query].update(zip(result["Timestamps"], result["Values"], strict=True))
                    # What one page has in part, a later one completes.
                    said[query] = result.get("StatusCode", _COMPLETE)
    untold = {query.resource_id: status for query, status in said.items() if status != _COMPLETE}
    return {query: values for query, values in found.items() if query.resource_id not in untold}, untold


def measurements(series: Series) -> dict[str, Measurement]:
    """What the numbers say of each; nothing of what has none. Pure."""
    found: dict[str, Measurement] = {}
    operations: dict[str, dict[datetime, float]] = {}
    for query, values in series.items():
        if not values:
            continue
        if query.metric == "CPUUtilization":
            found[query.resource_id] = Measurement(
                len(values), sum(values.values()) / len(values), max(values.values())
            )
            continue
        both = operations.setdefault(query.resource_id, {})
        for moment, number in values.items():
            both[moment] = both.get(moment, 0.0) + number
    for volume, numbers in operations.items():
        hours = len({moment.replace(minute=0, second=0, microsecond=0) for moment in numbers})
        found[volume] = Measurement(hours, most_iops=max(numbers.values()) / BUSY_SECONDS)
    return found


def with_gpus(
    session: AwsSession, resources: Sequence[Resource], found: Mapping[str, Measurement]
) -> Iterator[tuple[str, Measurement]]:
    """Each machine's measurement with the GPUs that it has, or other accelerators; of one that is not known, none."""
    machines = {each.id: each.type for each in resources if each.kind is ResourceKind.INSTANCE and each.type}
    try:
        with our_errors(session.endpoint):
            types = {
                each.name: each
                for each in describe_instance_types(session, sorted(set(filter(None, machines.values()))))
            }
    except RunctlError:
        types = {}
    for machine, name in machines.items():
        kind = types.get(name or "")
        gpus = 0 if kind is None else max(kind.gpu_count, int(kind.accelerator is not None))
        yield machine, replace(found.get(machine, Measurement()), gpus=gpus)


def smaller_type(name: str) -> str | None:
    """The type of the same family with half of the processors and the memory; ``None``: none is sure to be. Pure."""
    family, _, size = name.partition(".")
    position = _SIZES.index(size) if size in _SIZES else 0
    return f"{family}.{_SIZES[position - 1]}" if position else None


def enough(volume: Resource, measured: Measurement | None) -> DiskShape | None:
    """The same volume with as many IOPS as it needs; ``None``: it has no more, or was not measured for long. Pure."""
    disk = TYPES.get(volume.type or "")
    if disk is None or disk.iops is None or volume.iops is None or volume.size_bytes is None:
        return None
    if measured is None or measured.most_iops is None or measured.hours < MEASURED_HOURS:
        return None
    # A gp3 volume has so many for each MiB/s that it moves; see `checked_shape`.
    for_throughput = 4 * (volume.throughput or 0)
    needed = math.ceil(measured.most_iops * SPARE / _STEP) * _STEP
    wanted = max(disk.iops[0], needed, for_throughput)
    if wanted >= volume.iops:
        return None
    return DiskShape(volume.type or "", volume.size_bytes >> 30, wanted, volume.throughput)
