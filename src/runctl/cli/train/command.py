"""``train``, ``monitor`` and ``processes`` of a provider."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command, PassthroughCommand
from runctl.cli.framework.completion import complete_runs
from runctl.cli.framework.values import LINES, RUN, node_option, wide_option
from runctl.cli.machines.resolve import (
    find_instance,
    instance_argument,
    transport_option,
)
from runctl.cli.train.help import SECTIONS, train_examples
from runctl.cli.train.run_options import RunOptions, run_options


class _Train(PassthroughCommand):
    rest_name = "ARGS"


def train_command(provider: str) -> click.Command:
    """``train`` of a provider."""

    @click.command(
        cls=_Train,
        sections=SECTIONS,
        examples=train_examples(provider),
        exclusive=[("--dockerfile", "--dockerfile-search")],
    )
    @instance_argument(provider)
    @click.argument("script", type=click.Path(path_type=Path), required=False)
    @run_options(provider)
    @click.option(
        "--wait", is_flag=True, help="Follow the log to the end and exit with the script's own code."
    )
    @click.option(
        "--watch",
        is_flag=True,
        help="Follow the run, and sync the project on every save; r restarts the run.",
    )
    @click.option("--restart-on-change", is_flag=True, help="With --watch: restart the run on every save.")
    @click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli,
        script: Path | None,
        run: RunOptions,
        wait: bool,
        watch: bool,
        restart_on_change: bool,
        dry_run: bool,
        transport: str | None,
        rest: tuple[str, ...],
        instance_id: str | None = None,
    ) -> int:
        """Train a script on an instance.

        What follows -- goes to the script exactly as it is; with --command it is the command itself. The run
        continues when this computer sleeps or the connection breaks; monitor follows it again.
        """
        from runctl.cli.train.carry_out import carry_out, check_watch, show_plan
        from runctl.runs.train.machine_image import in_machines_image
        from runctl.runs.train.project_plan import plan_project
        from runctl.runs.train.resume_point import find_checkpoint
        from runctl.runs.train.training import Training

        request = run.request(cli, provider, script, rest)
        project = plan_project(request)
        instance = find_instance(cli, provider, instance_id)
        request, project = in_machines_image(cli.session, request, project, instance, run.image_options)
        on_save = check_watch(project, watch=watch, restart_on_change=restart_on_change)
        if run.resume_from is not None:
            request = replace(request, resume=find_checkpoint(cli.session, run.resume_from, instance))
        training = Training(cli.session, request, project, instance, transport, run.image_options)
        plan = training.plan()
        if dry_run:
            show_plan(cli, plan)
            return 0
        return carry_out(cli, training, plan, wait=wait, on_save=on_save)

    return command


def monitor_command(provider: str) -> click.Command:
    """``monitor`` of a provider."""

    @click.command(cls=Command, exclusive=[("--wait", "--no-follow")])
    @instance_argument(provider)
    @click.argument("run_id", metavar="[RUN]", required=False, type=RUN, shell_complete=complete_runs)
    @click.option(
        "--follow/--no-follow", default=True, help="Stay until the run has ended.", show_default=True
    )
    @click.option("--tail", type=LINES, metavar="N", help="Begin with the last N lines.")
    @click.option("--wait", is_flag=True, help="Exit with the code of the run's script.")
    @node_option
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli,
        run_id: str | None,
        follow: bool,
        tail: int | None,
        wait: bool,
        node: int | None,
        transport: str | None,
        instance_id: str | None = None,
    ) -> int:
        """Follow the log of a run, by default the newest one on the instance.

        Of a run on several machines what this one has written, or the one that --node names.
        """
        from runctl.cli.runs.node_logs import check_several, show_node_logs
        from runctl.cli.runs.show_log import show_log
        from runctl.machines.machine import reach
        from runctl.runs.asking import find_on_machine

        machine = reach(cli.session, find_instance(cli, provider, instance_id), transport)
        record = find_on_machine(cli.session, machine, run_id)
        check_several(record, node)
        if record.nodes is not None:
            rank = record.rank_on(machine.instance.id) if node is None else node
            code = show_node_logs(cli, record, follow=follow, rank=rank, tail=tail)
        else:
            code = show_log(cli, machine, record, follow=follow, tail=tail)
        return code if wait else 0

    return command


def processes_command(provider: str) -> click.Command:
    """``processes`` of a provider."""

    @click.command(cls=Command)
    @instance_argument(provider)
    @click.option("--all", "everything", is_flag=True, help="Show runs that have ended, too.")
    @wide_option
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli, everything: bool, wide: bool, transport: str | None, instance_id: str | None = None
    ) -> None:
        """Show what runs on an instance, and what it uses."""
        from runctl.machines.machine import reach
        from runctl.render.run_table import attempt_document, attempts_table
        from runctl.render.tables import screen_of

        instance = find_instance(cli, provider, instance_id)
        machine = reach(cli.session, instance, transport)
        attempts = [status for status in machine.agent.attempts() if everything or status.end is None]
        cli.emit(
            [attempt_document(status) for status in attempts],
            text=lambda: attempts_table(attempts, screen=screen_of(sys.stdout, wide=wide)),
            ids=[status.run_id for status in attempts],
        )
        if not attempts:
            cli.progress.note(f"no run on {instance.id}")

    return command
