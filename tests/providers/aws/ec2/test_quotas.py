"""Which types the account may not have one more of."""

from __future__ import annotations

import pytest

from runctl.core.errors import QuotaExceeded
from runctl.core.machine_models import Market
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ec2.images import InstanceType
from runctl.providers.aws.ec2.quotas import Quota, beyond_quota, quota_of
from runctl.providers.instance_plans import InstanceRequest

SPOT, ON_DEMAND = Market.SPOT, Market.ON_DEMAND


@pytest.mark.parametrize(
    ("kind", "market", "code"),
    [
        ("m7i.large", ON_DEMAND, "L-1216C47A"),
        ("im4gn.large", SPOT, "L-34B43A08"),
        ("g5.xlarge", SPOT, "L-3819A6DF"),
        ("gr6.4xlarge", ON_DEMAND, "L-DB2E81BA"),
        ("vt1.3xlarge", ON_DEMAND, "L-DB2E81BA"),
        ("p4d.24xlarge", SPOT, "L-7212CCBC"),
        ("p5.48xlarge", SPOT, "L-C4BD4855"),
        ("p5.48xlarge", ON_DEMAND, "L-417A185B"),
        ("trn1.2xlarge", SPOT, "L-6B0D517C"),
        ("inf2.xlarge", SPOT, "L-B5D1601B"),
        ("dl1.24xlarge", SPOT, "L-85EED4F7"),
        ("d3.xlarge", SPOT, "L-34B43A08"),
        ("hpc7a.96xlarge", ON_DEMAND, None),
        ("u-6tb1.metal", ON_DEMAND, None),
    ],
)
def test_every_type_counts_against_the_quota_of_its_kind(kind: str, market: Market, code: str | None) -> None:
    found = quota_of(kind, market)

    assert (found.code if found else None) == code


@pytest.mark.parametrize(
    ("limit", "used", "beyond"), [(8, 0, set()), (8, 1, {"g5.2xlarge"}), (8, 5, {"g5.xlarge", "g5.2xlarge"})]
)
def test_a_type_is_beyond_the_quota_when_its_cpus_are_not_free(
    limit: int, used: int, beyond: set[str]
) -> None:
    types = [
        InstanceType(name, "x86_64", "nvidia", spot=True, vcpus=vcpus)
        for name, vcpus in (("g5.xlarge", 4), ("g5.2xlarge", 8))
    ]
    quota = quota_of("g5.xlarge", SPOT)
    assert quota is not None

    found = beyond_quota(types, SPOT, {quota: limit}, {quota: used, Quota("L-other", "other"): 99})

    assert set(found) == beyond
    assert all(f"{limit - used} of 8 are free" in reason for reason in found.values())
    assert beyond_quota(types, SPOT, {}, {quota: 99}) == {}


def test_what_runs_counts_and_what_cannot_be_looked_up_does_not_keep_from_launching(
    provider: AwsProvider, session: AwsSession
) -> None:
    image = provider.renting.plan(InstanceRequest()).image
    session.ec2.run_instances(ImageId=image, InstanceType="m5.xlarge", MinCount=1, MaxCount=1)

    def small(**_: object) -> object:
        answer = type("Answer", (), {"status_code": 200, "headers": {}, "content": b"{}"})()
        return answer, {"Quota": {"Value": 5.0}}

    session.quotas.meta.events.register("before-call.service-quotas.GetServiceQuota", small)

    with pytest.raises(QuotaExceeded, match="it has 2 vCPUs, and 1 of 5 are free") as caught:
        provider.renting.plan(InstanceRequest("m7i.large"))

    assert "servicequotas" in caught.value.hint
