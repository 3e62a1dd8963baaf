"""Which changes of a volume EC2 would take, decided before it is asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.core import tags as tag
from runctl.core.clock import rfc3339
from runctl.core.errors import Conflict, PermissionDenied, UsageError
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Volume
from runctl.providers.abilities.volume_plans import Modification, ResizePlan, ResizeRequest, VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ebs.modifications import MOST_PER_DAY, decide_resize
from runctl.providers.aws.prices.shipped import shipped_rates
from tests.aws_fixtures import Refuse
from tests.cli.fake_provider import a_volume

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
UNDER_WAY = Modification("optimizing", 40, 200, "gp3", 3000, 125, NOW)


def decide(
    request: ResizeRequest, volume: Volume | None = None, latest: Modification | None = None
) -> ResizePlan:
    return decide_resize(volume or a_volume(), request, latest, NOW, shipped_rates("us-east-1"))


def modified(*hours_ago: float) -> Volume:
    times = " ".join(rfc3339(NOW - timedelta(hours=h)) for h in sorted(hours_ago, reverse=True))
    return a_volume(tags={tag.OWNED: tag.OWNED_VALUE, tag.MODIFICATIONS: times})


def test_a_larger_volume_keeps_the_rest_and_says_what_it_costs() -> None:
    plan = decide(ResizeRequest(size_gib=200))
    assert (plan.size_gib, plan.type, plan.iops, plan.throughput) == (200, "gp3", 3000, 125)
    assert plan.changes == ("size 100 → 200 GiB",)
    assert plan.price_before is not None
    assert plan.price_after is not None
    assert plan.price_after.usd - plan.price_before.usd == Decimal(8)
    assert any("cannot be undone" in warning for warning in plan.warnings)


def test_a_volume_does_not_shrink() -> None:
    with pytest.raises(UsageError, match="do not shrink"):
        decide(ResizeRequest(size_gib=99))


def test_what_is_so_already_is_no_change() -> None:
    assert decide(ResizeRequest(size_gib=100, type="gp3", iops=3000)).changes == ()


@pytest.mark.parametrize(
    ("volume", "request_", "shape"),
    [
        # A gp2 volume's IOPS come with its size: nobody chose them, and gp3 has its own.
        (a_volume(type="gp2", iops=300, throughput=None), ResizeRequest(type="gp3"), ("gp3", 3000, 125)),
        (a_volume(iops=6000, throughput=500), ResizeRequest(type="sc1", size_gib=125), ("sc1", None, None)),
        (a_volume(), ResizeRequest(type="io2"), ("io2", 3000, None)),
        (a_volume(), ResizeRequest(throughput=1000), None),
        (a_volume(), ResizeRequest(throughput=1000, iops=4000), ("gp3", 4000, 1000)),
    ],
)
def test_type_and_performance_change_within_the_limits(
    volume: Volume, request_: ResizeRequest, shape: tuple[Any, ...] | None
) -> None:
    if shape is None:
        with pytest.raises(UsageError, match="at least 4000 IOPS"):
            decide(request_, volume)
        return
    plan = decide(request_, volume)
    assert (plan.type, plan.iops, plan.throughput) == shape


def test_the_change_that_is_under_way_is_taken_up() -> None:
    plan = decide(ResizeRequest(size_gib=200), a_volume(size_gib=200), UNDER_WAY)
    assert (plan.changes, plan.pending) == ((), UNDER_WAY)


def test_another_change_has_to_wait_for_it() -> None:
    with pytest.raises(Conflict, match="40 % done") as refused:
        decide(ResizeRequest(size_gib=300), a_volume(size_gib=200), UNDER_WAY)
    assert refused.value.code == "modifying"


def test_a_completed_change_is_not_in_the_way() -> None:
    over = replace(UNDER_WAY, state="completed", progress=100)
    assert decide(ResizeRequest(size_gib=300), a_volume(size_gib=200), over).changes


def test_the_fifth_change_of_a_day_waits_for_the_first_to_be_a_day_old() -> None:
    with pytest.raises(Conflict) as refused:
        decide(ResizeRequest(size_gib=200), modified(23, 20, 10, 1))
    assert refused.value.code == "modification-limit"
    assert "2026-05-01T13:00:00Z" in refused.value.hint


@given(st.lists(st.floats(0, 72), max_size=6))
def test_only_the_changes_of_the_last_day_count(hours: list[float]) -> None:
    volume = modified(*hours)
    recent = [h for h in (round(h * 3600) / 3600 for h in hours) if h < 24]
    try:
        plan = decide(ResizeRequest(size_gib=200), volume)
    except Conflict:
        assert len(recent) >= MOST_PER_DAY
    else:
        assert plan.modifications_today <= MOST_PER_DAY - 1


def make(provider: AwsProvider, **changes: Any) -> Volume:
    wanted = VolumeRequest(**{"size_gib": 1, "zone": "us-east-1a", **changes})
    return provider.volumes.create(provider.volumes.plan(wanted))


def test_changes_are_counted_in_a_tag(provider: AwsProvider) -> None:
    volume = make(provider)
    for size in (2, 3):
        provider.resizing.resize(provider.resizing.plan(volume.id, ResizeRequest(size_gib=size)))
    assert provider.resizing.plan(volume.id, ResizeRequest(size_gib=4)).modifications_today == 2


@pytest.mark.parametrize(
    ("code", "ours"),
    [
        ("VolumeModificationRateExceeded", "modification-limit"),
        ("IncorrectModificationState", "modifying"),
    ],
)
def test_what_ec2_knows_better_is_said_in_our_words(
    provider: AwsProvider, session: AwsSession, refuse: Refuse, code: str, ours: str
) -> None:
    plan = provider.resizing.plan(make(provider).id, ResizeRequest(size_gib=2))
    refuse(session.ec2, "ModifyVolume", code)
    with pytest.raises(Conflict) as refused:
        provider.resizing.resize(plan)
    assert refused.value.code == ours


def test_a_volume_of_somebody_else_is_not_changed(provider: AwsProvider, session: AwsSession) -> None:
    theirs = session.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    with pytest.raises(PermissionDenied) as refused:
        provider.resizing.plan(theirs, ResizeRequest(size_gib=2))
    assert refused.value.code == "not-ours"
    with pytest.raises(PermissionDenied):
        provider.volumes.tag(VolumeId(theirs), {"a": "b"})
