"""``launch --unattended`` as a person sees it: the plan, the group, and how to look after the run from here."""

from __future__ import annotations

from dataclasses import replace

from runctl.cli.context import Cli
from runctl.cli.machines.renting import confirm_renting, highest_price
from runctl.cli.train.launched import show_launch_plan
from runctl.core.clock import SystemClock
from runctl.providers.capacity import FallbackMode, SpotFallback
from runctl.providers.instance_plans import InstanceRequest
from runctl.render.plans.launch_plan import launch_plan_text
from runctl.render.plans.machine_plans import types_text
from runctl.runs.launch.launching import LaunchRequest
from runctl.runs.records.shown_run import as_run
from runctl.runs.unattended.launching import launching_unattended


def launch_unattended(
    cli: Cli, provider: str, request: LaunchRequest, machine: InstanceRequest, *, dry_run: bool, confirm: bool
) -> int:
    """The plan is shown, somebody agreed where that is needed, and the run is left to its group."""
    if machine.fallback.mode is FallbackMode.ASK:
        # The default at a terminal; nobody will be there to be asked.
        machine = replace(machine, fallback=SpotFallback())
    with launching_unattended(cli.session, provider, request, machine) as launch:
        if dry_run:
            show_launch_plan(cli, launch.plan)
            return 0
        cli.say(launch_plan_text(launch.plan))
        if launch.creation.existing is None:
            count, types = launch.group.count, types_text(launch.group.machine)
            these = f"this {types}" if count == 1 else f"these {count} {types}"
            what = f"{these}, again and again until the run has ended"
            price = highest_price(launch.group.machine, count)
            confirm_renting(cli, provider, what, price, always=confirm)
        record = launch.start()
    cli.emit(as_run(record, SystemClock().now()), text=lambda: record.id, ids=[record.id])
    cli.progress.note(
        f"{record.id} is left to {launch.group.name}: this computer is not needed any longer"
        f"; see how it is from anywhere that has started it: runctl runs show {record.id}"
    )
    cli.progress.note(f"runctl runs stop {record.id} ends it, and its group")
    return 0
