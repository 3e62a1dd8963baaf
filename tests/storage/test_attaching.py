"""A volume on an instance: attached and mounted, unmounted and detached."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runctl.agent.spec import AttemptStatus, MachineMount, MountSpec, RunState
from runctl.core import tags as tag
from runctl.core.blank_volumes import FormatRule
from runctl.core.errors import Conflict, MachineError, ProviderError, Unreachable
from runctl.core.machine_models import Instance, InstanceState, VolumeState
from runctl.core.mount_points import usual_mount_points
from runctl.storage.attaching import (
    MountOptions,
    attach_and_mount,
    attach_only,
    check_mount_point,
    unmount_and_detach,
)
from tests.cli.fake_provider import (
    INSTANCE_ID,
    VOLUME_ID,
    FakeAgent,
    FakeProvider,
    Script,
    a_volume,
    an_instance,
)

ATTACHED = a_volume(attached_to=INSTANCE_ID, state=VolumeState.IN_USE)
ANSWER = {
    "volume_id": VOLUME_ID,
    "mount_point": "/mnt/datasets",
    "device": "/dev/nvme1n1",
    "fstype": "ext4",
    "formatted": False,
    "already_mounted": True,
    "writable": True,
    "size_bytes": 100,
    "free_bytes": 60,
}


@pytest.fixture
def script() -> Script:
    return Script(
        {
            "attach_volume": ATTACHED,
            "volume": ATTACHED,
            "agent.attach": ANSWER,
            "remember_mount": None,
            "tag_volume": None,
        }
    )


def on(script: Script) -> Any:
    def agent_on(instance: Instance) -> FakeAgent:
        script.answer("agent", instance.id)
        return FakeAgent(script)

    script.answers.setdefault("agent", None)
    return agent_on


def test_the_result_says_what_the_machine_found(script: Script) -> None:
    mounted = attach_and_mount(FakeProvider(script), on(script), a_volume(), an_instance())
    assert (mounted.mount_point, mounted.device, mounted.free_bytes) == ("/mnt/datasets", "/dev/nvme1n1", 60)
    assert (mounted.already_mounted, mounted.formatted, mounted.writable) == (True, False, True)
    assert mounted.volume == replace(ATTACHED, mount_point="/mnt/datasets", device="/dev/nvme1n1")


def test_a_machine_that_cannot_mount_leaves_the_volume_attached_and_says_so(script: Script) -> None:
    script.answers["agent.attach"] = MachineError("it holds LVM", hint="look at it", code="not-blank")
    with pytest.raises(MachineError) as caught:
        attach_and_mount(FakeProvider(script), on(script), a_volume(), an_instance())
    assert caught.value.hint == f"look at it; {VOLUME_ID} is attached to {INSTANCE_ID}, and not mounted"
    assert "remember_mount" not in script.names()


def test_a_mount_that_cannot_be_noted_is_a_mount_all_the_same(script: Script) -> None:
    script.answers["remember_mount"] = ProviderError("no right to tag")
    options = MountOptions("/mnt/datasets", read_only=True)
    assert attach_and_mount(FakeProvider(script), on(script), a_volume(), an_instance(), options).device
    assert script.only("agent.attach")[0]["read_only"] is True


OURS = {tag.OWNED: "true"}


@pytest.mark.parametrize(
    ("facts", "may_format", "rule"),
    [
        ({"tags": OURS}, False, FormatRule("if-blank")),
        ({"tags": OURS | {tag.UNUSED: INSTANCE_ID}}, False, FormatRule("if-blank", known_blank=True)),
        ({"tags": OURS | {tag.UNUSED: "true"}}, False, FormatRule("if-blank")),
        ({"tags": OURS | {tag.UNUSED: "i-0000000000000dead"}}, False, FormatRule("if-blank")),
        ({"tags": OURS, "snapshot_id": "snap-1"}, False, FormatRule("never")),
        ({"tags": OURS, "source_volume_id": "vol-1"}, False, FormatRule("never")),
        ({"tags": OURS | {tag.CREATED_FROM: "vol-1", tag.UNUSED: INSTANCE_ID}}, False, FormatRule("never")),
        ({"tags": OURS, "snapshot_id": "snap-1"}, True, FormatRule("if-blank")),
        ({"tags": {}}, False, FormatRule("never")),
        ({"tags": {}}, True, FormatRule("if-blank")),
        ({"tags": {tag.UNUSED: INSTANCE_ID}}, False, FormatRule("never")),
    ],
)
def test_only_what_runctl_made_empty_or_was_offered_may_get_a_file_system(
    script: Script, facts: dict[str, Any], may_format: bool, rule: FormatRule
) -> None:
    volume = a_volume(**facts)
    script.answers["attach_volume"] = replace(ATTACHED, **facts)
    attach_and_mount(
        FakeProvider(script), on(script), volume, an_instance(), MountOptions(may_format=may_format)
    )
    request = script.only("agent.attach")[0]
    assert FormatRule(request["format"], request["known_blank"]) == rule


def test_a_volume_that_is_attached_only_is_not_known_to_be_blank_afterwards(script: Script) -> None:
    attach_only(FakeProvider(script), a_volume(tags=OURS | {tag.UNUSED: "true"}), an_instance())
    assert script.names() == ["tag_volume", "attach_volume", "volume"]


@pytest.mark.parametrize("attach", [attach_and_mount, attach_only])
def test_a_volume_that_runctl_did_not_create_is_attached_and_keeps_its_tags(
    script: Script, attach: Any
) -> None:
    # Somebody has taken it out of runctl's hands, and left the other tags.
    theirs = a_volume(tags={tag.UNUSED: "true", tag.GROW: "true", tag.CONTENT: "content-1"})
    script.answers["volume"] = script.answers["attach_volume"] = theirs
    script.answers["agent.attach"] = {**ANSWER, "grown": True}
    agent_on = () if attach is attach_only else (on(script),)

    attach(FakeProvider(script), *agent_on, theirs, an_instance())

    assert "tag_volume" not in script.names()


@pytest.mark.parametrize("attach", [attach_and_mount, attach_only])
def test_what_was_known_of_its_data_goes_once_it_is_attached_whatever_tags_the_caller_saw(
    script: Script, attach: Any
) -> None:
    agent_on = () if attach is attach_only else (on(script),)
    # Somebody has begun to replicate it since the caller looked.
    script.answers["volume"] = a_volume(tags=OURS | {tag.CONTENT: "content-1"})

    attach(FakeProvider(script), *agent_on, a_volume(tags=OURS), an_instance())

    names = script.names()
    assert script.only("tag_volume") == (VOLUME_ID, {}, (tag.CONTENT,))
    assert names.index("attach_volume") < names.index("tag_volume")
    assert "agent.attach" not in names[: names.index("tag_volume")]


def test_what_is_known_of_its_data_stays_where_it_is_only_read(script: Script) -> None:
    options = MountOptions(read_only=True)
    attach_and_mount(FakeProvider(script), on(script), a_volume(tags=OURS), an_instance(), options)
    assert "tag_volume" not in script.names()


def test_a_run_that_uses_the_volume_is_named_and_not_its_processes_alone(script: Script) -> None:
    mount = MountSpec("/mnt/datasets", "/data", False, VOLUME_ID, "--ebs-mount")
    script.answers.update(
        {
            "instance": an_instance(),
            "agent.detach": MachineError("in use by python3 (25113)", hint="stop them", code="disk-busy"),
            "agent.attempts": (AttemptStatus("run-a", 1, RunState.RUNNING, "train.py", mounts=(mount,)),),
        }
    )
    with pytest.raises(MachineError, match=r"run-a .train.py.: in use by python3") as caught:
        unmount_and_detach(FakeProvider(script), on(script), ATTACHED)
    assert (caught.value.code, caught.value.hint.split(",")[0]) == ("disk-busy", "runctl runs stop run-a")


def test_a_taken_mount_point_is_known_before_anything_is_attached(script: Script) -> None:
    there = MachineMount("/mnt/data", "/dev/nvme2n1", "vol-0000000000000cafe", "ext4", 1, 1, False, True)
    script.answers["agent.mounts"] = (there,)
    with pytest.raises(Conflict, match=r"/mnt/data .* is taken by volume vol-0000000000000cafe") as caught:
        check_mount_point(on(script), a_volume(), an_instance(), "/mnt/data")
    assert caught.value.code == "mount-point-taken"
    check_mount_point(on(script), a_volume(), an_instance(), "/mnt/other")
    assert "attach_volume" not in script.names()


@pytest.mark.parametrize("path", ["/usr/local/sbin", "/etc/cron.d", "/lib/systemd", "/boot", "/"])
def test_a_tag_cannot_have_a_volume_mounted_over_the_system(path: str) -> None:
    places = usual_mount_points(a_volume(tags=OURS | {tag.MOUNT_POINT: path}))
    assert [place.path for place in places] == ["/mnt/datasets"]


def test_a_volume_of_a_stopped_machine_is_detached_without_asking_it(script: Script) -> None:
    script.answers.update(instance=an_instance(state=InstanceState.STOPPED), detach_volume=a_volume())
    detached = unmount_and_detach(FakeProvider(script), on(script), ATTACHED)
    assert (detached.volume.attached_to, detached.unmounted.was_mounted) == (None, False)
    assert script.names() == ["instance", "detach_volume"]


def test_only_force_takes_a_volume_from_a_silent_machine(script: Script) -> None:
    script.answers.update(
        {"instance": an_instance(), "detach_volume": a_volume(), "agent.detach": Unreachable("no answer")}
    )
    with pytest.raises(Unreachable, match="no answer"):
        unmount_and_detach(FakeProvider(script), on(script), ATTACHED)
    assert "detach_volume" not in script.names()
    detached = unmount_and_detach(FakeProvider(script), on(script), ATTACHED, force=True)
    assert detached.unmounted.unasked
    assert script.only("detach_volume") == (VOLUME_ID, True)
