"""Waits until a machine can really be used, stage by stage, and says why each stage ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from runctl.core import tags as tag
from runctl.core.blank_volumes import began_with_data, format_rule
from runctl.core.errors import (
    CredentialsError,
    HostKeyChanged,
    MachineError,
    NotFound,
    Unreachable,
)
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.progress import Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.aws.calls.errors import refused_by_aws
from runctl.providers.aws.calls.parse import (
    DATA_DEVICE,
    DATA_VOLUME,
    instance_of,
    mounts_of,
    read_only_of,
    tags_of,
)
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.attachments import attach_volume
from runctl.providers.aws.ebs.mounting import remember_mount
from runctl.providers.aws.ebs.volume_lookup import find_volume
from runctl.providers.aws.ec2.connect import Connections
from runctl.providers.aws.ec2.instances import describe, find_described, priced
from runctl.providers.aws.ec2.launch import ended, wait_running
from runctl.providers.aws.ec2.releasing import forget_content
from runctl.providers.first_boot import READY_FILE, Ready, parse_ready
from runctl.transport.interface import Transport

if TYPE_CHECKING:
    from runctl.providers.aws.preview.ability import AwsPreview

_COMMAND_TIMEOUT = timedelta(seconds=45)
_READINESS_SCRIPT = """\
file="${RUNCTL_MACHINE_ROOT:-}/var/lib/runctl/ready.json"
if [ -s "$file" ]; then exec cat "$file"; fi
if [ -e "${RUNCTL_MACHINE_ROOT:-}/var/lib/cloud/instance/boot-finished" ]; then
    sleep 1
    if [ -s "$file" ]; then exec cat "$file"; fi
    exit 4
fi
exit 3
"""
"""Prints what the first boot reported; 3: it has not finished, 4: it has, without a report."""
_BOOT_OVER = 4
_LOG = ["tail", "-c", "1500", "/var/log/cloud-init-output.log"]


class _Wait:
    """One wait: what is left of its time, and what it sees on the way."""

    def __init__(
        self,
        context: AwsContext,
        connections: Connections,
        instance_id: InstanceId,
        timeout: timedelta,
        progress: Progress,
    ) -> None:
        self.context = context
        self.connections = connections
        self.instance_id = instance_id
        self.timeout = timeout
        self.progress = progress
        self._end = context.clock.monotonic() + timeout.total_seconds()

    @property
    def left(self) -> timedelta:
        return timedelta(seconds=max(self._end - self.context.clock.monotonic(), 0))

    def alive(self) -> Instance:
        """The instance, which still runs. Raises the reason's error when it does not."""
        described = find_described(self.context, self.instance_id)
        if described is None:
            raise NotFound(f"instance {self.instance_id} no longer exists", hint="runctl aws list")
        if described["State"]["Name"] != InstanceState.RUNNING.value:
            raise ended(described)
        return instance_of(described)

    def late(self, stage: str, seen: str) -> Unreachable:
        return Unreachable(
            f"{self.instance_id} is not ready after {time_span(self.timeout)}: {stage}"
            + (f" ({seen})" if seen else ""),
            hint=f"it is running and billed; go on: runctl aws wait {self.instance_id};"
            f" undo: runctl aws terminate {self.instance_id}",
        )


def wait_ready(
    context: AwsContext,
    connections: Connections,
    instance_id: InstanceId,
    timeout: timedelta,
    progress: Progress,
) -> Instance:
    """See `Provider.wait_ready`."""
    wait = _Wait(context, connections, instance_id, timeout, progress)
    described = wait_running(context, instance_id, wait.left, progress)
    _attach(wait, described)
    transport = _reach(wait)
    if tag.is_ours(tags_of(described.get("Tags"))):
        _first_boot(wait, transport)
        _mount(wait)
    return priced(context, describe(context, instance_id))


def show_ready(
    context: AwsContext,
    preview: AwsPreview,
    instance_id: InstanceId,
    timeout: timedelta,
    progress: Progress,
) -> Instance:
    """What `wait_ready` does, in a preview: the machine is not reached."""
    described = wait_running(context, instance_id, timeout, progress)
    instance = instance_of(described)
    preview.comment(
        f"Over SSH or Systems Manager, runctl waits until the first boot of {instance_id} has ended without a failure."
    )
    read_only = read_only_of(instance.tags)
    for volume_id, mount_point in mounts_of(instance.tags).items():
        if volume_id != DATA_VOLUME:
            preview.agent(instance).attach(volume_id, mount_point)
            volume = find_volume(context, volume_id)
            remember_mount(context, volume, instance, mount_point, read_only=volume_id in read_only)
    return priced(context, describe(context, instance_id))


def _attach(wait: _Wait, described: Mapping[str, Any]) -> None:
    """Attach what the launch was to attach, had it not been cut short."""
    attached = {volume.volume_id for volume in instance_of(described).volumes}
    for volume in mounts_of(tags_of(described.get("Tags"))):
        if volume != DATA_VOLUME and volume not in attached:
            attach_volume(wait.context, VolumeId(volume), described, wait.progress)


