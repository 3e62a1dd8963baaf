"""What a prewarm leaves noted of the volume's data, and when."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from runctl.agent.object_store import Source
from runctl.core import tags as tag
from runctl.core.clock import SystemClock
from runctl.core.errors import PermissionDenied
from runctl.core.machine_models import VolumeState
from runctl.runs.filling.fill import Prewarm
from runctl.runs.filling.plan import PrewarmPlan, PrewarmRequest
from runctl.storage.machines import Estimate
from runctl.testing.progress import RecordedProgress
from tests.cli.fake_provider import (
    INSTANCE_ID,
    VOLUME_ID,
    FakeAgent,
    FakeProvider,
    Script,
    a_volume,
    an_instance,
)

OURS = {tag.OWNED: tag.OWNED_VALUE}
NOTED = (VOLUME_ID, {tag.FILLED_FROM: "s3://mine/data", tag.FILLED_WITH: "digest"}, ())

WHOLE = {"only_from_source": True, "listing": "digest"}


class Filled:
    """A prewarm of a volume that a machine has, in which the program has said ``done``."""

    def __init__(self, *, tags: dict[str, str], done: dict[str, Any], was_mounted: bool = False) -> None:
        volume = a_volume(attached_to=INSTANCE_ID, state=VolumeState.IN_USE, tags=tags)
        self.script = Script(
            {
                "volume": volume,
                "instance": an_instance(),
                "attach_volume": volume,
                "detach_volume": volume,
                "agent": None,
                "remember_mount": None,
                "tag_volume": None,
                "agent.attach": {"mount_point": "/mnt/data"},
                "agent.detach": {"was_mounted": True},
            }
        )
        self.progress = RecordedProgress()
        self.done = done
        request = PrewarmRequest(volume, Source("mine", "data"), detach=True)
        self.plan = PrewarmPlan(
            request=request,
            way="s3",
            reason="",
            considered=(),
            stored=None,
            size_bytes=None,
            where="attached",
            instance=an_instance(),
            machine=None,
            machine_reason="",
            role=None,
            mount_point="/mnt/data",
            was_mounted=was_mounted,
            estimate=Estimate(1.0, "the volume", 1.0, None),
        )

    def carry_out(self) -> list[str]:
        """The names of the calls, in their order."""
        nothing: Any = None
        prewarm = Prewarm(FakeProvider(self.script), nothing, nothing, SystemClock(), progress=self.progress)
        with (
            patch.object(Prewarm, "agent_on", lambda *_: FakeAgent(self.script)),
            patch.object(Prewarm, "_run", lambda *_: (None, self.done)),
        ):
            prewarm.carry_out(self.plan)
        return self.script.names()


def test_a_volume_with_nothing_else_on_it_is_noted_as_filled_once_nobody_can_write_to_it() -> None:
    filled = Filled(tags=OURS, done=WHOLE)

    names = filled.carry_out()

    assert filled.script.only("tag_volume") == NOTED
    assert names.index("agent.detach") < names.index("tag_volume") < names.index("detach_volume")


@pytest.mark.parametrize(
    "done",
    [
        pytest.param({"only_from_source": False, "other_path": "labels"}, id="another source, or own files"),
        pytest.param({"only_from_source": None}, id="a folder of it"),
        pytest.param({}, id="a program of before"),
    ],
)
def test_a_volume_that_may_have_more_than_the_source_is_not_noted(done: dict[str, Any]) -> None:
    filled = Filled(tags=OURS, done=done)

    assert "tag_volume" not in filled.carry_out()


def test_a_volume_that_stays_mounted_for_writing_is_not_noted_and_loses_what_was_noted_before() -> None:
    filled = Filled(tags={**OURS, tag.FILLED_FROM: "s3://mine/data"}, done=WHOLE, was_mounted=True)

    filled.carry_out()

    assert filled.script.only("tag_volume") == (VOLUME_ID, {}, (tag.FILLED_FROM,))


def test_a_volume_that_runctl_did_not_create_is_filled_and_not_tagged() -> None:
    filled = Filled(tags={}, done=WHOLE)

    names = filled.carry_out()

    assert names[-3:] == ["agent.detach", "detach_volume", "volume"]
    assert "tag_volume" not in names


def test_a_volume_is_filled_and_given_back_also_where_that_cannot_be_noted() -> None:
    filled = Filled(tags=OURS, done=WHOLE)
    filled.script.answers["tag_volume"] = PermissionDenied("no right to tag")

    assert "detach_volume" in filled.carry_out()
    assert "no right to tag" in str(filled.progress.warnings)
