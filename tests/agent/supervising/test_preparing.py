"""A volume that an attempt needs: it is waited for while another machine has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.disks import volumes
from runctl.agent.errors import AgentError
from runctl.agent.records import attempt_folder
from runctl.agent.spec import RunSpec
from runctl.agent.stored_run import StoredVolume
from runctl.agent.supervising import preparing

ID = "vol-1"


class Cloud:
    """EC2's answers to requests to attach the volume, and what this machine sees of it."""

    def __init__(self, patch: pytest.MonkeyPatch, *answers: str | None) -> None:
        self.answers = list(answers)
        self.here: set[str] = set()
        self.devices: list[str | None] = []
        self.forgotten: list[tuple[str, ...]] = []
        patch.setattr(preparing, "disks", lambda: self)
        patch.setattr(preparing, "this_machine", lambda: self)
        patch.setattr(volumes, "attach", self._mount)
        patch.setattr(preparing, "ATTACH_PAUSE", 0.0)

    def attached(self) -> set[str]:
        return self.here

    def attach_volume(self, volume_id: str) -> str | None:
        assert volume_id == ID
        answer = self.answers.pop(0)
        if answer == "lost":
            # EC2 has done it, and says to the request that is sent once more that the volume is in use.
            self.here.add(ID)
            return None
        return answer

    def delete_tags(self, volume_id: str, keys: tuple[str, ...]) -> None:
        assert (volume_id, self.devices) == (ID, []), "before it is mounted"
        assert self.here or not self.answers, "once it is attached"
        self.forgotten.append(keys)

    def _mount(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.devices.append(request["device"])
        return {}

    def attach(self, *, holds: bool = True, forget: tuple[str, ...] = ()) -> None:
        volume = StoredVolume(ID, "/data", forget=forget)
        preparing.attach(volume, first=True, holds=lambda: holds, say=lambda _: None)


def test_it_is_attached_when_the_machine_before_has_let_go_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(monkeypatch, None, None, "/dev/sdf")
    cloud.attach()
    assert (cloud.devices, cloud.answers) == (["/dev/sdf"], [])


@pytest.mark.parametrize("attached", [False, True])
def test_what_was_said_of_its_data_goes_once_it_is_attached_and_before_it_is_mounted(
    monkeypatch: pytest.MonkeyPatch, attached: bool
) -> None:
    cloud = Cloud(monkeypatch, *(() if attached else (None, "/dev/sdf")))
    # As after an attempt of before that this machine did not get through.
    cloud.here.update({ID} if attached else ())

    cloud.attach(forget=("runctl:content",))

    assert (cloud.forgotten, len(cloud.devices)) == ([("runctl:content",)], 1)


def test_one_that_a_request_without_an_answer_has_attached_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = Cloud(monkeypatch, None, "lost")
    cloud.attach()
    assert (cloud.devices, cloud.answers) == ([None], [])


def test_who_loses_the_lease_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(monkeypatch, None)
    with pytest.raises(AgentError) as error:
        cloud.attach(holds=False)
    assert (error.value.code, cloud.devices) == ("lost", [])


def test_one_that_is_never_let_go_of_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(monkeypatch, None)
    monkeypatch.setattr(preparing, "RELEASE_SECONDS", 0.0)
    with pytest.raises(AgentError) as error:
        cloud.attach()
    assert (error.value.code, cloud.devices) == ("volume-in-use", [])


def test_what_a_machine_has_saved_in_attempts_before_is_not_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNCTL_AGENT_STATE", str(tmp_path))
    spec, folder = RunSpec("run-1", "train.py", attempt=2), attempt_folder("run-1", 2)
    preparing.forget_checkpoints(spec, folder)
    saved = folder.path.parent / "checkpoints" / "step-7.json"
    saved.parent.mkdir(parents=True)
    saved.write_text("{}")
    output = folder.path.parent / "output" / "losses.csv"
    output.parent.mkdir()
    output.write_text("0.1")
    preparing.forget_checkpoints(spec, folder)
    assert sorted(each.name for each in folder.path.parent.iterdir()) == ["output"]
    assert output.exists()
