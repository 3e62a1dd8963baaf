from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from runctl.cleanup.eligibility import KeptBecause
from runctl.cleanup.facts import Facts, Include
from runctl.cleanup.plan import plan_cleanup, plan_stop, wave_of
from runctl.core.tags import MOVE, PERSISTENT, RUN
from runctl.providers.abilities.inventory import Resource, ResourceKind
from tests.cleanup.resources import ME, NOW, a_resource

K = ResourceKind
GROUP = a_resource(K.GROUP, "g", state="active", tags={RUN: "run-0123456789"})
OF_GROUP = a_resource(K.INSTANCE, "i-group", state="running", market="spot", ends_with="g")
MACHINE = a_resource(K.INSTANCE, "i-1", state="running", market="on-demand")
SPOT = a_resource(K.INSTANCE, "i-2", state="running", market="spot")
ROOT = a_resource(K.VOLUME, "vol-root", attached_to=("i-1",), ends_with="i-1")
DISK = a_resource(K.VOLUME, "vol-1", attached_to=("i-1",))
PROFILE = a_resource(K.INSTANCE_PROFILE, "runctl-instance", owner=None, source="runctl-instance")
ROLE = a_resource(K.ROLE, "runctl-instance", owner=None, attached_to=("runctl-instance",))
OBJECT = a_resource(K.OBJECTS, "s3://b/staging/x", state="staged", owner=None)
BUCKET = a_resource(K.BUCKET, "b", owner=None, attached_to=("s3://b/staging/x",))
ALL = [BUCKET, ROLE, DISK, ROOT, OBJECT, PROFILE, MACHINE, OF_GROUP, GROUP]


def facts(*, include: frozenset[Include] = frozenset(Include), resources: list[Resource] = ALL) -> Facts:
    existing = {each.id: each for each in resources}
    return Facts(users={"aws": ME}, existing=existing, include=include)


def one_dollar(_resource: Resource) -> Decimal:
    return Decimal(1)


def test_everything_goes_in_the_order_of_its_dependencies() -> None:
    plan = plan_cleanup(ALL, facts(), NOW, one_dollar)

    assert [[each.id for each in wave] for wave in plan.waves] == [
        ["g"],
        ["i-1"],
        ["vol-1", "s3://b/staging/x", "runctl-instance"],
        ["runctl-instance", "b"],
    ]
    assert {item.resource.id: item.kept for item in plan.keep} == {
        "vol-root": KeptBecause.GOES_ALONG,
        "i-group": KeptBecause.GOES_ALONG,
    }
    # What goes along is saved too.
    assert plan.usd_per_month == Decimal(9)


def test_what_is_used_by_what_stays_stays() -> None:
    included = frozenset(Include) - {Include.INSTANCES}

    plan = plan_cleanup(ALL, facts(include=included), NOW, one_dollar)

    kept = {item.resource.id: item.kept for item in plan.keep}
    assert kept["vol-1"] is KeptBecause.IN_USE
    assert kept["i-1"] is KeptBecause.WANTED


def test_what_is_not_chosen_still_uses_what_is() -> None:
    plan = plan_cleanup([BUCKET], facts(), NOW, one_dollar)

    assert [(item.resource.id, item.kept) for item in plan.keep] == [("b", KeptBecause.IN_USE)]


def test_a_snapshot_of_a_move_goes_with_the_volumes_of_the_move() -> None:
    volume = a_resource(K.VOLUME, "vol-1", tags={MOVE: "m"})
    snapshot = a_resource(K.SNAPSHOT, "snap-1", tags={MOVE: "m"})
    resources = [snapshot, volume]

    plan = plan_cleanup(resources, facts(resources=resources), NOW, one_dollar)

    assert [item.resource.id for item in plan.remove] == ["vol-1", "snap-1"]


def test_every_kind_has_its_turn() -> None:
    assert {wave_of(kind) for kind in ResourceKind} == {0, 1, 2, 3, 4}


def test_stopping_all_stops_what_can_be_stopped_and_ends_the_rest() -> None:
    stopped = replace(MACHINE, id="i-3", state="stopped")
    persistent = a_resource(K.INSTANCE, "i-4", state="running", market="spot", tags={PERSISTENT: "true"})
    others = replace(MACHINE, id="i-5", owner="bob")
    resources = [*ALL, SPOT, stopped, persistent, others]

    end, stop = plan_stop(resources, facts(resources=resources), one_dollar)

    assert [item.resource.id for item in end.remove] == ["g", "i-2"]
    assert [item.resource.id for item in stop.remove] == ["i-1"]
    assert {item.resource.id: item.kept for item in end.keep} == {
        "i-3": KeptBecause.WANTED,
        "i-4": KeptBecause.PERSISTENT,
        "i-5": KeptBecause.NOT_YOURS,
        "i-group": KeptBecause.GOES_ALONG,
    }


def test_what_stopping_means_is_the_providers_affair() -> None:
    vm, pod = replace(MACHINE, id="vm", provider="x"), replace(MACHINE, id="pod", provider="y")
    known = replace(
        facts(),
        users={"aws": ME, "x": ME, "y": ME},
        cannot_stop={"x": "no machine of x can be stopped"},
        loses_disks=frozenset({"y"}),
    )

    end, stop = plan_stop([MACHINE, vm, pod], known, one_dollar)

    assert {item.resource.id: item.why for item in stop.remove} == {
        "i-1": "it can be started again; its disks stay, and cost",
        "pod": "it can be started again; what is on its own disk is lost",
    }
    assert [(item.resource.id, item.why) for item in end.keep] == [
        ("vm", "no machine of x can be stopped; --end ends it")
    ]
    assert [item.resource.id for item in plan_stop([vm, pod], known, one_dollar, end=True)[0].remove] == [
        "pod",
        "vm",
    ]
    # Where none can be stopped, one that is has shut itself down and may be billed; the other costs nothing.
    shut = [replace(each, state="stopped") for each in (vm, pod)]
    assert [item.resource.id for item in plan_stop(shut, known, one_dollar, end=True)[0].remove] == ["vm"]


def test_stopping_all_for_good_ends_each() -> None:
    end, stop = plan_stop([MACHINE, SPOT, DISK], facts(), one_dollar, end=True)

    assert [item.resource.id for item in end.remove] == ["i-1", "i-2"]
    assert stop.remove == ()


def test_age_is_asked_of_each() -> None:
    young = replace(MACHINE, created_at=NOW - timedelta(minutes=5))

    plan = plan_cleanup([young, DISK], facts(resources=[young, DISK]), NOW, one_dollar)

    assert plan.remove == ()
    assert [item.kept for item in plan.keep] == [KeptBecause.TOO_YOUNG, KeptBecause.IN_USE]
