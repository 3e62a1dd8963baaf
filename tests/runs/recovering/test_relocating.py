"""The run's volumes follow it from zone to zone, and only what the run itself has made is deleted on the way."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.spec import MountSpec, RunSpec
from runctl.core import tags as tag
from runctl.core.errors import Conflict, MachineError, NotFound, RunctlError, Unsupported
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Volume
from runctl.core.run_models import MovedVolume
from runctl.runs.recovering import relocating
from runctl.runs.recovering.relocating import bring_volumes, current_volume, tidy_up
from runctl.runs.stored.recipe import KeptVolume, Recipe
from runctl.testing.progress import RecordedProgress
from tests.cli.fake_provider import a_volume, an_instance

OWN = "vol-own"
OURS = {tag.OWNED: tag.OWNED_VALUE}


@dataclass
class Cloud:
    """Volumes in memory, and the runs of this computer."""

    volumes: dict[str, Volume] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)
    """The run that has made a volume."""
    runs: dict[str, Run] = field(default_factory=dict)

    def add(self, identifier: str, zone: str, tags: Mapping[str, str], **changes: Any) -> Volume:
        volume = a_volume(identifier, name=identifier, zone=zone, tags={**OURS, **tags}, **changes)
        self.volumes[identifier] = volume
        return volume

    def find(self, word: str) -> Volume:
        if word not in self.volumes:
            raise NotFound(f"volume {word} does not exist")
        return self.volumes[word]

    def list(self) -> tuple[Volume, ...]:
        return tuple(self.volumes.values())

    def tag(self, identifier: str, tags: Mapping[str, str], *, remove: Collection[str] = ()) -> None:
        known = self.volumes[identifier]
        now = {key: value for key, value in {**known.tags, **tags}.items() if key not in remove}
        self.volumes[identifier] = replace(known, tags=now)

    def delete(self, identifier: str, progress: object, *, include_protected: bool = False) -> None:
        begun = tag.COPY_FOR in self.volumes[identifier].tags
        assert include_protected or begun, "a copy is as persistent as what it is made of"
        self.deleted.append(identifier)
        self.volumes.pop(identifier)

    def by_volume(self) -> dict[str, str]:
        return {kept.volume_id: name for name, run in self.runs.items() for kept in run.recipe.volumes}

    def copy(self, run: str, source: Volume, zone: str, tags: Mapping[str, str]) -> Volume:
        identifier = f"vol-{len(self.made)}"
        self.made[identifier] = run
        return self.add(identifier, zone, tags)


class Run:
    """What `relocating` asks of a run that is recovered."""

    def __init__(self, cloud: Cloud, name: str = "run-a", *, read_only: bool = True) -> None:
        self.cloud, self.name, self.recipes = cloud, name, cloud
        self.read_only = read_only
        self.recipe = Recipe(RunSpec(name, "train.py"), "aws", None)
        self.has(OWN)
        self.record = SimpleNamespace(id=name, attempt=1)
        self.progress = RecordedProgress()
        self.session = SimpleNamespace(progress=self.progress, intents=name)
        filling = SimpleNamespace(volume_mibps=lambda _: 100_000.0)
        self.provider: Any = SimpleNamespace(name="aws", volumes=cloud, snapshots=object(), filling=filling)
        self.clock = None
        self.moved: list[MovedVolume] = []
        cloud.runs[name] = self

    def has(self, volume: str, *moved_from: str) -> None:
        """The volume that it was started with, or has come to."""
        mount = MountSpec("/mnt/data", "/data", self.read_only, volume, "--ebs-mount")
        spec = replace(self.recipe.spec, mounts=(mount,))
        self.recipe = replace(
            self.recipe, spec=spec, volumes=(KeptVolume(volume, "/mnt/data", self.read_only, moved_from),)
        )

    @property
    def kept(self) -> KeptVolume:
        (kept,) = self.recipe.volumes
        return kept

    def keep(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def volume_moved(self, moved: MovedVolume) -> None:
        self.moved.append(moved)

    def goes_to(self, zone: str, *, begins: bool = True) -> str:
        """The id of the volume that it has there."""
        run: Any = self
        with patch.object(relocating, "moving", self._moving), patch.object(relocating, "_filled", filled):
            bring_volumes(run, an_instance(zone=zone))
            if begins:
                tidy_up(run)
        volume = self.cloud.find(self.kept.volume_id)
        assert volume.zone == zone
        assert [mount.volume_id for mount in self.recipe.spec.mounts] == [volume.id]
        return str(volume.id)

    @contextmanager
    def _moving(self, intents: str, provider: Any, request: Any, **_: object) -> Iterator[Any]:
        """As `ebs move` does it: the copy has the tags, and the one before says where it is."""
        source = self.cloud.find(request.volume)

        def carry_out() -> Any:
            there = self.cloud.volumes.get(source.tags.get(tag.MOVED_TO, ""))
            if there is None or there.zone != request.zone:
                there = self.cloud.copy(intents, source, request.zone, tag.inherited(source.tags))
                self.cloud.tag(source.id, {tag.MOVED_TO: there.id})
            return SimpleNamespace(volume=there)

        yield SimpleNamespace(carry_out=carry_out)


def filled(run: Any, volume: Volume, zone: str, source: str) -> Volume:
    tags = {tag.FILLED_FROM: source, tag.FILLED_WITH: "all of it"}
    copy: Volume = run.cloud.copy(run.name, volume, zone, tags)
    return copy


def test_the_users_own_volume_is_not_deleted_when_the_run_has_come_back_to_it() -> None:
    cloud = Cloud()
    cloud.add(OWN, "a", {tag.CONTENT: "one"}, persistent=True)
    cloud.add("vol-replica", "b", {tag.CONTENT: "one", tag.REPLICA_OF: OWN})
    run = Run(cloud)

    seen = [run.goes_to(zone) for zone in ("b", "a", "b", "a", "b")]

    assert seen == ["vol-replica", OWN, "vol-replica", OWN, "vol-replica"]
    assert cloud.deleted == []
    assert run.kept == KeptVolume("vol-replica", "/mnt/data", read_only=True, moved_from=(OWN,))


def test_a_run_does_not_take_the_copy_of_another_run_for_a_replica_and_does_not_delete_it() -> None:
    cloud = Cloud()
    cloud.add(OWN, "a", {tag.CONTENT: "one"})
    first, second = Run(cloud, "run-a"), Run(cloud, "run-b")
    second.has("vol-replica")
    cloud.add("vol-replica", "b", {tag.CONTENT: "one", tag.REPLICA_OF: OWN})
    hers = first.goes_to("c")

    mine = second.goes_to("c")
    second.goes_to("d")

    assert mine != hers
    assert cloud.deleted == [mine]
    assert hers in cloud.volumes


def test_copies_of_a_run_are_deleted_once_the_next_is_in_use_unless_another_run_goes_on_with_them() -> None:
    cloud = Cloud()
    cloud.add(OWN, "a", {})
    run = Run(cloud)
    first = run.goes_to("b")
    other = Run(cloud, "run-b")
    assert other.goes_to("b") == first, "its own says where it was moved"

    second = run.goes_to("c")
    third = run.goes_to("d")

    assert cloud.deleted == [second]
    assert (
        f"{first}, an earlier copy of the run's volume, is still there and paid for (run-b goes on with it)"
        in ("\n".join(run.progress.warnings))
    )
    assert run.kept.moved_from == (OWN,)
    assert run.kept.volume_id == third
    assert run.kept.is_copy


def test_what_an_earlier_version_took_for_a_copy_is_kept_where_it_is_the_users_own() -> None:
    cloud = Cloud()
    cloud.add(OWN, "a", {})
    run: Any = Run(cloud)
    run.has(OWN, OWN, OWN)

    tidy_up(run)

    assert cloud.deleted == []


@pytest.mark.parametrize("read_only", [True, False])
def test_a_run_that_only_reads_goes_back_to_the_users_own_volume_when_its_replica_is_gone(
    read_only: bool,
) -> None:
    cloud = Cloud()
    cloud.add(OWN, "a", {tag.CONTENT: "one"})
    run: Any = Run(cloud, read_only=read_only)
    run.has("vol-gone", OWN)

    if not read_only:
        # It has written to what is gone, and its own lacks that.
        with pytest.raises(NotFound):
            current_volume(run, run.kept)
        return
    assert run.goes_to("a") == OWN
    assert run.progress.warnings == [
        f"vol-gone, which the run had last, is gone: it goes on with {OWN}",
    ]


def test_a_volume_that_the_run_writes_to_has_no_replica_to_go_on_with() -> None:
    cloud = Cloud()
    cloud.add(OWN, "a", {tag.CONTENT: "one"})
    cloud.add("vol-replica", "b", {tag.CONTENT: "one", tag.REPLICA_OF: OWN})
    run = Run(cloud, read_only=False)

    assert cloud.made[run.goes_to("b")] == run.name


@contextmanager
def filling(cloud: Cloud, refused: RunctlError | None = None) -> Iterator[list[Any]]:
    """What is filled anew is `vol-mine`, if nothing refuses to fill it; the requests for volumes, and for prewarms."""
    asked: list[Any] = []
    cloud.chosen_shape = lambda volume: volume  # type: ignore[attr-defined]

    @contextmanager
    def new_volume(_session: object, _provider: str, request: Any) -> Iterator[Any]:
        asked.append(request)
        made = cloud.add("vol-mine", request.zone, request.tags)
        yield SimpleNamespace(carry_out=lambda: made)

    class Prewarm:
        def __init__(self, *_: object, **__: object) -> None:
            """Nothing is asked of it but to fill."""

        def plan(self, request: Any) -> Any:
            asked.append(request)
            return SimpleNamespace(volume=request.volume)

        def carry_out(self, plan: Any) -> Any:
            if refused is not None:
                raise refused
            return plan

    with patch.object(relocating, "new_volume", new_volume), patch.object(relocating, "Prewarm", Prewarm):
        yield asked


def that_can_fill(cloud: Cloud) -> Any:
    run: Any = Run(cloud)
    run.store = run.provider.region = None
    run.session.rental_listeners = ()
    return run


def test_a_volume_that_another_run_fills_is_not_taken_for_the_runs_own() -> None:
    cloud = Cloud()
    own = cloud.add(OWN, "a", {tag.FILLED_FROM: "s3://data/all", tag.FILLED_WITH: "all of it"})
    hers = {tag.CREATED_FROM: OWN, tag.COPY_FOR: "run-b"}
    cloud.add("vol-hers", "b", hers)
    run = that_can_fill(cloud)

    with filling(cloud) as asked:
        first = relocating._filled(run, own, "b", "s3://data/all")
        # As after a process that was killed while it was filled.
        again = relocating._filled(run, own, "b", "s3://data/all")

    assert first is not None
    assert again is not None
    assert (first.id, again.id) == ("vol-mine", "vol-mine")
    made, filled_once, filled_again = asked
    assert made.tags == {tag.CREATED_FROM: OWN, tag.COPY_FOR: "run-a"}
    assert filled_once == filled_again
    assert filled_once.listing == "all of it"


@pytest.mark.parametrize(
    "refused",
    [
        MachineError("it is not the same", code="source-changed"),
        NotFound("it is empty", code="nothing-there"),
        Conflict("it is larger than the volume", code="disk-full"),
    ],
)
def test_a_volume_follows_itself_where_what_it_was_filled_from_has_changed(refused: RunctlError) -> None:
    cloud = Cloud()
    noted = {tag.FILLED_FROM: "s3://data/all", tag.FILLED_WITH: "all of it"}
    cloud.add(OWN, "a", noted)
    run = that_can_fill(cloud)

    with filling(cloud, refused), patch.object(relocating, "moving", run._moving):
        bring_volumes(run, an_instance(zone="b"))

    assert cloud.deleted == ["vol-mine"], "the one that was begun"
    assert run.kept.volume_id == "vol-0"
    assert not noted.keys() & cloud.find("vol-0").tags.keys()
    assert run.moved[0].filled_from is None
    assert "s3://data/all no longer has what vol-own was filled with" in str(run.progress.warnings)


def test_a_volume_that_cannot_be_filled_for_another_reason_does_not_follow() -> None:
    cloud = Cloud()
    cloud.add(OWN, "a", {tag.FILLED_FROM: "s3://data/all", tag.FILLED_WITH: "all of it"})
    run = that_can_fill(cloud)

    with (
        filling(cloud, MachineError("it is slow", code="stalled")),
        pytest.raises(MachineError, match="slow"),
    ):
        bring_volumes(run, an_instance(zone="b"))

    assert (cloud.deleted, run.kept.volume_id) == ([], OWN)


ZONES = st.sampled_from(["a", "b", "c", "d"])


@given(
    steps=st.lists(st.tuples(st.sampled_from(["run-a", "run-b"]), ZONES, st.booleans()), max_size=12),
    replicas=st.sets(st.sampled_from(["b", "c"])),
    source=st.sampled_from([None, "s3://data/all"]),
    snapshots=st.booleans(),
    written=st.sets(st.sampled_from(["run-a"])),
)
def test_however_runs_go_from_zone_to_zone_each_deletes_only_what_it_has_made_itself(
    steps: list[tuple[str, str, bool]],
    replicas: set[str],
    source: str | None,
    snapshots: bool,
    written: set[str],
) -> None:
    cloud = Cloud()
    cloud.add(
        OWN,
        "a",
        {tag.CONTENT: "one", **({tag.FILLED_FROM: source, tag.FILLED_WITH: "all of it"} if source else {})},
    )
    for zone in replicas:
        cloud.add(f"vol-replica-{zone}", zone, {tag.CONTENT: "one", tag.REPLICA_OF: OWN})
    theirs = set(cloud.volumes)
    runs = {name: Run(cloud, name, read_only=name not in written) for name in ("run-a", "run-b")}
    if not snapshots:
        for run in runs.values():
            run.provider.snapshots = Unsupported("there are none")

    for name, zone, begins in steps:
        before = len(cloud.deleted)
        runs[name].goes_to(zone, begins=begins)
        gone = cloud.deleted[before:]
        assert {cloud.made.get(each) for each in gone} <= {name}
        assert len(set(gone)) == len(gone)

    assert theirs <= set(cloud.volumes)
    assert all(run.kept.volume_id in cloud.volumes for run in runs.values())
    assert InstanceId(OWN) not in cloud.deleted
    assert VolumeId(OWN) in cloud.volumes
