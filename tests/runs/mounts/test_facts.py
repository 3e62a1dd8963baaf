"""What a plan of mounts is decided by: what is asked, of whom, and what happens when nobody answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import AttemptStatus, EndRecord, MachineMount, MountSpec, RunState
from runctl.containers.mounts import parse_mount
from runctl.core.database import Database
from runctl.core.errors import Conflict, NotFound, PermissionDenied, Unreachable
from runctl.core.ids import RunId, VolumeId
from runctl.core.machine_models import AttachedVolume, Instance, InstanceState, Mount, VolumeState
from runctl.core.run_models import RunPhase
from runctl.providers.abilities.volume_plans import Modification
from runctl.providers.interface import require
from runctl.runs.mounts.facts import gather_mount_facts, provided_volumes, sharer
from runctl.runs.mounts.plan import MountFacts
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import RunStore
from runctl.testing.progress import RecordedProgress
from tests.cli.fake_provider import (
    INSTANCE_ID,
    OTHER_ID,
    VOLUME_ID,
    FakeProvider,
    Script,
    a_volume,
    an_instance,
)

ELSEWHERE = a_volume(attached_to=OTHER_ID, state=VolumeState.IN_USE)
WRITING = AttemptStatus(
    "run-there", 1, RunState.RUNNING, "there.py", mounts=(MountSpec("/mnt/d", "/data", False, VOLUME_ID),)
)


class Machine:
    """An agent that says what a test scripted."""

    def __init__(
        self, *attempts: AttemptStatus, mounts: tuple[MachineMount, ...] = (), silent: bool = False
    ) -> None:
        self._attempts, self._mounts, self._silent = attempts, mounts, silent

    def mounts(self, provided: Mapping[str, str] | None) -> tuple[MachineMount, ...]:
        return self._mounts

    def attempts(self, **_: Any) -> tuple[AttemptStatus, ...]:
        if self._silent:
            raise Unreachable("it does not answer")
        return self._attempts


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(Database(tmp_path / "state.db"))


@pytest.fixture
def script() -> Script:
    return Script(
        {"volume": a_volume(), "modification": None, "instance": an_instance(OTHER_ID, project="vision")}
    )


def look(
    script: Script, store: RunStore, *texts: str, here: Machine | None = None, **more: Any
) -> MountFacts:
    machines: dict[str, Any] = {INSTANCE_ID: here or Machine(), OTHER_ID: more.pop("there", None)}
    besides: tuple[str, ...] = more.pop("besides", ())

    def agent_on(instance: Instance) -> Any:
        assert machines[instance.id] is not None, "nobody is to ask that machine"
        return machines[instance.id]

    return gather_mount_facts(
        [parse_mount(text) for text in texts],
        besides=besides,
        instance=an_instance(volumes=()),
        agent=machines[INSTANCE_ID],
        provider=FakeProvider(script),
        store=store,
        agent_on=agent_on,
        progress=RecordedProgress(),
    )


def a_record(**changes: Any) -> RunRecord:
    record = RunRecord(
        id=RunId("run-known"),
        provider="aws",
        region=None,
        instance_id=OTHER_ID,
        project="p",
        script="known.py",
        args=(),
        state=RunPhase.RUNNING,
        attempt=1,
        created_at=datetime(2026, 5, 1, tzinfo=UTC),
        mounts=(Mount("/mnt/d", "/data", False, VolumeId(VOLUME_ID), "config"),),
    )
    return replace(record, **changes)


def test_without_volumes_the_provider_is_not_asked(script: Script, store: RunStore) -> None:
    found = look(script, store)

    assert (found.volumes, found.sharers, script.calls) == ({}, [], [])


@pytest.mark.parametrize(("by_provider", "provided"), [(False, None), (True, {"/mnt/data": VOLUME_ID})])
def test_the_agent_is_told_of_volumes_that_the_provider_mounts(
    script: Script, by_provider: bool, provided: dict[str, str] | None
) -> None:
    provider = FakeProvider(script)
    require(provider.volumes).chosen_at_creation = by_provider
    mounted = AttachedVolume(VolumeId(VOLUME_ID), "/dev/sdf", "/mnt/data")
    root = AttachedVolume(VolumeId("vol-root"), "/dev/xvda")

    assert provided_volumes(provider, an_instance(volumes=(root, mounted))) == provided


def test_a_volume_is_known_by_the_word_and_by_its_id(script: Script, store: RunStore) -> None:
    found = look(script, store, "datasets:/data", besides=("datasets",))

    assert set(found.volumes) == {"datasets", VOLUME_ID}
    assert script.names() == ["volume", "modification"]


@pytest.mark.parametrize(("state", "told"), [("optimizing", True), ("completed", False)])
def test_a_change_that_is_under_way_is_told(script: Script, store: RunStore, state: str, told: bool) -> None:
    script.answers["modification"] = Modification(
        state, 3, 2, None, None, None, datetime(2026, 5, 1, tzinfo=UTC)
    )

    assert look(script, store, "datasets:/data").changing == ({VOLUME_ID: state} if told else {})


def test_an_account_that_may_not_ask_for_changes_is_told_of_none(script: Script, store: RunStore) -> None:
    script.answers["modification"] = PermissionDenied("ec2:DescribeVolumesModifications")

    assert look(script, store, "datasets:/data").changing == {}


@pytest.mark.parametrize(
    "error", [NotFound("no volume"), Conflict("2 volumes are named so", code="ambiguous-name")]
)
def test_a_name_that_none_or_several_have_is_refused(
    script: Script, store: RunStore, error: Exception
) -> None:
    script.answers["volume"] = error

    with pytest.raises(type(error)):
        look(script, store, "datasets:/data")


def test_a_mounted_volume_that_the_provider_has_no_more_is_gone(script: Script, store: RunStore) -> None:
    script.answers["volume"] = NotFound("it was deleted")
    mounted = MachineMount("/mnt/d", "/dev/x", VOLUME_ID, "ext4", 1, 1)

    found = look(script, store, here=Machine(mounts=(mounted,)))

    assert (list(found.mounted), dict(found.volumes)) == ([mounted], {})
    assert found.gone == {VOLUME_ID}


@pytest.mark.parametrize(("attached_to", "gone"), [(None, {VOLUME_ID}), (INSTANCE_ID, set())])
def test_a_mounted_volume_that_is_not_attached_is_gone(
    script: Script, store: RunStore, attached_to: Any, gone: set[str]
) -> None:
    script.answers["volume"] = a_volume(attached_to=attached_to)
    mounted = MachineMount("/mnt/d", "/dev/x", VOLUME_ID, "ext4", 1, 1)

    assert look(script, store, here=Machine(mounts=(mounted,))).gone == gone


def test_an_account_that_may_not_look_at_volumes_can_use_what_is_mounted(
    script: Script, store: RunStore
) -> None:
    script.answers["volume"] = PermissionDenied("ec2:DescribeVolumes")
    mounted = MachineMount("/mnt/d", "/dev/x", VOLUME_ID, "ext4", 1, 1)

    assert look(script, store, here=Machine(mounts=(mounted,))).gone == frozenset()


def test_runs_on_the_machine_are_those_that_have_not_ended(script: Script, store: RunStore) -> None:
    ended = replace(WRITING, run_id="run-over", end=EndRecord(EndReason.COMPLETED, 0.0))
    reading = replace(WRITING, run_id="run-reads", mounts=(replace(WRITING.mounts[0], read_only=True),))

    found = look(script, store, "datasets:/data", here=Machine(WRITING, ended, reading))

    assert [(run.run_id, sorted(run.writes)) for run in found.sharers] == [
        ("run-there", [VOLUME_ID]),
        ("run-reads", []),
    ]
    assert sharer(replace(WRITING, mounts=())) is None


def test_whoever_has_the_volume_is_asked_what_runs_there(script: Script, store: RunStore) -> None:
    script.answers["volume"] = ELSEWHERE
    store.put(a_record())

    holder = look(script, store, "datasets:/data", there=Machine(WRITING)).holders[VOLUME_ID]

    assert holder.instance is not None
    assert [(run.run_id, run.script) for run in holder.runs] == [("run-there", "there.py")]


@pytest.mark.parametrize(
    ("instance", "there"),
    [
        (an_instance(OTHER_ID), Machine(silent=True)),
        (an_instance(OTHER_ID, tags={}), None),
        (an_instance(OTHER_ID, state=InstanceState.STOPPED), None),
        (NotFound("it is not shown to us"), None),
    ],
)
def test_a_machine_that_is_not_asked_or_silent_is_told_from_memory(
    script: Script, store: RunStore, instance: Any, there: Machine | None
) -> None:
    script.answers.update(volume=ELSEWHERE, instance=instance)
    store.put(a_record())
    store.put(a_record(id=RunId("run-over"), state=RunPhase.ENDED))
    store.put(a_record(id=RunId("run-else"), mounts=()))

    holder = look(script, store, "datasets:/data", there=there).holders[VOLUME_ID]

    assert [(run.run_id, run.script) for run in holder.runs] == [("run-known", "known.py")]
