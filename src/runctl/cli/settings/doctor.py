"""``doctor``: what works, what is missing, and the exact fix."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import click

from runctl.cli.context import Cli
from runctl.cli.framework.checks import check_computer
from runctl.cli.framework.commands import Command
from runctl.core.config import Config
from runctl.core.errors import NotFound, RunctlError
from runctl.core.files import state_file
from runctl.core.names import did_you_mean
from runctl.providers.interface import Check, DoctorStatus
from runctl.render.tables import wants_style

_COLOURS = {
    DoctorStatus.OK: "32",
    DoctorStatus.WARNING: "33",
    DoctorStatus.FAILED: "31",
    DoctorStatus.SKIPPED: "2",
}


@click.command(cls=Command)
@click.argument("providers", nargs=-1, metavar="[PROVIDER]...")
@click.pass_obj
def doctor(cli: Cli, providers: tuple[str, ...]) -> int:
    """Say what works, what is missing, and the exact fix.

    Checks this computer, then each provider, or those named. The exit code is 1 when something failed; warnings do
    not count.
    """
    from runctl.providers.registry import names

    known = names()
    for name in providers:
        if name not in known:
            hint = did_you_mean(name, known) or f"installed: {', '.join(known)}"
            raise NotFound(f"provider {name!r} is not installed", hint=hint)
    reading = cli.read_config()
    cli.progress.step("checking this computer")
    found = [("computer", check) for check in check_computer(reading, state_file())]
    for name in providers or known:
        cli.progress.step(f"looking at {name}")
        found += [(name, check) for check in _ask(cli, name, reading.config)]
    failed = [check for _, check in found if check.status is DoctorStatus.FAILED]
    cli.emit(
        [
            {"part": part, "name": c.name, "status": c.status, "detail": c.detail, "fix": c.fix or None}
            for part, c in found
        ],
        text=lambda: report(found, style=wants_style(sys.stdout)),
        ids=[f"{part}.{check.name}" for part, check in found if check.status is DoctorStatus.FAILED],
    )
    return 1 if failed else 0


def report(found: Sequence[tuple[str, Check]], *, style: bool = False) -> str:
    """A line a check under the part it belongs to, and the fix below those that need one."""
    lines: list[str] = []
    width = max(len(check.name) for _, check in found)
    last = None
    for part, check in found:
        if part != last:
            lines += [*([""] if lines else []), part]
            last = part
        status = check.status.value.ljust(7)
        shown = f"\x1b[{_COLOURS[check.status]}m{status}\x1b[0m" if style else status
        lines.append(f"  {shown}  {check.name.ljust(width)}  {check.detail}".rstrip())
        if check.fix and check.status is not DoctorStatus.OK:
            lines.append(f"  {' ' * 7}  {' ' * width}  fix: {check.fix}")
    count = sum(check.status is DoctorStatus.FAILED for _, check in found)
    lines += ["", "everything that is needed works" if not count else f"{count} failed"]
    return "\n".join(lines)


def _ask(cli: Cli, name: str, config: Config) -> Sequence[Check]:
    from runctl.providers.registry import load

    try:
        checks = load(name, config, progress=cli.progress).doctor()
        # Checks may carry their provider's name, for readers that see them alone; here it stands above them.
        return [replace(check, name=check.name.removeprefix(f"{name}: ")) for check in checks]
    except RunctlError as error:
        return [Check(name, DoctorStatus.FAILED, error.message, error.hint)]
    except Exception as error:  # noqa: BLE001 - a broken plug-in must not hide what the others say
        return [
            Check(
                name,
                DoctorStatus.FAILED,
                f"{type(error).__name__}: {error}",
                f"report it to {name}'s authors",
            )
        ]
