"""Replicas are made of what nobody writes to meanwhile, and none that somebody may need is deleted for a new one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from runctl.core import tags as tag
from runctl.core.errors import Conflict
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Volume, VolumeState
from runctl.machines import replicas
from runctl.machines.replicas import ReplicasPlan, plan_replicas, replicate
from runctl.testing.progress import RecordedProgress
from tests.cli.fake_provider import a_snapshot, a_volume

OURS = {tag.OWNED: tag.OWNED_VALUE}
MACHINE = InstanceId("i-1")


class Cloud:
    """Volumes and snapshots in memory; ``meanwhile`` is called after each of their calls, with its name."""

    def __init__(self) -> None:
        self.known: dict[str, Volume] = {}
        self.taken: list[Any] = []
        self.deleted: list[str] = []
        self.meanwhile: Callable[[str], None] = lambda _: None
        self.progress = RecordedProgress()
        snapshots = SimpleNamespace(
            list=lambda: tuple(self.taken), delete=self.forget, wait=lambda identifier, _: self.taken[0]
        )
        self.cloud = SimpleNamespace(name="aws", volumes=self, snapshots=snapshots)

    def provider(self, _: str) -> Any:
        return self.cloud

    def add(self, identifier: str, zone: str, tags: Mapping[str, str], **changes: Any) -> Volume:
        self.known[identifier] = a_volume(
            identifier, zone=zone, tags={**OURS, **tags}, name=identifier, **changes
        )
        return self.known[identifier]

    def attached(self, identifier: str) -> None:
        known = self.known[identifier]
        self.known[identifier] = replace(known, instances=(MACHINE,), state=VolumeState.IN_USE)

    def find(self, word: str) -> Volume:
        return self.known[word]

    def list(self) -> tuple[Volume, ...]:
        return tuple(self.known.values())

    def plan(self, _: object) -> Any:
        return SimpleNamespace(price=None)

    def chosen_shape(self, volume: Volume) -> Volume:
        return volume

    def tag(self, identifier: str, tags: Mapping[str, str], *, remove: Collection[str] = ()) -> None:
        known = self.known[identifier]
        now = {key: value for key, value in {**known.tags, **tags}.items() if key not in remove}
        self.known[identifier] = replace(known, tags=now)
        self.meanwhile("tag")

    def delete(self, identifier: str, _: object, *, include_protected: bool = False) -> None:
        assert not include_protected
        self.deleted.append(identifier)
        del self.known[identifier]

    def forget(self, identifier: str, _: object, *, include_protected: bool) -> None:
        assert include_protected
        self.taken = [each for each in self.taken if each.id != identifier]

    @contextmanager
    def new_snapshot(self, _session: object, _provider: str, request: Any, **_: object) -> Iterator[Any]:
        def carry_out() -> Any:
            self.taken.append(a_snapshot(tags={**OURS, **request.tags}))
            self.meanwhile("snapshot")
            return self.taken[-1]

        yield SimpleNamespace(carry_out=carry_out)

    @contextmanager
    def new_volume(self, _session: object, _provider: str, request: Any) -> Iterator[Any]:
        def carry_out() -> Volume:
            assert request.name not in self.known, "a name is given once"
            made = self.add(request.name, request.zone, request.tags)
            self.meanwhile("volume")
            return made

        yield SimpleNamespace(carry_out=carry_out)

    def planned(self, *zones: str, runs: Mapping[str, str] | None = None) -> ReplicasPlan:
        session: Any = self
        return plan_replicas(session, "aws", "own", zones, runs=runs or {})

    def replicate(self, plan: ReplicasPlan) -> Sequence[str]:
        session: Any = self
        with (
            patch.object(replicas, "new_snapshot", self.new_snapshot),
            patch.object(replicas, "new_volume", self.new_volume),
        ):
            return [str(each.id) for each in replicate(session, "aws", plan)]


@pytest.fixture
def cloud() -> Cloud:
    made = Cloud()
    made.add("own", "a", {})
    return made


def written(cloud: Cloud, identifier: str = "own") -> None:
    """Somebody has mounted it for writing, and let go of it again."""
    cloud.tag(identifier, {}, remove=tag.GONE_WITH_WRITING)


def test_a_replica_that_is_out_of_date_and_has_nothing_of_its_own_is_made_anew(cloud: Cloud) -> None:
    (first,) = cloud.replicate(cloud.planned("b"))
    assert cloud.replicate(cloud.planned("b")) == [first]
    old = cloud.known[first].tags[tag.CONTENT]
    written(cloud)

    plan = cloud.planned("b")
    assert [each.id for each in plan.outdated] == [first]
    assert cloud.replicate(plan) == [first]

    assert cloud.deleted == [first]
    assert cloud.known[first].tags[tag.CONTENT] == cloud.known["own"].tags[tag.CONTENT] != old
    assert cloud.taken == []


@pytest.mark.parametrize("what", ["written", "persistent", "attached", "named"])
def test_a_replica_that_somebody_may_need_is_named_and_not_deleted(cloud: Cloud, what: str) -> None:
    (replica,) = cloud.replicate(cloud.planned("b"))
    written(cloud)
    runs = {}
    if what == "written":
        written(cloud, replica)
        said = ("may have data of its own", f"runctl aws ebs delete {replica}; then again")
    elif what == "persistent":
        cloud.known[replica] = replace(cloud.known[replica], persistent=True)
        said = ("is marked persistent", f"runctl aws ebs delete {replica} --include-protected; then again")
    elif what == "attached":
        cloud.attached(replica)
        said = ("is attached to i-1", f"runctl aws ebs detach {replica}; then again")
    else:
        runs = {replica: "run-aaaa"}
        said = ("is what run-aaaa goes on with", "runctl runs stop run-aaaa; then again")

    with pytest.raises(Conflict) as refused:
        cloud.planned("b", "c", runs=runs)

    assert refused.value.code == "replica-needed"
    assert f"{replica} in b lacks what was written to own since, and {said[0]}" in refused.value.message
    assert refused.value.hint.endswith(said[1])
    assert cloud.deleted == []


def test_a_replica_that_was_written_to_after_the_question_is_not_deleted(cloud: Cloud) -> None:
    (replica,) = cloud.replicate(cloud.planned("b"))
    written(cloud)
    plan = cloud.planned("b")
    written(cloud, replica)

    with pytest.raises(Conflict, match="may have data of its own"):
        cloud.replicate(plan)

    assert cloud.deleted == []


def test_a_replica_that_a_run_reads_is_there_already(cloud: Cloud) -> None:
    (replica,) = cloud.replicate(cloud.planned("b"))
    cloud.attached(replica)

    assert cloud.planned("b").is_done


def test_a_volume_that_was_attached_since_the_plan_was_made_is_not_taken_for_unwritten(cloud: Cloud) -> None:
    plan = cloud.planned("b")
    # Its content was taken off when it was mounted, and only then did it get one.
    cloud.attached("own")

    with pytest.raises(Conflict, match="was mounted for writing while it was to be replicated"):
        cloud.replicate(plan)

    assert tag.CONTENT not in cloud.known["own"].tags
    assert (cloud.taken, set(cloud.known)) == ([], {"own"})


@pytest.mark.parametrize("when", ["snapshot", "volume"])
@pytest.mark.parametrize("how", [written, Cloud.attached])
def test_a_volume_that_may_be_written_to_while_it_is_replicated_has_no_replica(
    cloud: Cloud, when: str, how: Callable[..., None]
) -> None:
    def meanwhile(call: str) -> None:
        if call == when:
            how(cloud, "own")

    plan = cloud.planned("b")
    cloud.meanwhile = meanwhile

    with pytest.raises(Conflict, match="was mounted for writing"):
        cloud.replicate(plan)

    assert tag.CONTENT not in cloud.known["own"].tags
    assert cloud.taken == []


def test_replicas_that_were_there_are_not_named_where_the_volume_was_written_to_since_the_plan(
    cloud: Cloud,
) -> None:
    cloud.replicate(cloud.planned("b"))
    plan = cloud.planned("b")
    assert plan.is_done
    written(cloud)

    with pytest.raises(Conflict, match="was mounted for writing"):
        cloud.replicate(plan)


def test_a_volume_that_is_only_read_meanwhile_is_replicated_where_it_was_known_before(cloud: Cloud) -> None:
    cloud.replicate(cloud.planned("b"))
    plan = cloud.planned("c")
    cloud.attached("own")

    assert cloud.replicate(plan) == ["own-replica-in-c"]
