"""Waiting says which stage it is at, ends when the machine does, and never waits for what cannot come."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from runctl.core import tags as tag
from runctl.core.errors import (
    Conflict,
    CredentialsError,
    MachineError,
    PermissionDenied,
    Unreachable,
)
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Instance
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.parse import read_only_of
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.context import AwsContext
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from runctl.testing.transport import FakeTransport
from runctl.transport.interface import Completed
from tests.aws_fixtures import Refuse

FIVE_MINUTES = timedelta(minutes=5)
READY = json.dumps({"ok": True, "docker": "25.0", "user": "ec2-user", "finished_at": 1, "steps": []}).encode()


def is_look(argv: tuple[str, ...]) -> bool:
    return argv[:2] == ("sh", "-c") and "ready.json" in argv[2]


def is_attach(argv: tuple[str, ...]) -> bool:
    return argv[-1:] == ("attach",)


@pytest.fixture
def machine(provider: AwsProvider, monkeypatch: pytest.MonkeyPatch) -> FakeTransport:
    """What answers in place of every instance; ready, unless a test scripts otherwise."""
    fake = FakeTransport()
    fake.on(["true"], 0)
    fake.on(is_look, READY)
    fake.on(["sh", "-c", 'printf %s "${RUNCTL_AGENT_STATE:-/var/lib/runctl}"'], b"/var/lib/runctl")
    fake.on(is_attach, b'{"ok":{"mounted":true}}')
    monkeypatch.setattr(provider._connections, "_choose", lambda *_: fake)
    return fake


@pytest.fixture
def instance(provider: AwsProvider) -> Instance:
    return provider.renting.create(provider.renting.plan(InstanceRequest()))


def test_a_ready_machine_is_returned_and_every_stage_was_said(
    provider: AwsProvider, machine: FakeTransport, instance: Instance, progress: RecordedProgress
) -> None:
    ready = provider.wait_ready(instance.id, timeout=FIVE_MINUTES, progress=progress)

    assert ready.id == instance.id
    assert [step.split(" ")[0] for step in progress.steps] == ["waiting"] * 3
    assert any("answers over fake" in note for note in progress.notes)
    assert any("Docker 25.0" in note for note in progress.notes)


def test_volumes_are_mounted_by_the_agent_and_remembered(
    provider: AwsProvider, machine: FakeTransport, session: AwsSession
) -> None:
    volume = provider.volumes.create(provider.volumes.plan(VolumeRequest(1, name="datasets")))
    plan = provider.renting.plan(
        InstanceRequest(
            volumes=(VolumeMount("datasets", "/mnt/data"),), data_volume_size_gib=2, data_mount_point="/s"
        )
    )
    instance = provider.renting.create(plan)

    provider.wait_ready(instance.id, timeout=FIVE_MINUTES)

    assert sum(is_attach(call) for call in machine.calls) == 2
    assert provider.volumes.find(volume.id).mount_point == "/mnt/data"


def requests_to_attach(machine: FakeTransport, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    requests: list[dict[str, Any]] = []
    run = machine.run

    def recording(argv: Any, *, stdin: bytes = b"", **options: Any) -> Completed:
        if is_attach(tuple(argv)):
            requests.append(json.loads(stdin))
        return run(argv, stdin=stdin, **options)

    monkeypatch.setattr(machine, "run", recording)
    return requests


def test_only_a_disk_that_runctl_made_empty_may_be_formatted(
    provider: AwsProvider, machine: FakeTransport, session: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = requests_to_attach(machine, monkeypatch)
    ours = provider.volumes.create(provider.volumes.plan(VolumeRequest(1, zone="us-east-1a")))
    snapshot = session.ec2.create_snapshot(VolumeId=ours.id)["SnapshotId"]
    copy = provider.volumes.create(
        provider.volumes.plan(VolumeRequest(1, zone="us-east-1a", snapshot_id=snapshot))
    )
    theirs = session.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    mounts = tuple(
        VolumeMount(v, f"/mnt/{n}") for n, v in (("ours", ours.id), ("copy", copy.id), ("theirs", theirs))
    )
    instance = provider.renting.create(provider.renting.plan(InstanceRequest(volumes=mounts)))

    provider.wait_ready(instance.id, timeout=FIVE_MINUTES)

    assert {r["volume_id"]: (r["format"], r["known_blank"]) for r in requests} == {
        ours.id: ("if-blank", True),
        copy.id: ("never", False),
        theirs: ("never", False),
    }
    assert tag.UNUSED not in provider.volumes.find(ours.id).tags


def known_data(provider: AwsProvider, session: AwsSession, name: str, **tags: str) -> str:
    """A volume that a replica has the data of."""
    made = provider.volumes.create(provider.volumes.plan(VolumeRequest(1, name=name, zone="us-east-1a")))
    session.ec2.delete_tags(Resources=[made.id], Tags=[{"Key": tag.UNUSED}])
    provider.volumes.tag(made.id, {tag.CONTENT: "one", tag.FILLED_FROM: "s3://data/all", **tags})
    return made.id


def test_what_the_machine_may_write_to_has_no_known_data_any_more_and_the_rest_it_mounts_read_only(
    provider: AwsProvider, machine: FakeTransport, session: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = requests_to_attach(machine, monkeypatch)
    written = known_data(provider, session, "results", **{tag.GROW: "true"})
    read = known_data(provider, session, "datasets", **{tag.GROW: "true"})
    mounts = (VolumeMount("results", "/mnt/results"), VolumeMount("datasets", "/mnt/datasets", True))
    instance = provider.renting.create(provider.renting.plan(InstanceRequest(volumes=mounts)))
    # Somebody looked at it before the machine had it, and replicates it.
    provider.volumes.tag(VolumeId(written), {tag.CONTENT: "two"})

    provider.wait_ready(instance.id, timeout=FIVE_MINUTES)

    asked = {each["volume_id"]: each for each in requests}
    assert {volume: each["read_only"] for volume, each in asked.items()} == {written: False, read: True}
    assert {volume: each["grow"] for volume, each in asked.items()} == {written: True, read: False}
    assert asked[read]["format"] == "never"
    assert tag.CONTENT not in provider.volumes.find(written).tags
    assert tag.FILLED_FROM not in provider.volumes.find(written).tags
    assert provider.volumes.find(read).tags[tag.CONTENT] == "one"
    # Detached, it can be attached again for writing.
    provider.volumes.detach(VolumeId(read))
    assert read_only_of(provider.instance(instance.id).tags) == set()


def test_a_new_volume_is_made_a_file_system_though_it_is_only_to_be_read(
    provider: AwsProvider, machine: FakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = requests_to_attach(machine, monkeypatch)
    provider.volumes.create(provider.volumes.plan(VolumeRequest(1, name="datasets")))
    request = InstanceRequest(volumes=(VolumeMount("datasets", "/mnt/data", True),))
    instance = provider.renting.create(provider.renting.plan(request))

    provider.wait_ready(instance.id, timeout=FIVE_MINUTES)

    (asked,) = requests
    assert (asked["read_only"], asked["format"]) == (False, "if-blank")


def test_a_volume_that_the_launch_did_not_come_to_attach_is_attached_now(
    provider: AwsProvider, machine: FakeTransport, session: AwsSession
) -> None:
    volume = provider.volumes.create(provider.volumes.plan(VolumeRequest(1, name="datasets")))
    plan = provider.renting.plan(InstanceRequest(volumes=(VolumeMount("datasets", "/mnt/data"),)))

    def press(**_: Any) -> None:
        raise KeyboardInterrupt

    session.ec2.meta.events.register("before-call.ec2.AttachVolume", press)
    with pytest.raises(KeyboardInterrupt):
        provider.renting.create(plan)
    session.ec2.meta.events.unregister("before-call.ec2.AttachVolume", press)
    (left,) = provider.instances()

    provider.wait_ready(left.id, timeout=FIVE_MINUTES)

    assert provider.volumes.find(volume.id).attached_to == left.id


def test_a_machine_that_dies_while_it_boots_is_noticed(
    provider: AwsProvider, machine: FakeTransport, instance: Instance, session: AwsSession, clock: ManualClock
) -> None:
    machine.on(is_look, 3)

    def die(_: float) -> None:
        session.ec2.terminate_instances(InstanceIds=[instance.id])

    clock.on_sleep = die

    with pytest.raises(Conflict, match="ended"):
        provider.wait_ready(instance.id, timeout=FIVE_MINUTES)

    assert clock.monotonic() < 60


def test_the_error_of_a_wait_that_is_over_says_the_stage_and_how_to_go_on(
    provider: AwsProvider, machine: FakeTransport, instance: Instance
) -> None:
    machine.on(["true"], Unreachable("port 22 does not answer"))

    with pytest.raises(Unreachable, match=r"cannot be reached \(port 22 does not answer\)") as caught:
        provider.wait_ready(instance.id, timeout=FIVE_MINUTES)

    assert f"runctl aws wait {instance.id}" in caught.value.hint
    assert f"runctl aws terminate {instance.id}" in caught.value.hint


def test_an_sshd_that_refuses_early_in_the_boot_is_tried_again(
    provider: AwsProvider, machine: FakeTransport, instance: Instance
) -> None:
    machine.on(["true"], CredentialsError("Permission denied (publickey)"), Completed((), 0, b"", b""))

    assert provider.wait_ready(instance.id, timeout=FIVE_MINUTES).id == instance.id


def test_credentials_that_aws_refuses_are_not_waited_for(
    provider: AwsProvider,
    context: AwsContext,
    instance: Instance,
    session: AwsSession,
    refuse: Refuse,
    clock: ManualClock,
) -> None:
    refuse(session.ec2, "DescribeInstances", "ExpiredToken", "The security token is expired")

    with pytest.raises(CredentialsError, match="expired"):
        provider.wait_ready(instance.id, timeout=FIVE_MINUTES)

    assert clock.monotonic() == 0


def test_without_the_right_to_ask_systems_manager_the_wait_ends_with_the_reason(
    provider: AwsProvider,
    instance: Instance,
    session: AwsSession,
    refuse: Refuse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(session.ssm, "DescribeInstanceInformation", "AccessDeniedException", "no ssm for you")
    monkeypatch.setattr("runctl.providers.aws.ec2.ssh_access._answers", lambda _: False)

    with pytest.raises((Unreachable, PermissionDenied), match="no ssm for you"):
        provider.wait_ready(instance.id, timeout=timedelta(seconds=30))


def test_a_first_boot_that_failed_brings_the_end_of_its_log(
    provider: AwsProvider, machine: FakeTransport, instance: Instance
) -> None:
    machine.on(is_look, 4)
    machine.on(["tail"], b"one\ntwo\nsh: syntax error")

    with pytest.raises(MachineError, match="syntax error") as caught:
        provider.wait_ready(instance.id, timeout=FIVE_MINUTES)

    assert caught.value.code == "user-data"


def test_a_first_boot_that_is_still_at_work_is_waited_for(
    provider: AwsProvider, machine: FakeTransport, instance: Instance, clock: ManualClock
) -> None:
    busy = Completed((), 3, b"", b"")
    machine.on(is_look, busy, busy, busy, READY)

    provider.wait_ready(instance.id, timeout=FIVE_MINUTES)

    assert clock.monotonic() > 0.5


def test_docker_that_could_not_be_installed_is_a_warning_and_no_failure(
    provider: AwsProvider, machine: FakeTransport, instance: Instance, progress: RecordedProgress
) -> None:
    steps = [{"name": "docker", "ok": False, "detail": "no network"}]
    machine.on(is_look, json.dumps({"ok": True, "docker": None, "steps": steps}).encode())

    provider.wait_ready(instance.id, timeout=FIVE_MINUTES, progress=progress)

    assert progress.warnings == ["first boot: docker: no network"]


def test_a_mount_that_fails_is_the_agents_error(provider: AwsProvider, machine: FakeTransport) -> None:
    machine.on(
        is_attach,
        Completed((), 1, b'{"error":{"code":"unknown-signature","message":"it holds LVM","hint":""}}', b""),
    )
    plan = provider.renting.plan(InstanceRequest(data_volume_size_gib=2))
    instance = provider.renting.create(plan)

    with pytest.raises(MachineError, match="LVM"):
        provider.wait_ready(instance.id, timeout=FIVE_MINUTES)


def test_a_stopped_machine_says_how_to_start_it(
    provider: AwsProvider, machine: FakeTransport, instance: Instance
) -> None:
    provider.stop_and_start.stop(instance.id)

    with pytest.raises(Conflict) as caught:
        provider.wait_ready(instance.id, timeout=FIVE_MINUTES)

    assert caught.value.hint == f"runctl aws start {instance.id}"
