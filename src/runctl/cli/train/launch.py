"""``launch``: a machine is rented, the script trained on it, its results brought home, and the machine given back."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import PassthroughCommand
from runctl.cli.framework.completion import instances_of
from runctl.cli.framework.values import DURATION
from runctl.cli.machines.create import SECTIONS as CREATE_SECTIONS
from runctl.cli.machines.create_options import MachineOptions, machine_options, sections_with
from runctl.cli.machines.instances import READY_TIMEOUT
from runctl.cli.machines.renting import confirm_renting, highest_price, may_be_asked
from runctl.cli.machines.resolve import find_instance, transport_option
from runctl.cli.train.deadline_options import FLAGS, deadline_options, deadline_request
from runctl.cli.train.help import SECTIONS as TRAIN_SECTIONS
from runctl.cli.train.run_options import RunOptions, run_options
from runctl.core.errors import UsageError
from runctl.core.machine_models import Market
from runctl.machines.nodes import Engine, parse_nodes
from runctl.providers.registry import plugin

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Launch(PassthroughCommand):
    rest_name = "ARGS"


AFTER_RUN = "After the run"


def launch_command(provider: str) -> click.Command:
    """``launch`` of a provider: one that rents its machines, or one whose machines are there."""
    return _renting(provider) if "create" in plugin(provider).verbs else _on_own_machine(provider)


def _renting(provider: str) -> click.Command:
    @click.command(
        cls=_Launch,
        sections=_sections(provider),
        examples=_examples(provider),
        exclusive=[
            ("--dockerfile", "--dockerfile-search"),
            ("--results", "--no-results"),
            ("--no-results", "--fetch-within"),
            ("--keep", "--keep-on-failure"),
            ("--keep", "--fetch-within"),
            ("--deadline", "--spot-fallback"),
            ("--unattended", "--keep"),
            ("--unattended", "--wait"),
            ("--nodes", "--contract"),
        ],
        needs=[
            ("--data-mount-point", "--data-volume-size"),
            ("--engine", "--nodes"),
            ("--engine-args", "--engine"),
            ("--policy", "--deadline"),
        ],
    )
    @click.argument("script", type=click.Path(path_type=Path), required=False)
    @machine_options(provider)
    @run_options(provider)
    @deadline_options
    @click.option(
        "--nodes",
        metavar="N|N:M",
        help="Rent N machines for the run, in one zone and in a network of their own: all, or none. With N:M as"
        " many as are available, and not fewer than N.",
    )
    @click.option(
        "--engine",
        type=click.Choice([each.value for each in Engine]),
        help="What starts the script on several machines; none only sets ranks and addresses.",
    )
    @click.option(
        "--engine-args",
        metavar="TEXT",
        help="More options of the engine's own, such as '--nproc-per-node 1' for torchrun.",
    )
    @_results_option(rents=True)
    @click.option(
        "--no-results",
        is_flag=True,
        help="Fetch no results: what is not on a volume is lost with the machine.",
    )
    @click.option(
        "--fetch-within",
        type=DURATION,
        metavar="TIME",
        default="12h",
        show_default=True,
        help="How long the machine waits for its results to be fetched; then it ends itself.",
    )
    @click.option(
        "--unattended",
        is_flag=True,
        help="Leave the run to a group of the provider's that rents the machine, and the next one after an"
        " interruption, with no computer watching. Needs --checkpoint-s3.",
    )
    @click.option("--keep", is_flag=True, help="Keep the machine; it is billed until it is terminated.")
    @click.option(
        "--keep-on-failure",
        type=DURATION,
        metavar="TIME",
        help="Keep the machine for this long, such as 1h, if the run does not complete.",
    )
    @_wait_option
    @click.option(
        "--ready-timeout",
        type=DURATION,
        default=READY_TIMEOUT,
        show_default=True,
        help="Give up waiting for the machine.",
    )
    @click.option("--dry-run", is_flag=True, help="Show the plan with its price, and stop there.")
    @click.option("--confirm", is_flag=True, help="Ask before renting, in the sandbox too.")
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli,
        script: Path | None,
        wanted: MachineOptions,
        run: RunOptions,
        deadline: str | None,
        estimate: timedelta | None,
        policy: str | None,
        nodes: str | None,
        engine: str | None,
        engine_args: str | None,
        results: str | None,
        no_results: bool,
        fetch_within: timedelta,
        unattended: bool,
        keep: bool,
        keep_on_failure: timedelta | None,
        wait: bool,
        ready_timeout: timedelta,
        dry_run: bool,
        confirm: bool,
        transport: str | None,
        rest: tuple[str, ...],
    ) -> int:
        """Train a script from start to finish: rent a machine if necessary, fetch the results, give it back.

        Shows the plan with its price first, and asks before it rents on a terminal; --yes answers. Problems in the
        project are found before anything is rented. A run that has started continues when this computer sleeps, and
        its machine ends itself when the run has ended and its results are safe, whether or not anyone watches.
        """
        from runctl.cli.train.launched import carry_out_launch, show_launch_plan
        from runctl.render.plans.machine_plans import types_text
        from runctl.runs.launch.launch_plan import AfterRun
        from runctl.runs.launch.launching import LaunchRequest, launching

        after = AfterRun(
            results=results,
            bring_results=not no_results,
            keep=keep,
            keep_on_failure=keep_on_failure or timedelta(0),
            fetch_within=fetch_within,
            follows=wait,
        )
        train = run.request(cli, provider, script, rest)
        by = deadline_request(deadline, estimate, policy, spot=wanted.spot)
        if by is not None and run.auto_resume is False:
            raise UsageError(
                "--deadline moves the run to another machine in time, and --no-auto-resume forbids that",
                hint="leave one of them out",
            )
        several = None if nodes is None else parse_nodes(nodes, engine)
        if several is not None and engine_args:
            several = replace(several, options=tuple(shlex.split(engine_args)))
        request = LaunchRequest(
            train, after, run.resume_from, run.image_options, transport, by, estimate, several
        )
        machine = wanted.request(cli.session, provider, (), terminal=may_be_asked(cli))
        if run.auto_resume is None and (by is not None or machine.market is Market.SPOT):
            request = replace(
                request, train=replace(train, recovery=replace(train.recovery, auto_resume=True))
            )
        if unattended and cli.is_preview:
            raise UsageError(
                "--unattended puts the run into a store and leaves it to a group, which is not shown as calls",
                hint="leave it out to see what renting the machine takes",
            )
        if unattended:
            from runctl.cli.train.unattended import launch_unattended

            return launch_unattended(cli, provider, request, machine, dry_run=dry_run, confirm=confirm)
        with launching(cli.session, provider, request, machine) as launch:
            if dry_run:
                show_launch_plan(cli, launch.plan)
                return 0
            if cli.is_preview:
                launch.show(ready_timeout)
                return 0

            def may_rent() -> None:
                plan = launch.plan.machine
                if plan is not None and launch.new is not None and launch.new.existing is None:
                    count = launch.plan.nodes.nodes.most if launch.plan.nodes is not None else 1
                    what = f"this {types_text(plan)}" if count == 1 else f"these {count} {types_text(plan)}"
                    confirm_renting(cli, provider, what, highest_price(plan, count), always=confirm)

            started = carry_out_launch(cli, launch, may_rent=may_rent, ready_timeout=ready_timeout)
        if wait and started.record.nodes is not None:
            from runctl.cli.train.launched_nodes import nodes_to_the_end

            return nodes_to_the_end(cli, started.record)
        return started.to_the_end() if wait else started.left_alone()

    return command


def _on_own_machine(provider: str) -> click.Command:
    @click.command(
        cls=_Launch,
        sections=_sections_there(),
        examples=_examples(provider),
        exclusive=[("--dockerfile", "--dockerfile-search")],
    )
    @click.argument("script", type=click.Path(path_type=Path), required=False)
    @_instance_option(provider)
    @run_options(provider)
    @_results_option(rents=False)
    @_wait_option
    @click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli,
        script: Path | None,
        run: RunOptions,
        results: str | None,
        wait: bool,
        dry_run: bool,
        transport: str | None,
        rest: tuple[str, ...],
        instance_id: str | None = None,
    ) -> int:
        """Train a script from start to finish: rent a machine if necessary, fetch the results, give it back.

        The machine exists already: nothing is rented, and nothing is given back.
        """
        from runctl.cli.train.launched import carry_out_launch, show_launch_plan
        from runctl.runs.launch.launch_plan import AfterRun
        from runctl.runs.launch.launching import LaunchRequest, launch_on

        train = run.request(cli, provider, script, rest)
        after = AfterRun(results=results, follows=wait)
        request = LaunchRequest(train, after, run.resume_from, run.image_options, transport)
        launch = launch_on(cli.session, find_instance(cli, provider, instance_id), request)
        if dry_run:
            show_launch_plan(cli, launch.plan)
            return 0
        started = carry_out_launch(cli, launch)
        return started.to_the_end() if wait else started.left_alone()

    return command


def _results_option(*, rents: bool) -> Decorator:
    home = "Bring output, checkpoints and log to FOLDER/RUN: at the end with --wait, else with runs results"
    if not rents:
        return click.option(
            "--results", metavar="FOLDER", help=f"{home} (default: they stay where they are)."
        )
    return click.option(
        "--results",
        metavar="FOLDER|s3://…",
        help=f"{home}; or have the machine put them into an object store (default: they stay on the volume that the run"
        " saves to; without one, the folder results).",
    )


_wait_option: Decorator = click.option(
    "--wait",
    is_flag=True,
    help="Follow the log, fetch the results, wait until the machine is given back, and exit with the script's own"
    " code.",
)


def _instance_option(provider: str) -> Decorator:
    if plugin(provider).only_instance is not None:
        return lambda function: function
    return click.option(
        "--instance",
        "instance_id",
        metavar="ID|NAME",
        required=True,
        shell_complete=instances_of(provider),
        help="The machine.",
    )


def _sections_there() -> dict[str, tuple[str, ...]]:
    """The titles of ``train``, where nothing is rented."""
    watching = ("--watch", "--restart-on-change")
    found = {
        title: tuple(option for option in options if option not in watching)
        for title, options in TRAIN_SECTIONS.items()
    }
    return {**found, AFTER_RUN: ("--results",)}


def _sections(provider: str) -> dict[str, tuple[str, ...]]:
    """The titles of ``create`` and of ``train``, with what both have under one of them."""
    own = sections_with(plugin(provider), CREATE_SECTIONS)
    own.pop("This command", None)
    found = _sections_there()
    del found[AFTER_RUN]
    for title, options in own.items():
        found[title] = (*found.get(title, ()), *options)
    found["The run"] = (*found["The run"], "--ready-timeout", "--confirm", "--unattended")
    found["Deadline"] = (*FLAGS, "--progress-pattern")
    found["The run"] = tuple(option for option in found["The run"] if option != "--progress-pattern")
    after = ("--results", "--no-results", "--fetch-within", "--keep", "--keep-on-failure")
    return {
        "Machine": found.pop("Machine"),
        "Several machines": ("--nodes", "--engine", "--engine-args"),
        **found,
        AFTER_RUN: after,
    }


def _examples(provider: str) -> tuple[tuple[str, str], ...]:
    launch = f"runctl {provider} launch"
    if "create" not in plugin(provider).verbs:
        where = "" if plugin(provider).only_instance is not None else " --instance NAME"
        return ((f"{launch}{where} train.py --results results --wait", "train, and copy the results there"),)
    named = plugin(provider).help_examples
    spot = " --spot" if named.spot else ""
    unattended = (
        f"{launch} train.py{spot} --unattended --checkpoint-s3 s3://mine/runs",
        "it goes on after interruptions, too, with nobody watching",
    )
    return (
        (
            f"{launch} train.py{spot} --checkpoint-s3 s3://mine/runs --wait -- --epochs 5",
            "from start to finish, with the results in the folder results",
        ),
        (f"{launch} train.py --ttl 12h --keep-on-failure 1h", "the machine ends itself with nobody watching"),
        *((unattended,) if named.unattended else ()),
        (f"{launch} train.py --dry-run", "show the plan with its price, and rent nothing"),
    )