def _reach(wait: _Wait) -> Transport:
    wait.progress.step(f"waiting until {wait.instance_id} can be reached")
    seen = ""
    for _ in attempts(wait.context.clock, wait.left):
        instance = wait.alive()
        try:
            transport = wait.connections.transport(instance, "auto", wait.progress)
            transport.run(["true"], timeout=_COMMAND_TIMEOUT)
        except HostKeyChanged:
            raise
        except (Unreachable, CredentialsError) as error:
            # Early in a boot sshd refuses keys that it will accept a moment later. AWS's own refusals of us are
            # no matter of time.
            if isinstance(error, CredentialsError) and refused_by_aws(error):
                raise
            seen = error.message
            wait.connections.forget(wait.instance_id)
            wait.progress.update(seen)
            continue
        wait.progress.note(f"{wait.instance_id} answers over {transport.name}")
        return transport
    raise wait.late("it cannot be reached", seen)


def _first_boot(wait: _Wait, transport: Transport) -> Ready:
    wait.progress.step("waiting for the first boot to finish")
    seen = ""
    for _ in attempts(wait.context.clock, wait.left):
        try:
            done = transport.run(["sh", "-c", _READINESS_SCRIPT], timeout=_COMMAND_TIMEOUT)
        except Unreachable as error:
            seen = error.message
        else:
            if done.exit_code == 0:
                return _judged(wait, transport, parse_ready(done.stdout))
            if done.exit_code == _BOOT_OVER:
                raise MachineError(
                    f"the first boot of {wait.instance_id} ended without {READY_FILE}: {_log_end(transport)}",
                    hint=f"investigate: runctl aws ssh {wait.instance_id};"
                    f" undo: runctl aws terminate {wait.instance_id}",
                    code="user-data",
                )
            seen = "user-data is still running"
        wait.alive()
        wait.progress.update(seen)
    raise wait.late("its first boot has not finished", seen)


def _judged(wait: _Wait, transport: Transport, ready: Ready) -> Ready:
    if not ready.ok:
        raise MachineError(
            f"the first boot of {wait.instance_id} failed: {'; '.join(ready.failures)}",
            hint=f"investigate: runctl aws ssh {wait.instance_id}; undo: runctl aws terminate {wait.instance_id};"
            f" the log's end: {_log_end(transport)}",
            code="user-data",
        )
    for failure in ready.failures:
        wait.progress.warn(f"first boot: {failure}")
    wait.progress.note(
        f"first boot finished{f', Docker {ready.docker}' if ready.docker else ', without Docker'}"
    )
    return ready


def _log_end(transport: Transport) -> str:
    try:
        done = transport.run(_LOG, timeout=_COMMAND_TIMEOUT, as_root=True)
    except (Unreachable, MachineError) as error:
        return f"its log cannot be read: {error.message}"
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return " | ".join(lines[-8:]) or "its log is empty"


def _mount(wait: _Wait) -> None:
    instance = wait.alive()
    mounts, read_only = mounts_of(instance.tags), read_only_of(instance.tags)
    # Outer folders first: /mnt before /mnt/data.
    for volume_key, mount_point in sorted(mounts.items(), key=lambda pair: pair[1].count("/")):
        volume_id = _attached_id(instance, volume_key)
        volume = find_volume(wait.context, volume_id)
        wait.progress.step(f"mounting {volume.name or volume.id} at {mount_point}")
        rule = format_rule(volume, instance.id)
        if volume_key == DATA_VOLUME and tag.MOUNT_POINT not in volume.tags and not began_with_data(volume):
            # The launch made it empty, for this instance, and it has never been mounted.
            rule = replace(rule, known_blank=True)
        agent = wait.connections.agent(instance, "auto", wait.progress)
        is_read = volume_id in read_only
        if not is_read and volume_key != DATA_VOLUME:
            forget_content(wait.context, volume)
        try:
            answer = agent.attach(
                volume_id,
                mount_point,
                progress=wait.progress,
                format="never" if is_read else rule.format,
                known_blank=rule.known_blank and not is_read,
                grow=tag.is_ours(volume.tags) and tag.GROW in volume.tags and not is_read,
                read_only=is_read,
                wait_seconds=60,
            )
        except MachineError as error:
            if rule.format == "never" and not error.hint:
                error.hint = (
                    f"to put a file system on it: runctl aws ebs attach {volume_id} {instance.id}"
                    f" --mount-point {mount_point} --format"
                )
            raise
        wait.progress.detail(f"{volume_id}: {answer}")
        remember_mount(wait.context, volume, instance, mount_point, read_only=is_read)
        if answer.get("grown"):
            wait.context.session.ec2.delete_tags(Resources=[volume.id], Tags=[{"Key": tag.GROW}])
        elif answer.get("not_grown"):
            wait.progress.warn(
                f"the file system of {volume.name or volume.id} is smaller than the volume: {answer['not_grown']};"
                f" try again: runctl aws ebs resize {volume.id} --size {volume.size_gib}"
            )
        wait.progress.note(f"{volume.name or volume.id} is mounted at {mount_point}")


def _attached_id(instance: Instance, volume_key: str) -> VolumeId:
    if volume_key != DATA_VOLUME:
        return VolumeId(volume_key)
    for volume in instance.volumes:
        if volume.device == DATA_DEVICE:
            return volume.volume_id
    raise NotFound(
        f"{instance.id} has no volume at {DATA_DEVICE}, where its data volume was",
        hint=f"create one: runctl aws ebs create; or replace the machine: runctl aws terminate {instance.id}",
    )
