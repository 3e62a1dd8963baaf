"""Volumes become larger and faster: resize."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_volumes
from runctl.cli.framework.values import GIB, VOLUME
from runctl.cli.machines.resolve import transport_option
from runctl.cli.volumes.ebs import dry_run_option, emit_volume, shown, type_options
from runctl.machines.volumes import larger_volume
from runctl.providers.abilities.volume_plans import ResizeRequest
from runctl.providers.registry import volume_group
from runctl.render.plans.volume_plans import resize_plan_text
from runctl.storage.growing import Growth

F = TypeVar("F", bound=Callable[..., Any])


def resize_command(provider: str) -> click.Command:
    """``volumes resize`` of a provider."""
    plain = volume_group(provider).chosen_at_creation

    def nothing_else(function: F) -> F:
        return function

    @click.command(cls=Command)
    @click.argument("volume_name", metavar="VOLUME", type=VOLUME, shell_complete=complete_volumes)
    @click.option("--size", type=GIB, metavar="GIB", help="The new size; volumes only grow.")
    @(nothing_else if plain else type_options(provider, "as it is"))
    @(nothing_else if plain else transport_option(provider))
    @dry_run_option
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        volume_name: str,
        size: int | None,
        kind: str | None = None,
        iops: int | None = None,
        throughput: int | None = None,
        transport: str | None = None,
        dry_run: bool,
    ) -> None:
        """Make a volume larger or faster while it is in use.

        Or change its type, where possible. On the machine that has it, partition and file system grow with it. If
        interrupted, the same command finishes the job. Asks first, unless --yes is given: volumes cannot shrink.
        """
        prepared = larger_volume(
            cli.session,
            provider,
            volume_name,
            ResizeRequest(size, kind, iops, throughput),
            transport=transport,
        )
        plan = prepared.plan
        if shown(cli, plan, resize_plan_text(plan), dry_run=dry_run):
            return
        if plan.changes:
            cli.confirm(f"Change {plan.volume.name or plan.volume.id}: {', '.join(plan.changes)}?")
        done = prepared.carry_out()
        if done.growth is not None:
            cli.progress.note(_growth(done.growth))
        emit_volume(cli, provider, done.volume)

    return command


def _growth(growth: Growth) -> str:
    if growth.fstype is None:
        return "there is no file system on it yet"
    where = growth.mount_point or "not mounted"
    if growth.after_bytes <= growth.before_bytes and growth.mount_point is not None:
        return f"its {growth.fstype} file system ({where}) fills it already"
    before, after = (f"{size / (1 << 30):.2f}" for size in (growth.before_bytes, growth.after_bytes))
    if growth.mount_point is None:
        return f"its {growth.fstype} file system ({where}) fills it"
    partition = "its partition and " if growth.partition_grown else ""
    return f"{partition}its {growth.fstype} file system ({where}) grew from {before} to {after} GiB"
