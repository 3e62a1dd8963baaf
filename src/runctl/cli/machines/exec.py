"""``exec`` and ``ssh``: a person's own commands on a machine."""

from __future__ import annotations

import sys
from typing import BinaryIO

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import PassthroughCommand
from runctl.cli.framework.values import FORWARD
from runctl.cli.machines.resolve import (
    instance_argument,
    own_stdin,
    running_instance,
    transport_option,
    transport_to,
)
from runctl.core.errors import UsageError
from runctl.render.progress import finish
from runctl.transport.interface import PortForward


class _Remote(PassthroughCommand):
    rest_name = "COMMAND"


def exec_command(provider: str) -> click.Command:
    """``exec`` of a provider."""

    @click.command(cls=_Remote)
    @instance_argument(provider)
    @click.option("--root", "as_root", is_flag=True, help="Run it as root.")
    @click.option("-n", "--no-stdin", is_flag=True, help="Give the command no input.")
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        as_root: bool,
        no_stdin: bool,
        transport: str | None,
        rest: tuple[str, ...],
        instance_id: str | None = None,
    ) -> int:
        """Run a command on an instance.

        The command follows --, reaches the machine exactly as given, without a shell, and gets what is piped in.
        Its output and exit code become this command's own.
        """
        if not rest:
            machine_argument = "" if instance_id is None else f" {instance_id}"
            raise UsageError(
                "no command is given",
                hint=f"it goes after two dashes: runctl {provider} exec{machine_argument} -- ls -l",
            )
        cli.leave_stderr_to_the_command()
        instance = running_instance(cli, provider, instance_id)
        way = transport_to(cli, instance, transport)
        finish(cli.progress)
        sys.stdout.flush()
        try:
            return way.stream(
                rest,
                stdin=own_stdin(skip=no_stdin),
                on_stdout=lambda data: _pass_on(sys.stdout.buffer, data),
                on_stderr=lambda data: _pass_on(sys.stderr.buffer, data),
                as_root=as_root,
                # What people type and pipe in may be a secret, and nobody can tell.
                private=True,
            )
        finally:
            way.close()

    return command


def ssh_command(provider: str) -> click.Command:
    """``ssh`` of a provider."""

    @click.command(cls=_Remote)
    @instance_argument(provider)
    @click.option(
        "-L",
        "--forward",
        "forwards",
        type=FORWARD,
        multiple=True,
        metavar="PORT[:HOST:PORT]",
        help="Forward this local port to the machine's (or to HOST's, as the machine sees it). Repeatable.",
    )
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli,
        instance_id: str,
        forwards: tuple[PortForward, ...],
        transport: str | None,
        rest: tuple[str, ...],
    ) -> int:
        """Open a shell on an instance.

        With a command after --, run that in the terminal instead; exec is for programs and pipes. With -L, a port of
        the machine, such as a dashboard's, can be reached at a port of this computer while the shell is open.
        """
        instance = running_instance(cli, provider, instance_id)
        way = transport_to(cli, instance, transport)
        finish(cli.progress)
        try:
            with way.forwarding(forwards):
                return way.terminal(rest)
        finally:
            way.close()

    return command


def _pass_on(sink: BinaryIO, data: bytes) -> None:
    sink.write(data)
    sink.flush()
