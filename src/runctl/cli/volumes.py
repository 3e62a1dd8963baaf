"""Block volumes: create, list, attach, detach, delete."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runctl.cli.context import Cli
from runctl.cli.framework import Command
from runctl.cli.machines import running_instance, transport_option, wanted_transport
from runctl.cli.project import project_label
from runctl.cli.values import MOUNT_POINT, parse_tags
from runctl.core.errors import RunctlError, UsageError
from runctl.core.models import Instance, Volume, VolumeState
from runctl.providers.interface import VolumeRequest
from runctl.render.plans import plan_document, volume_plan_text
from runctl.render.tables import wants_style
from runctl.render.things import volume_details, volumes_table
from runctl.storage.attaching import AgentOn, MountWish, attach_and_mount, unmount_and_detach

if TYPE_CHECKING:
    from runctl.transport.agent import AgentClient


def _emit_volume(cli: Cli, volume: Volume) -> None:
    cli.emit(volume, text=lambda: volume_details(volume), ids=[volume.id])


def _emit_volumes(cli: Cli, volumes: Sequence[Volume], none: str = "") -> None:
    if not volumes and none:
        cli.progress.note(none)
    cli.emit(
        volumes,
        text=lambda: volumes_table(volumes, bold=wants_style(sys.stdout)),
        ids=[volume.id for volume in volumes],
    )


def _agents(cli: Cli, transport: str | None) -> AgentOn:
    """How to reach the agent of an instance."""

    def agent_on(instance: Instance) -> AgentClient:
        choice = wanted_transport(cli, instance, transport)
        return cli.provider(instance.provider).agent(instance, choice, cli.progress)

    return agent_on


def create_command(provider: str) -> click.Command:
    """``ebs create`` of a provider."""

    @click.command(cls=Command)
    @click.option("--size", type=click.IntRange(min=1), required=True, metavar="GIB", help="Its size.")
    @click.option("--name", metavar="NAME", help="A name to call it by; unique among yours.")
    @click.option(
        "--type", "kind", default="gp3", show_default=True, metavar="TYPE", help="The EBS volume type."
    )
    @click.option("--iops", type=click.IntRange(min=1), help="I/O operations a second.")
    @click.option("--throughput", type=click.IntRange(min=1), metavar="MIB", help="MiB a second.")
    @click.option(
        "--zone", "--availability-zone", metavar="ZONE", help="Its availability zone, which it cannot leave."
    )
    @click.option("--snapshot", metavar="ID", help="Begin with the data of a snapshot.")
    @click.option("--persistent", is_flag=True, help="Protect it: delete and cleanup refuse it.")
    @click.option(
        "--project",
        metavar="NAME",
        help="Tag it as this project's; else the configuration's, or the folder's name.",
    )
    @click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, help="A tag; repeatable.")
    @click.option("--dry-run", is_flag=True, help="Show the plan with its price, and stop there.")
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        size: int,
        name: str | None,
        kind: str,
        iops: int | None,
        throughput: int | None,
        zone: str | None,
        snapshot: str | None,
        persistent: bool,
        project: str | None,
        tags: tuple[str, ...],
        dry_run: bool,
    ) -> None:
        """Create a volume.

        It is encrypted, and holds no file system until it is mounted for the first time.
        """
        if name is not None and (not name.strip() or name.startswith(("vol-", "/"))):
            raise UsageError(f"--name {name!r}: a name that cannot be told from an id or a path")
        volumes = cli.volume_provider(provider)
        plan = volumes.plan_volume(
            VolumeRequest(
                size_gib=size,
                name=name,
                type=kind,
                iops=iops,
                throughput=throughput,
                zone=zone,
                persistent=persistent,
                project=project_label(project, cli.config, Path.cwd()),
                snapshot_id=snapshot,
                tags=parse_tags(tags),
            )
        )
        if dry_run:
            cli.emit(plan_document(plan), text=lambda: volume_plan_text(plan))
            return
        cli.say(volume_plan_text(plan))
        _emit_volume(cli, volumes.create_volume(plan, cli.progress))

    return command


def list_command(provider: str) -> click.Command:
    """``ebs list`` of a provider."""

    @click.command(cls=Command)
    @click.option("--everyone", is_flag=True, help="Those that runctl did not create too.")
    @click.pass_obj
    def command(cli: Cli, everyone: bool) -> None:
        """List volumes."""
        found = cli.volume_provider(provider).volumes(everyone=everyone)
        _emit_volumes(cli, found, f"no volumes; runctl {provider} ebs create --size GIB makes one")

    return command


def attach_command(provider: str) -> click.Command:
    """``ebs attach`` of a provider."""

    @click.command(cls=Command)
    @click.argument("volume_word", metavar="VOLUME")
    @click.argument("instance_id", metavar="INSTANCE")
    @click.option(
        "--mount-point", type=MOUNT_POINT, help="Where to mount it; else where it was last, else /mnt/NAME."
    )
    @click.option("--no-mount", is_flag=True, help="Attach it only.")
    @click.option(
        "--format",
        "may_format",
        is_flag=True,
        help="Make a file system if it is blank, though it is not runctl's.",
    )
    @click.option(
        "--fstype",
        type=click.Choice(["ext4", "xfs"]),
        default="ext4",
        show_default=True,
        help="What a new file system is; one that is there is taken as it is.",
    )
    @click.option("--read-only", is_flag=True, help="Mount it read-only.")
    @transport_option
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        volume_word: str,
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
        is blank.
        """
        if no_mount and (mount_point or may_format or read_only):
            raise UsageError("--no-mount contradicts --mount-point, --format and --read-only")
        volumes = cli.volume_provider(provider)
        instance = running_instance(cli, provider, instance_id)
        volume = volumes.volume(volume_word)
        if no_mount:
            attached = volumes.attach_volume(volume.id, instance.id, cli.progress)
        else:
            wish = MountWish(mount_point, fstype, may_format=may_format, read_only=read_only)
            agent_on = _agents(cli, transport)
            attached = attach_and_mount(volumes, agent_on, volume, instance, wish, cli.progress).volume
        _emit_volume(cli, attached)

    return command


