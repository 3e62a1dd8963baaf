"""``create``: plan, show, rent, wait."""

from __future__ import annotations

import functools
import shlex
from dataclasses import replace
from datetime import timedelta
from typing import Any

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import types_of
from runctl.cli.framework.options import with_options
from runctl.cli.framework.values import DURATION
from runctl.cli.machines.capacity_options import FLAGS
from runctl.cli.machines.create_options import MachineOptions, machine_options, sections_with
from runctl.cli.machines.instances import READY_TIMEOUT, emit_instance
from runctl.cli.machines.renting import ask_fallback, confirm_renting, highest_price, may_be_asked
from runctl.cli.machines.volume_options import FLAGS as VOLUME_FLAGS
from runctl.cli.machines.volume_options import volume_flags, volumes_of
from runctl.machines.expected_costs import estimate_warning
from runctl.machines.instances import new_machine
from runctl.providers.registry import plugin
from runctl.render.plans.machine_plans import create_plan_document, create_plan_text, types_text

SECTIONS = {
    "Machine": ("--instance-type", "--spot", "--root-volume-size", "--zone"),
    "Limits": ("--ttl", "--budget", "--idle-timeout", "--over-budget"),
    "What will do": FLAGS,
    "Volumes": (*VOLUME_FLAGS, "--data-volume-size", "--data-mount-point"),
    "Access": (),
    "Names": ("--name", "--project", "--tag"),
    "This command": ("--estimate", "--no-wait", "--timeout", "--dry-run", "--confirm"),
}


def examples(provider: str) -> tuple[tuple[str, str], ...]:
    """Command lines, each with what it does."""
    named, group = plugin(provider).help_examples, plugin(provider).volumes
    create = f"runctl {provider} create"
    of_type = " ".join([create, *named.instance_types[:1]])
    spot, kind = (" --spot", "spot machine") if named.spot else ("", "machine")
    gpu = f"--gpu {shlex.quote(named.gpu)}"
    volume = (f"{create} {gpu} --volume datasets:/data", "with a volume at /data")
    return (
        (f"{of_type}{spot} --name digits", f"a {kind} that other commands know as digits"),
        (f"{create} {gpu}{spot}", "any type with such a GPU, wherever there is capacity"),
        *((volume,) if group is not None else ()),
        (f"{of_type} --dry-run", "show the plan with its price, and rent nothing"),
    )


def create_command(provider: str) -> click.Command:
    """``create`` of a provider."""
    described = plugin(provider)

    @click.command(
        cls=Command,
        sections=sections_with(described, SECTIONS),
        examples=examples(provider),
        exclusive=[("--no-wait", "--timeout")],
        needs=[("--data-mount-point", "--data-volume-size")],
    )
    @click.argument(
        "type_argument", metavar="[INSTANCE_TYPE]", required=False, shell_complete=types_of(provider)
    )
    @machine_options(provider)
    @functools.partial(
        with_options,
        options=volume_flags(
            provider,
            attached="Attach and mount a volume; repeatable.",
            mounted="Where to mount each --ebs-volume, in turn (default: where it was last, else /mnt/NAME).",
        ),
    )
    @click.option(
        "--timeout", type=DURATION, default=READY_TIMEOUT, show_default=True, help="Give up waiting."
    )
    @click.option("--estimate", type=DURATION, help="How long it will run; the plan shows what that costs.")
    @click.option("--no-wait", is_flag=True, help="Return as soon as it exists.")
    @click.option("--dry-run", is_flag=True, help="Show the plan with its price, and stop there.")
    @click.option("--confirm", is_flag=True, help="Ask before renting, in the sandbox too.")
    @click.pass_obj
    def command(
        cli: Cli,
        /,
        *,
        type_argument: str | None,
        wanted: MachineOptions,
        timeout: timedelta,
        estimate: timedelta | None,
        no_wait: bool,
        dry_run: bool,
        confirm: bool,
        **volumes: Any,
    ) -> None:
        """Rent an instance and wait until it can be used.

        Shows the plan with its price first, and asks before it rents on a terminal; --yes answers. In the sandbox it
        does not ask. Options that are not given come from the configuration.
        """
        if type_argument:
            wanted = replace(wanted, instance_types=(type_argument, *wanted.instance_types))
        request = wanted.request(cli.session, provider, volumes_of(**volumes), terminal=may_be_asked(cli))
        with new_machine(cli.session, provider, request) as machine:
            plan = machine.plan
            warning = estimate_warning(plan, estimate)
            if warning is not None:
                cli.progress.warn(warning)
            if dry_run:
                cli.emit(
                    create_plan_document(plan, estimate), text=lambda: create_plan_text(plan, "", estimate)
                )
                return
            cli.say(create_plan_text(plan, "", estimate))
            if machine.existing is None:
                confirm_renting(
                    cli, provider, f"this {types_text(plan)}", highest_price(plan), always=confirm
                )
            instance = machine.rent(
                wait=None if no_wait else timeout, ask_fallback=lambda *asked: ask_fallback(cli, *asked)
            )
        emit_instance(cli, instance)

    return command
