"""The commands that ``resources insights`` names are taken by the command line as they are written."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import click
import pytest

from runctl.cleanup.facts import Facts, RunFact
from runctl.cleanup.insights import Insight, InsightKind, Measured, Usage, insights
from runctl.providers.abilities.inventory import Alternative, Measurement, Resource, ResourceKind
from tests.cleanup.resources import ME, NOW, a_resource
from tests.cli.conftest import Invoke

K = ResourceKind
OLD = timedelta(days=40)
RUN_ID = "run-0123456789"


def a_machine(identifier: str, **changes: Any) -> Resource:
    values = {"state": "running", "market": "spot", "type": "m5.large", "zone": "eu-west-1a", **changes}
    return a_resource(K.INSTANCE, identifier, region="eu-west-1", **values)


def every_insight() -> list[Insight]:
    """One of each kind at least, as `insights` writes it."""
    volume, digest = "vol-0123456789abcdef0", f"sha256:{'0' * 64}"
    disk = a_resource(K.VOLUME, volume, age=OLD, region="eu-west-1")
    resources = [
        a_machine("i-0123456789abcdef0", age=OLD),
        a_machine("i-0123456789abcdef1", market="on-demand"),
        a_machine("i-0123456789abcdef2", state="stopped"),
        a_machine("i-0123456789abcdef3"),
        a_machine("i-0123456789abcdef4"),
        a_machine("i-0123456789abcdef5"),
        disk,
        replace(disk, id="vol-0123456789abcdef1", attached_to=("i-0123456789abcdef0",)),
        a_resource(K.SNAPSHOT, "snap-0123456789abcdef0", source=volume, state="completed", age=OLD),
        a_resource(K.SNAPSHOT, "snap-0123456789abcdef1", source=volume, state="completed"),
        a_resource(K.OBJECTS, f"s3://b/{RUN_ID}/", name=RUN_ID, age=OLD, size_bytes=9),
        a_resource(K.IMAGE, f"runctl/digits@{digest}", age=OLD),
    ]
    run = RunFact(RUN_ID, "i-0123456789abcdef3", frozenset(), None, goes_on=True, unfinished=True)
    ended = replace(run, instance_id="", goes_on=False, unfinished=False)
    little = Measurement(24, 1.0, 2.0)
    measured = Measured(
        usage={"i-0123456789abcdef3": Usage(1.0, 0.0)},
        alternatives={
            "i-0123456789abcdef5": [
                Alternative(
                    "m5.medium", ("m5.medium", "--zone", "eu-west-1a", "--spot"), Decimal(0), by_use=True
                )
            ],
            "vol-0123456789abcdef1": [
                Alternative(
                    "gp3", ("--volume-type", "gp3", "--iops", "3000", "--throughput", "125"), Decimal(0)
                ),
                Alternative("fewer", ("--iops", "3000"), Decimal(0), by_use=True),
            ],
        },
        provider={
            "i-0123456789abcdef4": little,
            "i-0123456789abcdef5": replace(little, highest_cpu_percent=30.0),
        },
        regions={"aws": "us-east-1"},
    )

    def monthly(resource: Resource) -> Decimal:
        return Decimal(1 if resource.market == "spot" else 2)

    found = []
    for runs in ((run,), (ended,)):
        facts = Facts(users={"aws": ME}, runs=runs, existing={each.id: each for each in resources})
        found += insights(resources, facts, NOW, monthly, measured)
    return found


def test_there_is_one_of_each_kind() -> None:
    assert {each.kind for each in every_insight()} == set(InsightKind)


@pytest.mark.parametrize("typed", sorted({each.command for each in every_insight()}))
def test_the_command_line_takes_it(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    reached: list[str] = []
    go_on = click.Command.invoke

    def carry_out(self: click.Command, ctx: click.Context) -> Any:
        if isinstance(self, click.Group):
            return go_on(self, ctx)
        reached.append(ctx.command_path)
        return 0

    monkeypatch.setattr(click.Command, "invoke", carry_out)
    program, *arguments = shlex.split(typed)

    done = invoke(*arguments)

    assert (program, done.exit_code, len(reached)) == ("runctl", 0, 1), done.stderr
