"""Machines are listed whole, priced in few calls, and only ours are ended."""

from __future__ import annotations

from typing import Any

import pytest

from runctl.core.errors import Conflict, NotFound, PermissionDenied
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.instance_plans import InstanceRequest


def make(provider: AwsProvider, **request: Any) -> Instance:
    return provider.renting.create(provider.renting.plan(InstanceRequest(**request)))


def calls_of(session: AwsSession) -> list[str]:
    seen: list[str] = []
    session.ec2.meta.events.register("before-call.ec2", lambda model, **_: seen.append(model.name))
    return seen


def test_a_listing_costs_two_calls_whatever_is_in_it(provider: AwsProvider, session: AwsSession) -> None:
    make(provider)
    make(provider, market=Market.SPOT, instance_type="t3.micro")
    make(provider, market=Market.SPOT, instance_type="t3.small")
    provider._context.prices._spot.clear()
    seen = calls_of(session)

    listed = provider.instances()

    assert len(listed) == 3
    assert all(instance.price_per_hour is not None for instance in listed)
    assert sorted(seen) == ["DescribeInstances", "DescribeSpotPriceHistory"]


def test_on_demand_machines_are_priced_without_any_call(provider: AwsProvider, session: AwsSession) -> None:
    make(provider)
    seen = calls_of(session)

    (instance,) = provider.instances()

    assert str(instance.price_per_hour) == "0.1008"
    assert seen == ["DescribeInstances"]


def test_every_page_is_read(
    provider: AwsProvider, session: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {make(provider).id for _ in range(7)}
    pages = 0

    def small_pages(params: dict[str, Any], **_: Any) -> None:
        nonlocal pages
        pages += 1
        params["MaxResults"] = 5

    session.ec2.meta.events.register("provide-client-params.ec2.DescribeInstances", small_pages)

    assert {instance.id for instance in provider.instances()} == ids
    assert pages == 2


@pytest.mark.parametrize(
    "wrong", ["i-0123456789abcdef0", "i-nonsense", "vol-0123456789abcdef0", "", "my-machine"]
)
def test_what_is_no_instance_is_not_found(provider: AwsProvider, wrong: str) -> None:
    with pytest.raises(NotFound):
        provider.instance(InstanceId(wrong))


def test_a_volumes_id_is_recognised_as_one(provider: AwsProvider) -> None:
    with pytest.raises(NotFound) as caught:
        provider.instance(InstanceId("vol-0123456789abcdef0"))

    assert "volume" in caught.value.hint


def test_a_machine_stops_and_starts(provider: AwsProvider) -> None:
    instance = make(provider)

    assert provider.stop_and_start.stop(instance.id).state in {InstanceState.STOPPING, InstanceState.STOPPED}
    assert provider.stop_and_start.stop(instance.id).state in {InstanceState.STOPPING, InstanceState.STOPPED}
    assert provider.stop_and_start.start(instance.id).state in {InstanceState.PENDING, InstanceState.RUNNING}
    assert provider.stop_and_start.start(instance.id).state in {InstanceState.PENDING, InstanceState.RUNNING}


def test_a_spot_machine_cannot_be_stopped_and_the_hint_says_what_can(provider: AwsProvider) -> None:
    instance = make(provider, market=Market.SPOT)

    with pytest.raises(Conflict) as caught:
        provider.stop_and_start.stop(instance.id)

    assert "terminate" in caught.value.hint


@pytest.mark.parametrize("verb", ["stop", "start"])
def test_a_machine_that_has_ended_does_neither(provider: AwsProvider, verb: str) -> None:
    instance = make(provider)
    provider.renting.terminate(instance.id)

    with pytest.raises(Conflict, match="ended"):
        getattr(provider.stop_and_start, verb)(instance.id)


@pytest.mark.parametrize("verb", ["terminate", "stop", "start"])
def test_others_machines_are_left_alone(provider: AwsProvider, session: AwsSession, verb: str) -> None:
    images: Any = session.ec2.describe_images(Owners=["amazon"])["Images"]
    created = session.ec2.run_instances(ImageId=images[0]["ImageId"], MinCount=1, MaxCount=1)["Instances"][0]

    with pytest.raises(PermissionDenied) as caught:
        getattr(provider.renting if verb == "terminate" else provider.stop_and_start, verb)(
            InstanceId(created["InstanceId"])
        )

    assert caught.value.code == "not-ours"
