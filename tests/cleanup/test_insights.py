from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from runctl.cleanup.facts import Facts, RunFact
from runctl.cleanup.insights import Insight, InsightKind, Measured, Usage, insights
from runctl.core.tags import PERSISTENT
from runctl.providers.abilities.inventory import Alternative, Measurement, Resource, ResourceKind
from tests.cleanup.resources import ME, NOW, a_resource

K, I = ResourceKind, InsightKind  # noqa: E741
WEEKS = timedelta(days=15)
RUN_ID = "run-0123456789"
MACHINE = a_resource(K.INSTANCE, "i-1", state="running", market="spot", type="m5.large", zone="us-east-1a")
DISK = a_resource(K.VOLUME, "vol-1", age=WEEKS)
OLD = a_resource(K.SNAPSHOT, "snap-1", source="vol-9", state="completed", age=WEEKS)
NEW = a_resource(K.SNAPSHOT, "snap-2", source="vol-9", state="completed", age=timedelta(days=9), name="newer")
OBJECTS = a_resource(K.OBJECTS, f"s3://b/{RUN_ID}/", name=RUN_ID, age=timedelta(days=40), size_bytes=9)
RUN = RunFact(RUN_ID, "i-1", frozenset({"vol-1"}), None, goes_on=False, unfinished=False)


def price(resource: Resource) -> Decimal | None:
    """USD a month."""
    if resource.kind is K.INSTANCE:
        return Decimal(30) if resource.market == "spot" else Decimal(100)
    return {"vol-root": Decimal(3), "unpriced": None}.get(resource.id, Decimal(2))


def found(*resources: Resource, measured: Measured | None = None, **facts: Any) -> list[Insight]:
    existing = {each.id: each for each in resources}
    known = Facts(users={"aws": ME}, existing=existing, **facts)
    return insights(resources, known, NOW, price, measured or Measured())


@pytest.mark.parametrize(
    ("resources", "facts", "kind", "saving", "command"),
    [
        ([MACHINE], {}, I.RUNS_LONG, "30", "runctl aws terminate i-1"),
        (
            [replace(MACHINE, market="on-demand", created_at=NOW)],
            {},
            I.ON_DEMAND,
            "70",
            "runctl aws create m5.large --zone us-east-1a --spot",
        ),
        (
            [
                replace(MACHINE, state="stopped"),
                a_resource(K.VOLUME, "vol-root", attached_to=("i-1",), ends_with="i-1"),
            ],
            {},
            I.STOPPED,
            "3",
            "runctl aws terminate i-1",
        ),
        (
            [replace(MACHINE, state="stopped")],
            {"cannot_stop": {"aws": "no machine can be stopped"}},
            I.STOPPED,
            "30",
            "runctl aws terminate i-1",
        ),
        ([DISK], {}, I.UNATTACHED, "2", "runctl resources cleanup vol-1 --include volumes"),
        ([OLD, NEW], {}, I.SUPERSEDED, "2", "runctl aws ebs snapshot-delete snap-1"),
        (
            [OBJECTS],
            {"runs": (RUN,)},
            I.OLD_RESULTS,
            "2",
            f"runctl resources cleanup s3://b/{RUN_ID}/ --include objects",
        ),
        (
            [replace(OBJECTS, checkpoints=4)],
            {"runs": (replace(RUN, unfinished=True),)},
            I.OLD_RESULTS,
            "1.5",
            f"runctl checkpoint prune {RUN_ID} --keep-last 1",
        ),
        (
            [replace(OBJECTS, checkpoints=8)],
            {"runs": (replace(RUN, unfinished=True, keep_last=3, keep_best=("best one.pt",)),)},
            I.OLD_RESULTS,
            "1",
            f"runctl checkpoint prune {RUN_ID} --keep-last 3 --keep-best 'best one.pt'",
        ),
        (
            [a_resource(K.IMAGE, "r@sha256:1", age=timedelta(days=40))],
            {},
            I.OLD_IMAGE,
            "2",
            "runctl resources cleanup r@sha256:1 --include images",
        ),
    ],
)
def test_what_could_be_had_for_less(
    resources: list[Resource], facts: dict[str, Any], kind: InsightKind, saving: str, command: str
) -> None:
    (insight,) = found(*resources, **facts)

    assert (insight.kind, insight.usd_per_month, insight.command) == (kind, Decimal(saving), command)


@pytest.mark.parametrize(
    ("resources", "facts"),
    [
        # Somebody else's is nobody's business.
        ([replace(MACHINE, owner="bob"), replace(DISK, owner="bob")], {}),
        ([MACHINE], {"runs": (replace(RUN, goes_on=True, unfinished=True),)}),
        ([replace(MACHINE, created_at=NOW)], {}),
        ([replace(DISK, created_at=NOW - timedelta(days=6))], {}),
        ([a_resource(age=WEEKS, tags={PERSISTENT: "true"})], {}),
        ([DISK], {"runs": (replace(RUN, unfinished=True),)}),
        ([replace(DISK, attached_to=("i-1",))], {}),
        ([OLD], {}),
        ([OLD, replace(NEW, source="vol-8")], {}),
        ([OLD, replace(NEW, region="eu-west-1")], {}),
        ([OLD, replace(NEW, state="pending")], {}),
        ([OBJECTS], {"runs": (replace(RUN, unfinished=True),)}),
        ([OBJECTS], {}),
        # As many checkpoints as are to stay.
        ([replace(OBJECTS, checkpoints=3)], {"runs": (replace(RUN, unfinished=True, keep_last=3),)}),
        ([replace(OBJECTS, checkpoints=2)], {"runs": (replace(RUN, unfinished=True, keep_best=("b.pt",)),)}),
    ],
)
def test_what_is_as_it_should_be_is_not_mentioned(resources: list[Resource], facts: dict[str, Any]) -> None:
    assert found(*resources, **facts) == []


