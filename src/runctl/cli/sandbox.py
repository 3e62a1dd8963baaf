"""``sandbox``: AWS on this computer. The only module of the program that knows of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.extras import install_command
from runctl.core.config import SANDBOX_VARIABLE
from runctl.core.errors import NotFound, Unsupported
from runctl.providers.aws.settings import AwsConfig
from runctl.render.json import to_builtins
from runctl.render.tables import details
from runctl.sandbox.connection import SandboxInfo, misleading, nowhere, proxies_without_sandbox


@click.command(cls=Command)
@click.option(
    "--machines",
    "--kind",
    "kind",
    type=click.Choice(["auto", "namespaces", "systemd", "folders"]),
    default="auto",
    help="How machines are built: with a small first process of the sandbox's, with systemd, or as folders.",
)
@click.option(
    "--docker",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    help="Whether machines have Docker engines.",
)
@click.pass_obj
def start(cli: Cli, kind: str, docker: str) -> None:
    """Start the sandbox.

    Does nothing if it is running already. Says what it cannot do on this computer. Its region is that of --region, or
    of the configuration.
    """
    missing = missing_part()
    if missing is not None:
        raise Unsupported(
            f"the sandbox needs {missing}, which is not installed",
            hint=install_command("sandbox"),
            code="missing-extra",
        )
    cli.progress.step("starting the sandbox")
    control = sandbox_library()
    running, configured = control.status(), cli.read_config().config.section(AwsConfig).region
    region = cli.settings.region or (configured if running is None else None)
    info = control.start(region=region, kind=kind, docker=docker, report=cli.progress.update)
    if configured and not cli.settings.region and configured != info.region:
        cli.progress.warn(
            f"this sandbox is in {info.region}, and the configuration says {configured}: add --region {info.region} to"
            " what follows, or stop it and start another"
        )
    for sentence in info.left_out:
        cli.progress.note(f"left out: {sentence}")
    cli.say('to use it: eval "$(runctl sandbox env)"')
    _emit(cli, info)


@click.command(cls=Command)
@click.pass_obj
def stop(cli: Cli) -> None:
    """Stop the sandbox and everything in it.

    Its machines end; no process, mount or network of it is left.
    """
    cli.progress.step("stopping the sandbox")
    ended = sandbox_library().stop(report=cli.progress.update)
    cli.emit(ended, text=lambda: "\n".join(ended) or "the sandbox was not running", ids=ended)
    if os.environ.get(SANDBOX_VARIABLE):
        cli.say('this shell still points to it; to undo that: eval "$(runctl sandbox env --unset)"')


@click.command(cls=Command)
@click.pass_obj
def status(cli: Cli) -> int:
    """Say whether the sandbox runs, and where.

    The exit code is 1 when it does not.
    """
    info = sandbox_library().status()
    if info is None:
        cli.emit({"running": False}, text=lambda: "the sandbox is not running; runctl sandbox start")
        return 1
    _emit(cli, info)
    return 0


@click.command(cls=Command)
@click.option(
    "--shell",
    type=click.Choice(["sh", "fish"]),
    default="sh",
    help="The shell's language; sh suits bash and zsh.",
)
@click.option("--unset", is_flag=True, help="Print the lines that undo it.")
@click.pass_obj
def env(cli: Cli, shell: str, unset: bool) -> None:
    """Print the variables that point programs to the sandbox.

    For eval "$(runctl sandbox env)"; in fish: runctl sandbox env --shell fish | source

    Without a running sandbox, they point nowhere, so that no command that follows reaches a real account.
    """
    if unset:
        lines = way_out(shell)
        cli.emit(nowhere({}), text=lambda: lines, ids=[lines])
        return
    try:
        info = running_sandbox()
    except BaseException:
        if not cli.settings.json:
            # `eval` ends well whatever happened here, unless the last of its lines fails.
            lead_nowhere = way_in(nowhere(os.environ), shell)
            cli.write(f"{lead_nowhere}\nfalse")
        raise
    variables = info.environment(os.environ)
    lines = way_in(variables, shell)
    cli.emit(variables, text=lambda: lines, ids=[lines])


def running_sandbox() -> SandboxInfo:
    """The user's sandbox. Raises `NotFound` where it does not run."""
    info = running()
    if info is None:
        raise NotFound("the sandbox is not running", hint="runctl sandbox start", code="sandbox-not-running")
    return info


def way_in(variables: Mapping[str, str], shell: str) -> str:
    """Lines for the shell that set these, and nothing that would lead past the sandbox."""
    others = unset_lines(misleading(os.environ), shell)
    return "\n".join(filter(None, [others, export_lines(variables, shell)]))


def way_out(shell: str) -> str:
    """Lines for the shell that take away what `way_in` sets."""
    kept = {name: value for name, value in proxies_without_sandbox(os.environ).items() if value}
    gone = [name for name in nowhere({}) if name not in kept]
    return "\n".join(filter(None, [unset_lines(gone, shell), export_lines(kept, shell)]))


def export_lines(variables: Mapping[str, str], shell: str) -> str:
    """One assignment a line, quoted for the shell."""
    if shell == "fish":
        return "\n".join(f"set -gx {name} {_fish_quoted(value)}" for name, value in variables.items())
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def unset_lines(variables: Iterable[str], shell: str) -> str:
    """The way back."""
    command = "set -e" if shell == "fish" else "unset"
    return "\n".join(f"{command} {name}" for name in variables)


def _fish_quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _emit(cli: Cli, info: SandboxInfo) -> None:
    shown: dict[str, Any] = {"running": True, **to_builtins(info)}
    # They are for `sandbox env` only: a status is shown around.
    shown.pop("keys", None)
    cli.emit(
        shown,
        text=lambda: details(
            {
                "endpoint": info.endpoint_url,
                "region": info.region,
                "machines": info.kind,
                "docker": "yes" if info.docker else "no",
                "home": str(info.home),
                "process": str(info.pid),
            }
        ),
        ids=[info.endpoint_url],
    )


def sandbox_library() -> ModuleType:
    """The sandbox's own library, imported when a command needs it."""
    return import_module("runctl.sandbox.control")


def running() -> SandboxInfo | None:
    """The user's sandbox, if it runs."""
    found: SandboxInfo | None = sandbox_library().status()
    return found


def missing_part() -> str | None:
    """The package that the sandbox lacks here, if any."""
    return next((name for name in ("moto", "flask", "werkzeug") if find_spec(name) is None), None)