def detach_command(provider: str) -> click.Command:
    """``ebs detach`` of a provider."""

    @click.command(cls=Command)
    @click.argument("volume_word", metavar="VOLUME")
    @click.option(
        "--force",
        is_flag=True,
        help="Take it although it is in use or the machine does not answer; what was not written is lost.",
    )
    @transport_option
    @click.pass_obj
    def command(cli: Cli, volume_word: str, force: bool, transport: str | None) -> None:
        """Unmount a volume and detach it.

        What was written is flushed first. A volume in use is refused, naming what uses it.
        """
        volumes = cli.volume_provider(provider)
        volume = volumes.volume(volume_word)
        agent_on = _agents(cli, transport)
        detached = unmount_and_detach(volumes, agent_on, volume, force=force, progress=cli.progress)
        _emit_volume(cli, detached.volume)

    return command


def delete_command(provider: str) -> click.Command:
    """``ebs delete`` of a provider."""

    @click.command(cls=Command)
    @click.argument("volume_words", metavar="VOLUME...", nargs=-1, required=True)
    @click.option("--dry-run", is_flag=True, help="Show what would be deleted, and stop there.")
    @click.pass_obj
    def command(cli: Cli, volume_words: tuple[str, ...], dry_run: bool) -> None:
        """Delete volumes and the data on them.

        Asks first, unless --yes is given. Attached and persistent volumes are refused.
        """
        volumes = cli.volume_provider(provider)
        found = list({volume.id: volume for volume in map(volumes.volume, volume_words)}.values())
        if dry_run:
            cli.progress.note("would be deleted:")
            _emit_volumes(cli, found)
            return
        described = ", ".join(
            f"{v.id} ({', '.join(part for part in (v.name, f'{v.size_gib} GiB') if part)})" for v in found
        )
        cli.confirm(f"Delete {described} and the data there for good?")
        failed: list[RunctlError] = []
        gone: list[Volume] = []
        for volume in found:
            try:
                volumes.delete_volume(volume.id, cli.progress)
                gone.append(replace(volume, state=VolumeState.DELETED))
            except RunctlError as error:
                failed.append(error)
        if gone or not failed:
            _emit_volumes(cli, gone)
        for another in failed[1:]:
            cli.progress.warn(another.message)
        if failed:
            raise failed[0]

    return command
