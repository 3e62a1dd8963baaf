"""What is judged by the absence of its users stays where these could not be listed, or were not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from runctl.cleanup.eligibility import KeptBecause
from runctl.cleanup.facts import Facts, Include
from runctl.cleanup.plan import plan_cleanup
from runctl.cleanup.unseen import unseen_users
from runctl.core.tags import HELPER_FOR, INTENT, MOVE, NODE, RUN
from runctl.providers.abilities.inventory import Resource, ResourceKind, Unread
from tests.cleanup.resources import ME, NOW, a_resource

K = ResourceKind
HERE, THERE = "us-east-1", "eu-west-1"
FACTS = Facts(users={"aws": ME}, include=frozenset(Include), older_than=timedelta(0))
TEMPLATE = a_resource(K.LAUNCH_TEMPLATE, "lt-1", region=HERE)
ROLE = a_resource(K.ROLE, "runctl-run", region=None, tags={RUN: "run-0123456789"})
PROFILE = replace(ROLE, kind=K.INSTANCE_PROFILE)
SHARED_ROLE = a_resource(K.ROLE, "runctl-instance", region=None, owner=None)
HELPERS_ROLE = a_resource(
    K.ROLE, "runctl-prewarm-vol-1", region=None, helper_for="vol-1", tags={HELPER_FOR: "vol-1"}
)
NETWORK = a_resource(K.SECURITY_GROUP, "sg-1", region=HERE, tags={INTENT: "t"})
SNAPSHOT = a_resource(K.SNAPSHOT, "snap-1", region=HERE, tags={MOVE: "m"})
NODE_COPY = a_resource(K.VOLUME, "vol-2", region=HERE, tags={NODE: "t/1/vol-1"})


def unread(*kinds: ResourceKind, region: str | None = HERE, provider: str = "aws") -> Unread:
    return Unread(provider, region, "some things", "it was throttled", "throttled", kinds)


def kept(resource: Resource, facts: Facts) -> KeptBecause | None:
    plan = plan_cleanup([resource], facts, NOW, lambda _: Decimal(0), facts.unread)
    return plan.keep[0].kept if plan.keep else None


@pytest.mark.parametrize(
    ("resource", "kind"),
    [
        (TEMPLATE, K.GROUP),
        (PROFILE, K.INSTANCE),
        (PROFILE, K.GROUP),
        (ROLE, K.GROUP),
        (SHARED_ROLE, K.INSTANCE_PROFILE),
        (HELPERS_ROLE, K.INSTANCE),
        (NETWORK, K.INSTANCE),
        (replace(NETWORK, kind=K.PLACEMENT_GROUP), K.GROUP),
        (SNAPSHOT, K.VOLUME),
        (NODE_COPY, K.INSTANCE),
    ],
)
def test_what_may_have_users_that_nobody_could_list_stays(resource: Resource, kind: ResourceKind) -> None:
    region = resource.region or THERE

    assert kept(resource, FACTS) is None
    assert kept(resource, replace(FACTS, unread=(unread(kind, region=region),))) is KeptBecause.UNKNOWN
    # One that does not say of which kinds it is may be of any.
    assert kept(resource, replace(FACTS, unread=(unread(region=region),))) is KeptBecause.UNKNOWN
    assert kept(resource, replace(FACTS, unread=(unread(K.IMAGE, region=region),))) is None
    assert kept(resource, replace(FACTS, unread=(unread(kind, region=region, provider="x"),))) is None


@pytest.mark.parametrize("resource", [TEMPLATE, NETWORK, SNAPSHOT, NODE_COPY])
def test_another_region_has_no_users_of_it(resource: Resource) -> None:
    everything = unread(region=THERE)

    assert kept(resource, replace(FACTS, unread=(everything,), region=HERE)) is None


@pytest.mark.parametrize("resource", [ROLE, PROFILE, SHARED_ROLE, HELPERS_ROLE])
def test_what_the_whole_account_may_use_stays_where_one_region_was_looked_at(resource: Resource) -> None:
    why = unseen_users(resource, replace(FACTS, region=THERE))

    assert THERE in why
    assert kept(resource, replace(FACTS, region=THERE)) is KeptBecause.UNKNOWN


def test_why_it_stays_is_told() -> None:
    told = unseen_users(TEMPLATE, replace(FACTS, unread=(unread(K.GROUP),)))

    assert told == "what uses it cannot be read (some things in us-east-1): it was throttled"
