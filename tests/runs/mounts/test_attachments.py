"""Volumes attached for a run: they stay when it starts, and are given back when it does not."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from runctl.containers.mounts import VOLUME_FLAG, MountRequest
from runctl.core.errors import Conflict, MachineError, RunctlError, Unreachable
from runctl.core.machine_models import Volume, VolumeState
from runctl.runs.mounts.attachments import volumes_attached
from runctl.runs.mounts.plan import MountFacts, plan_mounts
from runctl.runs.mounts.volume_conflicts import Holder, Sharer
from runctl.testing.progress import RecordedProgress
from tests.cli.fake_provider import (
    INSTANCE_ID,
    OTHER_ID,
    FakeAgent,
    FakeProvider,
    Script,
    a_volume,
    an_instance,
)

INSTANCE = an_instance(volumes=())
ONE, TWO = "vol-00000000000000001", "vol-00000000000000002"


@dataclass
class Account:
    """Volumes that really are attached and mounted, or not, behind a provider and an agent."""

    volumes: dict[str, Volume]
    mounted: dict[str, str] = field(default_factory=dict)
    fails: dict[str, BaseException] = field(default_factory=dict)
    """By call, such as ``mount vol-1``."""
    started: bool = False
    progress: RecordedProgress = field(default_factory=RecordedProgress)

    def context(self, **more: Any) -> AbstractContextManager[None]:
        requests = [MountRequest(volume_id, "", False, VOLUME_FLAG) for volume_id in self.volumes]
        plan = plan_mounts(requests, MountFacts(INSTANCE, (), dict(self.volumes)), automatic=False)
        script = Script(
            {
                "attach_volume": self._attach,
                "detach_volume": self._detach,
                "volume": lambda identifier: self.volumes[identifier],
                "instance": lambda _: INSTANCE,
                "remember_mount": None,
                "tag_volume": None,
                "agent.attach": self._mount,
                "agent.detach": self._unmount,
            }
        )
        return volumes_attached(
            plan,
            INSTANCE,
            provider=FakeProvider(script),
            agent_on=lambda _: FakeAgent(script),  # type: ignore[arg-type, return-value]
            find_holder=lambda _: Holder(
                OTHER_ID, None, (Sharer("run-quick", "a.py", frozenset({ONE}), frozenset({ONE})),)
            ),
            may_have_started=lambda: self.started,
            progress=self.progress,
            **more,
        )

    def attached(self) -> list[str]:
        return [volume.id for volume in self.volumes.values() if volume.attached_to == INSTANCE_ID]

    def _fail(self, what: str) -> None:
        if what in self.fails:
            raise self.fails[what]

    def _attach(self, identifier: str, *_: Any) -> Volume:
        self._fail(f"attach {identifier}")
        volume = replace(self.volumes[identifier], attached_to=INSTANCE_ID, state=VolumeState.IN_USE)
        self.volumes[identifier] = volume
        return volume

    def _detach(self, identifier: str, *_: Any) -> Volume:
        self._fail(f"detach {identifier}")
        volume = replace(self.volumes[identifier], attached_to=None, state=VolumeState.AVAILABLE)
        self.volumes[identifier] = volume
        return volume

    def _mount(self, request: dict[str, Any]) -> dict[str, Any]:
        identifier = request["volume_id"]
        self._fail(f"mount {identifier}")
        already = identifier in self.mounted
        self.mounted[identifier] = request["mount_point"]
        return {"mount_point": request["mount_point"], "already_mounted": already, "size_bytes": 100 << 30}

    def _unmount(self, request: dict[str, Any]) -> dict[str, Any]:
        identifier = request["volume_id"]
        self._fail(f"unmount {identifier}")
        return {"was_mounted": self.mounted.pop(identifier, None) is not None}


def account(**changes: Any) -> Account:
    names = {ONE: "one", TWO: "two"}
    return Account(
        {identifier: a_volume(identifier, name=name, **changes) for identifier, name in names.items()}
    )


def test_they_are_attached_and_mounted_inside_and_stay_afterwards() -> None:
    here = account()

    with here.context():
        assert here.attached() == [ONE, TWO]
        assert here.mounted == {ONE: "/mnt/one", TWO: "/mnt/two"}

    assert here.attached() == [ONE, TWO]
    assert here.mounted == {ONE: "/mnt/one", TWO: "/mnt/two"}


def test_little_room_on_the_volume_for_checkpoints_is_warned_of_when_it_is_seen() -> None:
    here = account()

    with here.context():
        pass

    assert any("checkpoints and output go to" in warning for warning in here.progress.warnings)


@pytest.mark.parametrize("failure", [f"attach {ONE}", f"mount {ONE}", f"attach {TWO}", f"mount {TWO}"])
@pytest.mark.parametrize(
    "error", [MachineError("no", code="cannot-mount"), Unreachable("no"), KeyboardInterrupt()]
)
def test_nothing_stays_attached_when_one_cannot_be(failure: str, error: BaseException) -> None:
    here = account()
    here.fails[failure] = error

    with pytest.raises(type(error)), here.context():
        raise AssertionError("the run must not start")

    assert here.attached() == []
    assert here.mounted == {}


def test_nothing_stays_attached_when_the_run_does_not_start() -> None:
    here = account()

    with pytest.raises(MachineError), here.context():
        raise MachineError("no Docker", code="no-docker")

    assert (here.attached(), here.mounted) == ([], {})
    assert "the run did not start: one is detached again" in here.progress.notes


def test_everything_stays_when_the_run_may_have_started() -> None:
    here = account()

    with pytest.raises(Unreachable), here.context():
        here.started = True
        raise Unreachable("the answer was lost")

    assert here.attached() == [ONE, TWO]


def test_what_was_attached_before_stays_attached_and_is_only_unmounted() -> None:
    here = account(attached_to=INSTANCE_ID, state=VolumeState.IN_USE)

    with pytest.raises(RunctlError), here.context():
        assert here.mounted == {ONE: "/mnt/one", TWO: "/mnt/two"}
        raise RunctlError("no")

    assert here.attached() == [ONE, TWO]
    assert here.mounted == {}


def test_what_somebody_else_attached_since_the_plan_stays_theirs() -> None:
    here = account()
    context = here.context()
    here._attach(ONE)
    here.mounted[ONE] = "/mnt/one"

    with pytest.raises(RunctlError), context:
        raise RunctlError("no")

    assert here.attached() == [ONE]
    assert here.mounted == {ONE: "/mnt/one"}


def test_who_was_quicker_is_named() -> None:
    here = account()
    context = here.context()
    here.volumes[TWO] = replace(here.volumes[TWO], attached_to=OTHER_ID, state=VolumeState.IN_USE)
    here.fails[f"attach {TWO}"] = Conflict("in use", code="volume-in-use")

    with pytest.raises(Conflict) as caught, context:
        raise AssertionError("the run must not start")

    assert OTHER_ID in caught.value.message
    assert "run-quick" in caught.value.message
    assert here.attached() == []


@pytest.mark.parametrize("failure", [f"unmount {ONE}", f"detach {ONE}"])
def test_what_cannot_be_given_back_is_said_with_the_command(failure: str) -> None:
    here = account()
    here.fails[failure] = Unreachable("it does not answer")

    with pytest.raises(MachineError, match="the first error"), here.context():
        raise MachineError("the first error")

    assert any(
        f"still attached to {INSTANCE_ID}" in warning and f"ebs detach {ONE}" in warning
        for warning in here.progress.warnings
    )
    assert here.attached() == [ONE]
