"""``aws ebs attach``, ``mount`` and ``detach``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runctl.core.errors import MachineError, PermissionDenied, Unreachable, ZoneMismatch
from runctl.core.ids import InstanceId
from runctl.core.machine_models import InstanceState, VolumeState
from runctl.core.tags import MOUNT_POINT, OWNED, OWNED_VALUE
from tests.cli.conftest import Invoke, data_of, error_of, last_error
from tests.cli.fake_provider import INSTANCE_ID, OTHER_ID, VOLUME_ID, Script, a_volume, an_instance
from tests.cli.volumes.conftest import ON_IT


@pytest.fixture
def attachable(script: Script) -> Script:
    """A running instance, and a free volume of ours."""
    on_it = replace(a_volume(), state=VolumeState.IN_USE, attached_to=INSTANCE_ID)
    script.answers.update(
        {
            "instance": an_instance(),
            "volume": a_volume(),
            "attach_volume": on_it,
            "agent": None,
            "agent.attach": lambda request: {
                "volume_id": request["volume_id"],
                "mount_point": request["mount_point"],
                "device": "/dev/nvme1n1",
                "fstype": request["fstype"],
                "formatted": True,
                "already_mounted": False,
                "writable": True,
            },
            "remember_mount": None,
            "tag_volume": None,
        }
    )
    return script


@pytest.fixture
def attached(script: Script) -> Script:
    """A volume of ours on a running instance."""
    script.answers.update(
        {
            "instance": an_instance(),
            "volume": a_volume(attached_to=INSTANCE_ID, state=VolumeState.IN_USE),
            "agent": None,
            "agent.detach": {},
            "detach_volume": a_volume(),
        }
    )
    return script


def test_attach_mounts_where_it_is_told_and_remembers_it(invoke: Invoke, attachable: Script) -> None:
    volume = data_of(
        invoke("aws", "ebs", "attach", "datasets", INSTANCE_ID, "--mount-point", "/mnt/d", "--output", "json")
    )
    assert (volume["mount_point"], volume["device"]) == ("/mnt/d", "/dev/nvme1n1")
    (request,) = attachable.only("agent.attach")
    assert (request["volume_id"], request["mount_point"], request["format"]) == (
        VOLUME_ID,
        "/mnt/d",
        "if-blank",
    )
    assert attachable.only("remember_mount") == (VOLUME_ID, INSTANCE_ID, "/mnt/d", False)


def test_a_disk_that_was_formatted_is_said_to_have_been(invoke: Invoke, attachable: Script) -> None:
    result = invoke("aws", "ebs", "attach", "datasets", INSTANCE_ID, "--fstype", "xfs")
    assert f"{VOLUME_ID} was blank: it has a new xfs file system" in result.stderr


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"tags": {OWNED: OWNED_VALUE, MOUNT_POINT: "/mnt/before"}}, "/mnt/before"),
        ({"name": "datasets"}, "/mnt/datasets"),
        ({"name": None}, f"/mnt/{VOLUME_ID}"),
        ({"name": "../etc"}, f"/mnt/{VOLUME_ID}"),
        ({"name": "my data"}, f"/mnt/{VOLUME_ID}"),
    ],
)
def test_attach_chooses_a_place_when_it_is_not_told(
    invoke: Invoke, attachable: Script, changes: dict[str, Any], place: str
) -> None:
    attachable.answers["instance"] = an_instance(volumes=())
    attachable.answers["volume"] = a_volume(**changes)
    assert invoke("aws", "ebs", "attach", "datasets", INSTANCE_ID).exit_code == 0
    assert attachable.only("agent.attach")[0]["mount_point"] == place


def test_attach_puts_a_volume_where_the_instance_expects_it(invoke: Invoke, attachable: Script) -> None:
    attachable.answers["volume"] = a_volume(tags={OWNED: OWNED_VALUE, MOUNT_POINT: "/mnt/before"})
    assert invoke("aws", "ebs", "attach", "datasets", INSTANCE_ID).exit_code == 0
    assert attachable.only("agent.attach")[0]["mount_point"] == "/mnt/data"


@pytest.mark.parametrize(
    ("tags", "flags", "rule"),
    [
        ({"runctl:managed": "true"}, (), "if-blank"),
        ({}, (), "never"),
        ({}, ("--format",), "if-blank"),
        ({"runctl:managed": "true"}, ("--format",), "if-blank"),
    ],
)
def test_a_volume_of_somebody_else_is_formatted_only_when_told_to(
    invoke: Invoke, attachable: Script, tags: dict[str, str], flags: tuple[str, ...], rule: str
) -> None:
    attachable.answers["volume"] = a_volume(tags=tags)
    invoke("aws", "ebs", "attach", "datasets", INSTANCE_ID, *flags)
    assert attachable.only("agent.attach")[0]["format"] == rule


def test_no_mount_asks_nothing_of_the_machine(invoke: Invoke, attachable: Script) -> None:
    assert invoke("aws", "ebs", "attach", "datasets", INSTANCE_ID, "--no-mount").exit_code == 0
    assert attachable.names() == ["instance", "volume", "attach_volume", "volume"]


def test_no_mount_and_a_mount_point_contradict_each_other(invoke: Invoke, script: Script) -> None:
    assert (
        invoke("aws", "ebs", "attach", "v", INSTANCE_ID, "--no-mount", "--mount-point", "/d").exit_code == 2
    )
    assert script.calls == []


def test_a_mount_that_fails_says_that_the_volume_is_attached(invoke: Invoke, attachable: Script) -> None:
    attachable.answers["agent.attach"] = MachineError(
        "it holds LVM", hint="mount it by hand", code="foreign-disk"
    )
    error = error_of(invoke("aws", "ebs", "attach", "datasets", INSTANCE_ID, "--quiet", "--output", "json"))
    assert error == {
        "code": "foreign-disk",
        "message": "it holds LVM",
        "hint": f"mount it by hand; {VOLUME_ID} is attached to {INSTANCE_ID}, and not mounted",
    }


def test_a_mount_that_cannot_be_noted_is_a_warning_and_mounted_all_the_same(
    invoke: Invoke, attachable: Script
) -> None:
    attachable.answers["remember_mount"] = PermissionDenied("ec2:CreateTags is not allowed")
    result = invoke("aws", "ebs", "attach", "datasets", INSTANCE_ID, "--quiet")
    assert (result.exit_code, result.stdout) == (0, f"{VOLUME_ID}\n")
    assert "is mounted at /mnt/data, but that could not be noted" in result.stderr


def test_a_volume_in_another_zone_is_refused(invoke: Invoke, attachable: Script) -> None:
    attachable.answers["attach_volume"] = ZoneMismatch(VOLUME_ID, "us-east-1b", "us-east-1a")
    result = invoke("aws", "ebs", "attach", "datasets", INSTANCE_ID)
    assert result.exit_code == 1
    assert "us-east-1b" in result.stderr


def test_attach_needs_a_running_instance(invoke: Invoke, attachable: Script) -> None:
    attachable.answers["instance"] = an_instance(state=InstanceState.STOPPED)
    result = invoke("aws", "ebs", "attach", "datasets", INSTANCE_ID)
    assert f"runctl aws start {INSTANCE_ID}" in result.stderr
    assert attachable.names() == ["instance"]


def test_attaching_only_is_refused_where_another_machine_has_it(invoke: Invoke, script: Script) -> None:
    script.answers.update(
        volume=replace(ON_IT, multi_attach=True, instances=(OTHER_ID,)), instance=an_instance()
    )
    result = invoke("aws", "ebs", "attach", "datasets", INSTANCE_ID, "--no-mount", "--output", "json")
    assert last_error(result)["code"] == "shared"
    assert "attach_volume" not in script.names()


def test_mount_finds_the_machine_that_has_it(invoke: Invoke, script: Script) -> None:
    script.answers.update(
        {
            "volume": ON_IT,
            "instance": an_instance(),
            "agent": None,
            "agent.attach": {},
            "remember_mount": None,
            "tag_volume": None,
        }
    )
    assert invoke("aws", "ebs", "mount", "datasets", "--mount-point", "/mnt/d").exit_code == 0
    assert script.only("agent.attach")[0]["mount_point"] == "/mnt/d"
    assert "attach_volume" not in script.names()


@pytest.mark.parametrize(
    ("instances", "code", "exit_code"),
    [((), "not-attached", 1), ((INSTANCE_ID, OTHER_ID), "usage", 2)],
)
def test_mount_wants_one_machine(
    invoke: Invoke, script: Script, instances: tuple[InstanceId, ...], code: str, exit_code: int
) -> None:
    script.answers["volume"] = replace(ON_IT, instances=instances)
    result = invoke("aws", "ebs", "mount", "datasets", "--output", "json")
    assert (result.exit_code, last_error(result)["code"]) == (exit_code, code)


def test_detach_unmounts_first(invoke: Invoke, attached: Script) -> None:
    assert data_of(invoke("aws", "ebs", "detach", "datasets", "--output", "json"))["state"] == "available"
    assert [name for name in attached.names() if "detach" in name] == ["agent.detach", "detach_volume"]


def test_a_volume_in_use_on_the_machine_stays_attached(invoke: Invoke, attached: Script) -> None:
    attached.answers["agent.detach"] = MachineError("python (pid 7) uses it", code="busy")
    assert invoke("aws", "ebs", "detach", "datasets", "--force").exit_code == 1
    assert "detach_volume" not in attached.names()


def test_a_machine_that_does_not_answer_keeps_its_volume_unless_forced(
    invoke: Invoke, attached: Script
) -> None:
    attached.answers["agent.detach"] = Unreachable("no ssh")
    result = invoke("aws", "ebs", "detach", "datasets")
    assert result.exit_code == 7
    assert "--force" in result.stderr
    assert "detach_volume" not in attached.names()


def test_force_takes_it_from_a_machine_that_does_not_answer(invoke: Invoke, attached: Script) -> None:
    attached.answers["agent.detach"] = Unreachable("no ssh")
    assert invoke("aws", "ebs", "detach", "datasets", "--force").exit_code == 0
    assert attached.only("detach_volume") == (VOLUME_ID, True)


def test_a_stopped_machine_has_nothing_to_unmount(invoke: Invoke, attached: Script) -> None:
    attached.answers["instance"] = an_instance(state=InstanceState.STOPPED)
    assert invoke("aws", "ebs", "detach", "datasets").exit_code == 0
    assert attached.names() == ["volume", "instance", "detach_volume"]


def test_a_volume_that_is_attached_nowhere_is_said_to_be_free(invoke: Invoke, script: Script) -> None:
    script.answers.update({"volume": a_volume(), "detach_volume": a_volume()})
    result = invoke("aws", "ebs", "detach", "datasets")
    assert (result.exit_code, "datasets was attached to no machine" in result.stderr) == (0, True)


def test_a_shared_volume_leaves_the_machine_that_is_named(invoke: Invoke, script: Script) -> None:
    shared = replace(ON_IT, multi_attach=True, instances=(INSTANCE_ID, OTHER_ID))
    script.answers.update(
        {
            "volume": shared,
            "instance": an_instance,
            "agent": None,
            "agent.detach": {},
            "detach_volume": shared,
        }
    )
    result = invoke("aws", "ebs", "detach", "datasets", "--output", "json")
    assert (last_error(result)["code"], "agent.detach" in script.names()) == ("shared", False)
    assert invoke("aws", "ebs", "detach", "datasets", "--instance", OTHER_ID).exit_code == 0
    assert script.only("detach_volume") == (VOLUME_ID, False, OTHER_ID)
    assert script.only("agent")[0] == OTHER_ID