def test_a_cheaper_type_is_advised_with_its_options_where_it_is_cheaper() -> None:
    attached = replace(DISK, attached_to=("i-1",))
    cheaper = Alternative("gp3 is as fast", ("--volume-type", "gp3"), Decimal("1.5"))
    dearer = replace(cheaper, usd_per_month=Decimal(2))

    (insight,) = found(attached, measured=Measured(alternatives={"vol-1": [cheaper, dearer]}))

    assert insight.usd_per_month == Decimal("0.5")
    assert insight.command == "runctl aws ebs resize vol-1 --volume-type gp3"


@pytest.mark.parametrize(
    ("usage", "kinds"),
    [
        (Usage(5.0, None), [I.OVERSIZED]),
        (Usage(5.0, 1.0), [I.IDLE_GPU]),
        (Usage(5.0, 80.0), []),
        (Usage(90.0, None), []),
        (Usage(None, None), []),
    ],
)
def test_what_a_run_uses_is_held_against_its_machine(usage: Usage, kinds: list[InsightKind]) -> None:
    running = replace(RUN, goes_on=True, unfinished=True)

    seen = found(MACHINE, measured=Measured(usage={"i-1": usage}), runs=(running,))

    assert [each.kind for each in seen] == kinds


SMALL = Alternative("m5.medium has half of it", ("m5.medium", "--spot"), Decimal(12), by_use=True)
QUIET = Measurement(hours=24, cpu_percent=1.0, highest_cpu_percent=3.0)
HALF = Measurement(hours=24, cpu_percent=20.0, highest_cpu_percent=39.0)


@pytest.mark.parametrize(
    ("measured", "kinds"),
    [
        (QUIET, [I.IDLE]),
        (HALF, [I.OVERSIZED]),
        (replace(HALF, highest_cpu_percent=41.0), []),
        # The processors of a machine with GPUs, and a short time, say nothing.
        (replace(QUIET, gpus=1), []),
        (replace(QUIET, hours=5), []),
        (Measurement(), []),
    ],
)
def test_a_machine_that_nobody_could_ask_is_judged_by_its_providers_measurements(
    measured: Measurement, kinds: list[InsightKind]
) -> None:
    machine = replace(MACHINE, created_at=NOW)

    seen = found(machine, measured=Measured(alternatives={"i-1": [SMALL]}, provider={"i-1": measured}))

    assert [each.kind for each in seen] == kinds


def test_a_smaller_machine_is_named_with_what_it_saves() -> None:
    machine = replace(MACHINE, created_at=NOW)
    measured = Measured(alternatives={"i-1": [SMALL]}, provider={"i-1": HALF})

    (insight,) = found(machine, measured=measured)

    assert (insight.usd_per_month, insight.command) == (Decimal(18), "runctl aws create m5.medium --spot")
    assert "39 % in the busiest hour" in insight.message


def test_a_run_that_answers_counts_for_more_than_what_is_measured_from_outside() -> None:
    running = replace(RUN, goes_on=True, unfinished=True)
    measured = Measured(usage={"i-1": Usage(350.0, None)}, provider={"i-1": QUIET})

    assert found(MACHINE, measured=measured, runs=(running,)) == []
    # Its machine is never called idle.
    (insight,) = found(MACHINE, measured=Measured(provider={"i-1": QUIET}), runs=(running,))
    assert insight.kind is I.OVERSIZED


def test_iops_that_nobody_needed_are_advised_away() -> None:
    fewer = Alternative("3,000 IOPS are enough", ("--iops", "3000"), Decimal("0.5"), by_use=True)

    (insight,) = found(
        replace(DISK, attached_to=("i-1",)), measured=Measured(alternatives={"vol-1": [fewer]})
    )

    assert (insight.kind, insight.usd_per_month) == (I.OVER_PROVISIONED, Decimal("1.5"))
    assert insight.command == "runctl aws ebs resize vol-1 --iops 3000"


@pytest.mark.parametrize(
    ("home", "command"),
    [
        ("us-east-1", "runctl aws terminate i-1 --region eu-west-1"),
        ("eu-west-1", "runctl aws terminate i-1"),
        (None, "runctl aws terminate i-1"),
    ],
)
def test_a_command_names_the_region_where_it_would_look_elsewhere(home: str | None, command: str) -> None:
    there = replace(MACHINE, region="eu-west-1")

    (insight,) = found(there, measured=Measured(regions={"aws": home}))

    assert insight.command == command


def test_the_largest_saving_comes_first_and_an_unknown_one_last() -> None:
    unpriced = a_resource(K.VOLUME, "unpriced", age=WEEKS)

    assert [each.resource.id for each in found(unpriced, DISK, MACHINE)] == ["i-1", "vol-1", "unpriced"]
