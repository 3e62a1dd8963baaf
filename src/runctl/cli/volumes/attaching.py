"""Volumes on machines: attach, mount, detach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_instances, complete_volumes
from runctl.cli.framework.values import MOUNT_POINT, VOLUME
from runctl.cli.machines.resolve import find_instance, running_instance, transport_option
from runctl.cli.volumes.ebs import emit_volume
from runctl.core.errors import Conflict, UsageError
from runctl.core.machine_models import Volume
from runctl.machines.volumes import agents, attach, detach
from runctl.providers.interface import require
from runctl.providers.registry import volume_command
from runctl.storage.attaching import (
    MountOptions,
    mount,
)

F = TypeVar("F", bound=Callable[..., Any])


def mount_options(function: F) -> F:
    """Where and how: the parameters ``mount_point``, ``may_format``, ``fstype`` and ``read_only``."""
    for option in (
        click.option("--read-only", is_flag=True, help="Mount it read-only."),
        click.option(
            "--fstype",
            type=click.Choice(["ext4", "xfs"]),
            default="ext4",
            show_default=True,
            help="The type of a new file system; an existing one is used as it is.",
        ),
        click.option(
            "--format",
            "may_format",
            is_flag=True,
            help="Create a file system if it is blank, even if runctl did not create the volume.",
        ),
        click.option(
            "--mount-point",
            type=MOUNT_POINT,
            help="Where to mount it (default: where it was last, else /mnt/NAME).",
        ),
    ):
        function = option(function)
    return function


def attach_command(provider: str) -> click.Command:
    """``ebs attach`` of a provider."""

    @click.command(
        cls=Command,
        exclusive=[
            ("--no-mount", option) for option in ("--mount-point", "--format", "--fstype", "--read-only")
        ],
    )
    @click.argument("volume_name", metavar="VOLUME", type=VOLUME, shell_complete=complete_volumes)
    @click.argument("instance_id", metavar="INSTANCE", shell_complete=complete_instances)
    @mount_options
    @click.option("--no-mount", is_flag=True, help="Attach without mounting.")
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        volume_name: str,
        instance_id: str,
        mount_point: str | None,
        no_mount: bool,
        may_format: bool,
        fstype: str,
        read_only: bool,
        transport: str | None,
    ) -> None:
        """Attach a volume to an instance and mount it.

        A blank volume that runctl created gets a file system; any other one only with --format, and only if it
        is blank. A volume with --multi-attach that another machine has is mounted with --read-only, on all of them.
        """
        require(cli.provider(provider).volumes)
        instance = running_instance(cli, provider, instance_id)
        options = MountOptions(mount_point, fstype, may_format=may_format, read_only=read_only)
        attached = attach(
            cli.session, provider, volume_name, instance, None if no_mount else options, transport=transport
        )
        emit_volume(cli, provider, attached)

    return command


def mount_command(provider: str) -> click.Command:
    """``ebs mount`` of a provider."""

    @click.command(cls=Command)
    @click.argument("volume_name", metavar="VOLUME", type=VOLUME, shell_complete=complete_volumes)
    @mount_options
    @click.option(
        "--instance",
        "instance_id",
        metavar="INSTANCE",
        shell_complete=complete_instances,
        help="The machine to mount it on, if several have it.",
    )
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        volume_name: str,
        mount_point: str | None,
        may_format: bool,
        fstype: str,
        read_only: bool,
        instance_id: str | None,
        transport: str | None,
    ) -> None:
        """Mount a volume that is attached.

        On the machine that has it, now and after a restart. The rules are those of attach.
        """
        cloud = cli.provider(provider)
        volume = require(cloud.volumes).find(volume_name)
        instance = running_instance(cli, provider, instance_id or _only_instance(provider, volume))
        if instance.id not in volume.instances:
            raise Conflict(
                f"volume {volume.name or volume.id} is not attached to {instance.id}",
                hint=volume_command(provider, "attach", volume.name or volume.id, instance.id),
                code="not-attached",
            )
        options = MountOptions(mount_point, fstype, may_format=may_format, read_only=read_only)
        emit_volume(
            cli,
            provider,
            mount(cloud, agents(cli.session, transport), volume, instance, options, cli.progress).volume,
        )

    return command


def _only_instance(provider: str, volume: Volume) -> str:
    name = volume.name or volume.id
    if not volume.instances:
        raise Conflict(
            f"volume {name} is attached to no machine",
            hint=volume_command(provider, "attach", name, "INSTANCE"),
            code="not-attached",
        )
    if len(volume.instances) > 1:
        raise UsageError(
            f"volume {name} is on {len(volume.instances)} machines: {', '.join(volume.instances)}",
            hint="say which: --instance ID",
        )
    return volume.instances[0]


def detach_command(provider: str) -> click.Command:
    """``ebs detach`` of a provider."""

    @click.command(cls=Command)
    @click.argument("volume_name", metavar="VOLUME", type=VOLUME, shell_complete=complete_volumes)
    @click.option(
        "--force",
        is_flag=True,
        help="Detach it even if it is in use or the machine does not answer; unwritten data is lost.",
    )
    @click.option(
        "--instance",
        "instance_id",
        metavar="INSTANCE",
        shell_complete=complete_instances,
        help="The machine to detach it from, if several have it.",
    )
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli, *, volume_name: str, force: bool, instance_id: str | None, transport: str | None
    ) -> None:
        """Unmount a volume and detach it.

        What was written is flushed first. A volume in use is refused; the error names what uses it.
        """
        instance = None if instance_id is None else find_instance(cli, provider, instance_id)
        detached = detach(
            cli.session, provider, volume_name, instance=instance, force=force, transport=transport
        )
        emit_volume(cli, provider, detached.volume)

    return command
