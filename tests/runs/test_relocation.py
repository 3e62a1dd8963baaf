"""Whether volumes follow a run to another zone, how, and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.spec import MountSpec, RunSpec
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Volume, VolumeState
from runctl.core.tags import CONTENT, FILLED_FROM, FILLED_WITH, OWNED, OWNED_VALUE, REPLICA_OF
from runctl.machines.replicas import same_data
from runctl.runs.recovering.relocating import with_volume
from runctl.runs.relocation import (
    USUAL_OUTAGE,
    Refill,
    VolumeInUse,
    Way,
    is_due,
    plan_relocation,
    plan_relocations,
    refill_of,
    relocation_text,
)
from runctl.runs.stored.recipe import KeptVolume, Recipe
from tests.cli.fake_provider import a_volume

OURS = {OWNED: OWNED_VALUE}
SMALL = a_volume("vol-1", name="results", zone="us-east-1a", size_gib=1, tags=OURS)
LARGE = a_volume("vol-2", name="datasets", zone="us-east-1a", size_gib=1000, tags=OURS)


def test_a_small_volume_follows_at_once_and_a_large_one_when_as_long_was_waited_as_that_takes() -> None:
    small = plan_relocation([VolumeInUse(SMALL, read_only=False)])
    large = plan_relocation([VolumeInUse(SMALL, read_only=False), VolumeInUse(LARGE, read_only=True)])

    assert small.seconds == 66
    assert is_due(small, timedelta())
    assert large.seconds == 66 + 6060
    assert timedelta(seconds=large.seconds) > USUAL_OUTAGE
    assert not is_due(large, timedelta(seconds=6125))
    assert is_due(large, timedelta(seconds=6126))
    assert relocation_text(large) == (
        "without a machine in us-east-1a, volumes follow to another zone: results by snapshot, datasets by snapshot,"
        " in about 102 min"
    )


def test_a_volume_that_is_only_read_is_filled_from_its_object_store_where_that_is_sooner() -> None:
    tags = {**OURS, FILLED_FROM: "s3://mine/data", FILLED_WITH: "digest"}
    refill = refill_of(replace(LARGE, tags=tags), mibps=2000.0)
    assert refill == Refill("s3://mine/data", 90 + 512.0)
    assert refill_of(LARGE, mibps=2000.0) is None
    # Whether that is all of it, an older runctl did not ask.
    older = {**OURS, FILLED_FROM: "s3://mine/data"}
    assert refill_of(replace(LARGE, tags=older), mibps=2000.0) is None

    (filled,) = plan_relocation([VolumeInUse(LARGE, read_only=True, refill=refill)]).moves
    (written,) = plan_relocation([VolumeInUse(LARGE, read_only=False, refill=refill)]).moves
    (slower,) = plan_relocation([VolumeInUse(SMALL, read_only=True, refill=refill)]).moves

    assert (filled.way, filled.seconds, filled.source) == (Way.REFILL, 602.0, "s3://mine/data")
    assert written.way is slower.way is Way.SNAPSHOT


@pytest.mark.parametrize(
    ("volume", "zone", "no_snapshots", "why_not"),
    [
        (SMALL, "us-east-1a", "", "us-east-1a was asked for by name"),
        (replace(SMALL, tags={}), None, "", "results was not created by runctl"),
        (
            SMALL,
            None,
            "this provider has no snapshots",
            "results cannot be copied: this provider has no snapshots",
        ),
    ],
)
def test_volumes_that_cannot_follow_stay_for_a_reason(
    volume: object, zone: str | None, no_snapshots: str, why_not: str
) -> None:
    used = VolumeInUse(volume, read_only=False)  # type: ignore[arg-type]
    (found,) = plan_relocations([used], named_zone=zone, no_snapshots=no_snapshots)

    assert (found.moves, found.why_not) == ((), why_not)
    assert not is_due(found, timedelta(days=1))
    assert relocation_text(found) == f"volumes stay in their zone: {why_not}"


def test_a_run_without_volumes_has_nothing_that_could_follow() -> None:
    (found,) = plan_relocations([], named_zone="us-east-1a")
    assert not is_due(found, timedelta(days=1))


def a_replica(zone: str, **changes: Any) -> Volume:
    tags = {**OURS, CONTENT: "one", REPLICA_OF: "vol-2"}
    return replace(
        LARGE, id=VolumeId(f"vol-{zone}"), name=f"datasets-{zone}", zone=zone, tags=tags, **changes
    )


def test_what_has_the_same_data_and_is_free_is_a_replica() -> None:
    source = replace(LARGE, tags={**OURS, CONTENT: "one"})
    free, other = a_replica("us-east-1b"), replace(a_replica("us-east-1c"), tags={CONTENT: "two"})
    others = [source, free, other, a_replica("us-east-1d", instances=(InstanceId("i-1"),))]
    others.append(a_replica("us-east-1e", state=VolumeState.DELETING))

    assert same_data(source, others) == (free,)
    assert same_data(LARGE, others) == (), "somebody may have written to it"


def test_a_replica_and_what_it_names_stand_in_for_each_other_and_other_copies_for_nobody() -> None:
    source = replace(LARGE, tags={**OURS, CONTENT: "one"})
    b, c = a_replica("us-east-1b"), a_replica("us-east-1c")
    a_runs = replace(source, id=VolumeId("vol-copy"), zone="us-east-1d")
    others = [source, b, c, a_runs]

    assert same_data(source, others) == (b, c)
    assert same_data(b, others) == (source, c)
    assert same_data(a_runs, others) == (source, b, c)


def test_zones_with_replicas_come_first_and_one_of_each_volume_is_the_soonest() -> None:
    b, c = a_replica("us-east-1b"), a_replica("us-east-1c")
    datasets = VolumeInUse(LARGE, read_only=True, replicas=(c, b))
    more = VolumeInUse(replace(LARGE, id=VolumeId("vol-3"), name="more"), read_only=True, replicas=(c,))
    results = VolumeInUse(SMALL, read_only=False)

    found = plan_relocations([datasets, more, results])

    assert [(each.to, each.seconds) for each in found] == [
        ("us-east-1c", 10 + 10 + 66),
        ("us-east-1b", 10 + 6060 + 66),
        (None, 6060 + 6060 + 66),
    ]
    assert [each.replica for each in found[0].moves] == [c, c, None]
    assert relocation_text(found[0]) == (
        "without a machine in us-east-1a, volumes follow to us-east-1c: datasets by its replica datasets-us-east-1c,"
        " more by its replica datasets-us-east-1c, results by snapshot, in about 1 min"
    )
    assert is_due(found[0], timedelta())
    assert not is_due(found[1], timedelta())
    # Where nothing but replicas can take a volume's place, its zones are the only ones.
    (only,) = plan_relocations([VolumeInUse(LARGE, True, replicas=(b,))], no_snapshots="there are none")
    assert only.to == "us-east-1b"


@given(
    replicas=st.lists(st.lists(st.sampled_from(["b", "c", "d"]), unique=True), max_size=4),
    snapshots=st.booleans(),
)
def test_no_other_way_to_a_zone_is_sooner(replicas: list[list[str]], snapshots: bool) -> None:
    used = [
        VolumeInUse(LARGE, read_only=True, replicas=tuple(a_replica(zone) for zone in zones))
        for zones in replicas
    ]
    no_snapshots = "" if snapshots else "there are none"

    found = plan_relocations(used, no_snapshots=no_snapshots)

    assert found
    there = [each for each in found if each.to is not None]
    assert [each.seconds for each in there] == sorted(each.seconds for each in there)
    for each in there:
        for move, zones in zip(each.moves, replicas, strict=True):
            assert (move.way is Way.REPLICA) == (each.to in zones)
    assert snapshots or not used or all(each.why_not or each.to for each in found)


def test_the_recipe_names_the_new_volume_everywhere_and_remembers_the_old_one() -> None:
    mounts = tuple(
        MountSpec(f"/mnt/{name}", f"/{name}", False, volume, "--ebs-mount")
        for name, volume in (("results", "vol-1"), ("other", "vol-3"))
    )
    volumes = tuple(KeptVolume(volume, f"/mnt/{volume}", False) for volume in ("vol-1", "vol-3"))
    recipe = Recipe(RunSpec("run-aaaa", "train.py", mounts=mounts), "aws", None, volumes=volumes)

    moved = with_volume(recipe, "vol-1", volumes[0].replaced_by("vol-9", is_copy=True))

    assert [mount.volume_id for mount in moved.spec.mounts] == ["vol-9", "vol-3"]
    assert moved.volumes == (
        KeptVolume("vol-9", "/mnt/vol-1", False, ("vol-1",), is_copy=True),
        KeptVolume("vol-3", "/mnt/vol-3", False),
    )
    assert VolumeId("vol-9") == moved.volumes[0].volume_id
