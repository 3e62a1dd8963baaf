"""What CloudWatch has measured, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.providers.abilities.inventory import Measurement, Resource, ResourceKind
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.inventory import measuring
from runctl.providers.aws.inventory.inventory import AwsInventory
from runctl.providers.aws.inventory.measuring import Query, enough, measurements, queries, smaller_type
from tests.aws_fixtures import Refuse
from tests.cleanup.resources import a_resource

K = ResourceKind
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
MACHINE = a_resource(K.INSTANCE, "i-1", state="running", type="m5.large", market="on-demand")
DISK = a_resource(
    K.VOLUME, "vol-1", type="gp3", size_bytes=500 << 30, iops=9000, throughput=125, attached_to=("i-1",)
)


@pytest.fixture
def inventory(provider: object) -> AwsInventory:
    found = getattr(provider, "inventory")  # noqa: B009 - an ability
    assert isinstance(found, AwsInventory)
    return found


def test_only_what_runs_or_is_attached_is_asked_for() -> None:
    assert queries([replace(MACHINE, state="stopped"), replace(DISK, attached_to=())]) == []
    assert [each.metric for each in queries([MACHINE, DISK])] == [
        "CPUUtilization",
        "VolumeReadOps",
        "VolumeWriteOps",
    ]


def test_reads_and_writes_of_the_same_minutes_count_together() -> None:
    read, write = queries([DISK])
    cpu = Query("i-1", "AWS/EC2", "CPUUtilization", "InstanceId", 3600, "Average")
    series = {
        read: {NOON: 3000.0, NOON + timedelta(minutes=5): 600_000.0},
        write: {NOON: 3000.0, NOON + timedelta(minutes=5): 300_000.0},
        cpu: {NOON: 2.0, NOON + timedelta(hours=1): 6.0},
        replace(cpu, resource_id="i-2"): {},
    }

    assert measurements(series) == {
        "vol-1": Measurement(hours=1, most_iops=3000.0),
        "i-1": Measurement(hours=2, cpu_percent=4.0, highest_cpu_percent=6.0),
    }


@pytest.mark.parametrize(
    ("volume", "most", "iops"),
    [
        (DISK, 100.0, 3000),
        (DISK, 2049.0, 4100),
        (DISK, 4500.0, None),
        # So many MiB/s need so many IOPS.
        (replace(DISK, throughput=1000), 100.0, 4000),
        (replace(DISK, type="io2"), 10.0, 500),
        (replace(DISK, type="gp2", iops=1500), 10.0, None),
        (DISK, None, None),
    ],
)
def test_a_volume_keeps_twice_what_it_needed(volume: Resource, most: float | None, iops: int | None) -> None:
    shape = enough(volume, Measurement(hours=24, most_iops=most))

    assert (None if shape is None else shape.iops) == iops


@pytest.mark.parametrize(("hours", "is_enough"), [(0, False), (5, False), (6, True)])
def test_a_volume_that_was_measured_for_a_short_time_is_left_as_it_is(hours: int, is_enough: bool) -> None:
    assert (enough(DISK, Measurement(hours=hours, most_iops=10.0)) is not None) is is_enough


@pytest.mark.parametrize("status", ["InternalError", "Forbidden", "PartialData"])
def test_what_cloudwatch_does_not_tell_wholly_is_no_measurement(
    inventory: AwsInventory, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    other = replace(DISK, id="vol-2")

    def result(number: int, status: str, *values: float) -> dict[str, Any]:
        times = [NOON + timedelta(minutes=5 * each) for each in range(len(values))]
        return {"Id": f"m{number}", "StatusCode": status, "Timestamps": times, "Values": list(values)}

    pages = [
        # The volume's reads are there, its writes are not; the other one's are completed by the next page.
        {
            "MetricDataResults": [
                result(0, "Complete", 300.0),
                result(1, status),
                result(2, "Complete", 300.0),
            ]
        },
        {"MetricDataResults": [result(3, "PartialData", 300.0)]},
        {"MetricDataResults": [result(3, "Complete", 300.0)]},
    ]
    paginator = SimpleNamespace(paginate=lambda **_: pages)
    cloudwatch = SimpleNamespace(get_paginator=lambda _: paginator)
    asked: Any = SimpleNamespace(cloudwatch=cloudwatch, endpoint=None)
    monkeypatch.setattr(inventory, "session_in", lambda _: asked)
    monkeypatch.setattr(measuring, "with_gpus", lambda *_: ())

    answer = inventory.measurements([DISK, other], NOON)

    assert answer.found == {"vol-2": Measurement(hours=1, most_iops=2.0)}
    (unread,) = answer.unread
    assert (unread.what, unread.reason, unread.code) == (
        "measurements of vol-1",
        f"CloudWatch says {status}",
        "incomplete",
    )


@pytest.mark.parametrize(
    ("name", "smaller"),
    [
        ("m5.xlarge", "m5.large"),
        ("c7i.2xlarge", "c7i.xlarge"),
        ("t3.medium", None),
        ("m5.24xlarge", None),
        ("m5.metal", None),
    ],
)
def test_half_a_machine_is_of_the_same_family(name: str, smaller: str | None) -> None:
    assert smaller_type(name) == smaller


def test_what_cloudwatch_has_is_read_and_what_it_does_not_tell_is_said(
    session: AwsSession, inventory: AwsInventory, refuse: Refuse
) -> None:
    now = datetime.now(UTC)
    for hours, percent in ((2, 4.0), (30, 90.0)):
        session.cloudwatch.put_metric_data(
            Namespace="AWS/EC2",
            MetricData=[
                {
                    "MetricName": "CPUUtilization",
                    "Dimensions": [{"Name": "InstanceId", "Value": "i-1"}],
                    "Timestamp": now - timedelta(hours=hours),
                    "Value": percent,
                }
            ],
        )
    with_gpu = replace(MACHINE, id="i-2", type="g4dn.xlarge")

    answer = inventory.measurements([MACHINE, with_gpu, DISK], now)

    assert answer.unread == ()
    assert answer.found == {
        "i-1": Measurement(hours=1, cpu_percent=4.0, highest_cpu_percent=4.0),
        "i-2": Measurement(gpus=1),
    }
    refuse(session.cloudwatch, "GetMetricData", "AccessDenied")
    (unread,) = inventory.measurements([MACHINE], now).unread
    assert (unread.what, unread.code) == ("measurements", "permission")


def test_alternatives_to_a_machine_and_to_a_volume_are_priced(inventory: AwsInventory) -> None:
    (half,) = inventory.alternatives(replace(MACHINE, type="m5.xlarge", zone="us-east-1a"))
    (fewer,) = inventory.alternatives(DISK, Measurement(hours=24, most_iops=10.0))

    assert half.options == ("m5.large", "--zone", "us-east-1a", "--on-demand")
    assert (fewer.options, fewer.by_use) == (("--iops", "3000"), True)
    # 6,000 IOPS above what is included, at 0.005 USD a month each.
    assert fewer.usd_per_month == Decimal("40.00")
