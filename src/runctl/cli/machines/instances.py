"""Looking at instances, and starting, stopping and ending them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import instances_of
from runctl.cli.framework.completion_memory import INSTANCES, Seen, remember
from runctl.cli.framework.each import for_each
from runctl.cli.framework.values import DURATION, wide_option
from runctl.cli.machines.resolve import find_instance, instance_argument
from runctl.core.clock import SystemClock
from runctl.core.errors import RunctlError, Unsupported
from runctl.core.machine_models import Instance, InstanceState, Market, Volume
from runctl.core.money import monthly
from runctl.core.run_models import RunPhase
from runctl.core.tags import NAME
from runctl.machines.finding import instance_ids
from runctl.providers.interface import require
from runctl.providers.registry import plugin
from runctl.render.instances import instance_details, instances_table
from runctl.render.tables import screen_of

if TYPE_CHECKING:
    from runctl.runs.records.run_record import RunRecord

READY_TIMEOUT = "15m"
"""A GPU machine with a large image takes some minutes to boot."""


def emit_instance(cli: Cli, instance: Instance) -> None:
    """One instance as a command's result."""
    _remember(cli, [instance])
    cli.emit(instance, text=lambda: instance_details(instance, SystemClock().now()), ids=[instance.id])


def emit_instances(
    cli: Cli, instances: Sequence[Instance], *, owners: bool = False, none: str = "", wide: bool = False
) -> None:
    """Several, as an array; ``none`` is said to a person when there are none."""
    _remember(cli, instances)
    if not instances and none:
        cli.progress.note(none)
    cli.emit(
        instances,
        text=lambda: instances_table(
            instances, SystemClock().now(), owners=owners, screen=screen_of(sys.stdout, wide=wide)
        ),
        ids=[instance.id for instance in instances],
    )


def _remember(
    cli: Cli, instances: Sequence[Instance], *, provider: str | None = None, everything: bool = False
) -> None:
    """The shell can offer them from now on."""
    if cli.is_preview or (provider is None and not instances):
        return
    name = provider or instances[0].provider
    if plugin(name).only_instance is not None:
        return
    remember(
        INSTANCES,
        [
            Seen(
                instance.id,
                instance.tags.get(NAME),
                ", ".join(filter(None, [instance.instance_type, instance.state.value, instance.project])),
                instance.state.is_over,
            )
            for instance in instances
        ],
        provider=name,
        region=cli.defaults(name).region,
        everything=everything,
    )


def list_command(provider: str) -> click.Command:
    """``list`` of a provider."""

    @click.command(cls=Command)
    @click.option(
        "--all",
        "include_ended",
        is_flag=True,
        help="Include ended machines, as long as the provider lists them.",
    )
    @click.option("--everyone", is_flag=True, help="Include those that runctl did not create.")
    @wide_option
    @click.pass_obj
    def command(cli: Cli, include_ended: bool, everyone: bool, wide: bool) -> None:
        """List instances."""
        found = cli.provider(provider).instances(everyone=everyone, include_ended=include_ended)
        _remember(cli, found, provider=provider, everything=True)
        emit_instances(cli, found, owners=everyone, none=_none(provider), wide=wide)

    return command


def _none(provider: str) -> str:
    can_create = "create" in plugin(provider).verbs
    return f"no instances; runctl {provider} create makes one" if can_create else "no instances"


def status_command(provider: str) -> click.Command:
    """``status`` of a provider."""

    @click.command(cls=Command)
    @instance_argument(provider)
    @click.pass_obj
    def command(cli: Cli, instance_id: str | None = None) -> None:
        """Show one instance."""
        emit_instance(cli, find_instance(cli, provider, instance_id))

    return command


def wait_command(provider: str) -> click.Command:
    """``wait`` of a provider."""

    @click.command(cls=Command)
    @instance_argument(provider)
    @click.option(
        "--timeout", type=DURATION, default=READY_TIMEOUT, show_default=True, help="Give up after this long."
    )
    @click.pass_obj
    def command(cli: Cli, instance_id: str, timeout: timedelta) -> None:
        """Wait until an instance can be used.

        That is: it runs, can be reached, has finished setting itself up, and its volumes are mounted.
        """
        instance = find_instance(cli, provider, instance_id)
        emit_instance(cli, cli.session.rentals(provider).finish(instance.id, timeout))

    return command


def start_command(provider: str) -> click.Command:
    """``start`` of a provider."""

    @click.command(cls=Command, exclusive=[("--no-wait", "--timeout")])
    @instance_argument(provider)
    @click.option("--no-wait", is_flag=True, help="Return as soon as it is starting.")
    @click.option(
        "--timeout", type=DURATION, default=READY_TIMEOUT, show_default=True, help="Give up after this long."
    )
    @click.pass_obj
    def command(cli: Cli, instance_id: str, no_wait: bool, timeout: timedelta) -> None:
        """Start a stopped instance."""
        (identifier,) = instance_ids(cli.session, provider, [instance_id])
        rentals = cli.session.rentals(provider)
        instance = rentals.start(identifier)
        if not no_wait:
            instance = rentals.wait_ready(instance.id, timeout)
        emit_instance(cli, instance)

    return command


def stop_command(provider: str) -> click.Command:
    """``stop`` of a provider."""

    @click.command(cls=Command)
    @click.argument(
        "references", metavar="INSTANCE...", nargs=-1, required=True, shell_complete=instances_of(provider)
    )
    @click.pass_obj
    def command(cli: Cli, references: tuple[str, ...]) -> None:
        """Stop instances, to start them again later.

        A stopped instance costs nothing by the hour, but its disks do. What was in memory is lost, and on some
        providers also what is on its own disk. Asks first if something would be lost, unless --yes is given. A
        running run is stopped with SIGTERM first, so that it can save.
        """
        from runctl.runs.run_logs.sources import fetch_logs

        rentals = cli.session.rentals(provider)
        ability = require(rentals.provider.stop_and_start)
        ids = instance_ids(cli.session, provider, references)
        found = [rentals.provider.instance(identifier) for identifier in ids]
        live = [instance for instance in found if instance.state is InstanceState.RUNNING]
        running = _record_runs(cli, live)
        losing = [] if ability.keeps_disks else live
        if losing:
            cli.progress.warn(f"what is on the own disk of {', '.join(each.id for each in losing)} is lost")
        if losing or running:
            cli.confirm(f"Stop {_described(live)}?")
        _save(cli, running)
        fetch_logs(cli.session, losing)
        for_each(cli, ids, rentals.stop, lambda done: emit_instances(cli, done))

    return command


def terminate_command(provider: str) -> click.Command:
    """``terminate`` of a provider."""

    @click.command(cls=Command)
    @click.argument(
        "references", metavar="INSTANCE...", nargs=-1, required=True, shell_complete=instances_of(provider)
    )
    @click.option("--dry-run", is_flag=True, help="Show what would be ended, and stop there.")
    @click.option("--wait", is_flag=True, help="Wait until they have ended and their volumes are free.")
    @click.option("--timeout", type=DURATION, default="15m", show_default=True, help="How long to --wait.")
    @click.pass_obj
    def command(
        cli: Cli, references: tuple[str, ...], *, dry_run: bool, wait: bool, timeout: timedelta
    ) -> None:
        """End instances for good; volumes stay.

        The disks that were created with an instance are deleted with it. Asks first, unless --yes is given. A running
        run is stopped with SIGTERM first, so that it can save; what it saves on a deleted disk is lost.
        """
        from runctl.machines.instances import ending

        ended = ending(cli.session, provider, references, wait=timeout if wait else None)
        found = ended.found
        live = [instance for instance in found if not instance.state.is_over]
        if dry_run:
            if live:
                cli.progress.note(_disks(cli, provider, live))
            cli.progress.note("would be ended:")
            emit_instances(cli, found)
            return
        if live:
            running = _record_runs(cli, live)
            cli.progress.note(_disks(cli, provider, live))
            cli.confirm(f"End {_described(live)} for good?")
            _save(cli, running)
            from runctl.runs.run_logs.sources import fetch_logs

            fetch_logs(cli.session, live)

        for_each(cli, found, ended.delete, lambda done: emit_instances(cli, done))

    return command


def _record_runs(cli: Cli, instances: Sequence[Instance]) -> list[RunRecord]:
    """Remember how runs on these machines ended while the machines can still say; those that go on are named."""
    from runctl.runs.asking import refresh

    known = {record.id: record for instance in instances for record in cli.store.list(instance=instance.id)}
    running = []
    for record in refresh(cli.session, [record for record in known.values() if not record.has_ended]):
        if not record.has_ended:
            running.append(record)
            cli.progress.warn(
                f"{record.id} ({record.script}) is {record.state.value} on {', '.join(record.machines)}"
            )
    return running


def _save(cli: Cli, running: Sequence[RunRecord]) -> None:
    """Runs have ended by SIGTERM and their own grace, and have saved what they save then; a failure is said."""
    from runctl.runs.stopping import stop_run

    for record in running:
        if record.state is RunPhase.UNKNOWN:
            continue  # its machine does not answer
        try:
            stop_run(cli.session, record)
        except RunctlError as error:
            cli.progress.warn(f"{record.id} could not be stopped first: {error.message}")


def _disks(cli: Cli, provider: str, instances: Sequence[Instance]) -> str:
    """What becomes of each disk, in a sentence or two."""
    ids = {instance.id for instance in instances}
    volumes = cli.provider(provider).volumes
    if isinstance(volumes, Unsupported):
        return "the disks that were made for it go with it"
    try:
        attached = [volume for volume in volumes.list() if ids & set(volume.instances)]
    except RunctlError as error:
        return f"what becomes of its disks could not be asked: {error.message}"
    going = [each for each in attached if each.ends_with_instance]
    staying = [each for each in attached if not each.ends_with_instance]
    parts = []
    if going:
        parts.append(f"deleted with it: {', '.join(map(_disk, going))}")
    if staying:
        stays = "stay" if staying[1:] else "stays"
        parts.append(f"{', '.join(map(_disk, staying))} {stays}, {monthly_cost(staying)}")
    return "; ".join(parts) or "it has no disks of runctl's"


def monthly_cost(volumes: Sequence[Volume]) -> str:
    """What they cost while they stay, as far as their provider tells. Pure."""
    known = [each.price_per_month for each in volumes if each.price_per_month is not None]
    cost = f"for {monthly(sum(known, Decimal(0)))}"
    if len(known) == len(volumes):
        return cost
    untold = "at a price that the provider does not tell"
    return (
        f"{cost} and {untold} of the others"
        if known
        else f"and {'are' if volumes[1:] else 'is'} billed {untold}"
    )


def _disk(volume: Volume) -> str:
    where = f" at {volume.mount_point}" if volume.mount_point else ""
    return f"{volume.name or volume.id} ({volume.size_gib} GiB{where})"


def _described(instances: Sequence[Instance]) -> str:
    return ", ".join(
        f"{i.id} ({', '.join(filter(None, (i.tags.get(NAME), i.instance_type, _market(i), i.project)))})"
        for i in instances
    )


def _market(instance: Instance) -> str:
    return "" if instance.market is Market.OWNED else instance.market.value
