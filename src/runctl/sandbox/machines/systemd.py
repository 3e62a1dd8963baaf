"""Inside a sandbox machine: what scripts ask of systemd, without systemd.

``systemctl`` and ``service`` for Docker and for oneshot services, with systemd's words and exit codes, and what
starts with the machine. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

from runctl.sandbox.machines.docker_supervisor import (
    LOG,
    close_off_hub,
    engine_options,
    engine_pid,
    hub_answers,
    last_log_lines,
    listen,
    ping,
    stop_engine,
    supervise,
)

POWER = {"poweroff": "-P", "halt": "-H", "reboot": "-r"}
FLAGS = {"-q", "--quiet", "--now", "--no-pager", "--no-block", "-f", "--force", "-l", "--full", "--system"}
SILENT = {"daemon-reload", "daemon-reexec", "reset-failed"}


ONESHOT_FOLDERS = (Path("/etc/systemd/system"), Path("/usr/local/lib/systemd/system"))
BOOT_LOG = Path("/var/log/boot-services.log")
ENABLED = Path("/var/lib/runctl-sandbox/enabled")
"""Our own record: the links below /etc are this computer's, seen through the machine's root."""


class Units:
    """The units that this machine knows: Docker's, and files of oneshot services that somebody put there."""

    def __init__(self, has_engine: bool) -> None:
        self.engine = {"docker.service", "docker.socket", "containerd.service"} if has_engine else set()

    def known(self, unit: str) -> bool:
        """Whether there is such a unit."""
        return unit in self.engine or unit_file(unit) is not None

    def active(self, unit: str) -> bool:
        """Whether it runs now; a oneshot never stays."""
        return unit in self.engine and (unit == "docker.socket" or engine_pid() is not None)

    def enabled(self, unit: str) -> bool:
        """Whether it starts with the machine."""
        return unit in self.engine or (ENABLED / unit).exists()

    def enable(self, unit: str) -> str:
        """Empty: it starts at the next boot."""
        if unit not in self.engine:
            ENABLED.mkdir(parents=True, exist_ok=True)
            (ENABLED / unit).touch()
        return ""

    def disable(self, unit: str) -> str:
        """Empty: it does not start at the next boot. Docker's socket always does."""
        with contextlib.suppress(FileNotFoundError):
            (ENABLED / unit).unlink()
        return ""

    def start(self, unit: str) -> str:
        """Empty, or why it could not be started."""
        if unit not in self.engine:
            return run_oneshot(unit)
        if unit == "docker.socket" or ping():
            return ""
        return f"Job for {unit} failed: {last_log_lines()}\nSee {LOG} for details."

    def stop(self, unit: str) -> str:
        """Empty, or why it still runs."""
        if unit not in self.engine or unit == "docker.socket" or stop_engine():
            return ""
        return f"Job for {unit} timed out."


def unit_file(unit: str) -> Path | None:
    """Where the unit is described."""
    return next((folder / unit for folder in ONESHOT_FOLDERS if (folder / unit).is_file()), None)


def commands_of(text: str) -> list[list[str]]:
    """The commands of a oneshot service. Raises `ValueError` naming what only a real systemd can do."""
    section, kind, commands = "", "simple", []
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and line[0] not in "#;":
            key, _, value = line.partition("=")
            if key == "Type":
                kind = value
            elif key == "ExecStart":
                commands.append(shlex.split(value))
            elif key not in {"RemainAfterExit", "StandardOutput", "StandardError"}:
                raise ValueError(f"{key}= in a unit")
    if kind != "oneshot":
        raise ValueError(f"a unit of type {kind}")
    return commands


def run_oneshot(unit: str) -> str:
    """Empty when each command of the unit ended well, else what did not."""
    path = unit_file(unit)
    if path is None:
        return f"Unit {unit} not found."
    try:
        commands = commands_of(path.read_text())
    except ValueError as error:
        return f"Failed to start {unit}: {error} is not supported on a sandbox machine (it runs no systemd)"
    for command in commands:
        try:
            code = subprocess.call(command, stdin=subprocess.DEVNULL, cwd="/")
        except OSError as error:
            return f"Job for {unit} failed: {error}"
        if code != 0:
            return f"Job for {unit} failed: {command[0]} ended with {code}"
    return ""


def full_name(unit: str) -> str:
    """``docker`` is ``docker.service``."""
    return unit if "." in unit else f"{unit}.service"


def systemctl(arguments: list[str]) -> int:
    """The part of systemctl that scripts use for Docker, with its words and exit codes."""
    flags = {argument for argument in arguments if argument.startswith("-")}
    operands = [argument for argument in arguments if not argument.startswith("-")]
    unknown = sorted(flags - FLAGS)
    if unknown:
        return complain(
            f"systemctl: {unknown[0]} is not supported on a sandbox machine (it runs no systemd)", 1
        )
    verb = operands[0] if operands else "list-units"
    units = Units(engine_options() is not None)
    if verb in POWER:
        return subprocess.call(["shutdown", POWER[verb], "now"])
    if verb in SILENT:
        return 0
    if verb == "is-system-running":
        say("running")
        return 0
    if verb == "list-units":
        for unit in sorted(units.engine):
            say(f"{unit} loaded {'active' if units.active(unit) else 'inactive'}")
        return 0
    if not operands[1:]:
        return complain("Too few arguments.", 1)
    quiet, now = bool(flags & {"-q", "--quiet"}), "--now" in flags
    return max(act_on(verb, full_name(unit), units, quiet=quiet, now=now) for unit in operands[1:])


def act_on(verb: str, unit: str, units: Units, *, quiet: bool, now: bool) -> int:
    """What ``systemctl VERB UNIT`` does; its exit code."""
    known = units.known(unit)
    if verb in {"is-active", "is-enabled", "is-failed"}:
        return ask_unit(verb, unit, units, quiet=quiet)
    if not known:
        if verb == "status":
            return complain(f"Unit {unit} could not be found.", 4)
        return complain(
            f"Failed to {verb} {unit}: Unit {unit} not found (a sandbox machine runs no systemd).", 5
        )
    if verb == "status":
        active = units.active(unit)
        say(
            f"* {unit}\n     Loaded: loaded\n     Active: {'active (running)' if active else 'inactive (dead)'}"
        )
        return 0 if active else 3
    steps = {
        "start": [units.start],
        "stop": [units.stop],
        "restart": [units.stop, units.start],
        "reload-or-restart": [units.stop, units.start],
        "try-restart": [units.stop, units.start] if units.active(unit) else [],
        "enable": [units.enable, *([units.start] if now else [])],
        "disable": [units.disable, *([units.stop] if now else [])],
        "mask": [],
        "unmask": [],
    }
    if verb not in steps:
        return complain(f"systemctl: {verb} is not supported on a sandbox machine (it runs no systemd)", 1)
    for step in steps[verb]:
        problem = step(unit)
        if problem:
            return complain(problem, 1)
    return 0


def ask_unit(verb: str, unit: str, units: Units, *, quiet: bool) -> int:
    """The three questions; the answer goes to stdout, the exit code says the same."""
    if verb == "is-enabled":
        answer, code = (
            ("enabled", 0)
            if units.enabled(unit)
            else ("disabled", 1)
            if units.known(unit)
            else ("not-found", 4)
        )
    elif verb == "is-failed":
        answer, code = ("active" if units.active(unit) else "inactive", 1)
    else:
        answer, code = ("active", 0) if units.active(unit) else ("inactive", 3)
    if not quiet:
        say(answer)
    return code


def service(arguments: list[str]) -> int:
    """``service NAME VERB`` in systemctl's words."""
    if len(arguments) < 2:
        return complain("Usage: service NAME start|stop|restart|status", 2)
    return systemctl([arguments[1], arguments[0]])


def say(text: str) -> None:
    """A line on stdout."""
    sys.stdout.write(text + "\n")


def complain(text: str, code: int) -> int:
    """A line on stderr; returns the exit code."""
    sys.stderr.write(text + "\n")
    return code


def boot(detach: bool) -> int:
    """What starts with the machine has started: enabled oneshot services, and the socket of its engine.

    With ``detach`` this returns when the socket listens, and a child goes on.
    """
    command = engine_options()
    listener = None if command is None else listen()
    if detach and os.fork():
        # Leave without closing what the child now holds.
        os._exit(0)
    if detach:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
    start_enabled()
    if command is not None and listener is not None:
        supervise(command, listener)
    return 0


def start_enabled() -> None:
    """Each enabled service has run once; one that fails says so in the log and keeps none of the others."""
    for path in sorted(ENABLED.iterdir()) if ENABLED.is_dir() else ():
        problem = run_oneshot(path.name)
        if problem:
            with BOOT_LOG.open("a") as log:
                log.write(problem + "\n")


def main(arguments: list[str]) -> int:
    """``boot [--detach]``, ``systemctl …``, ``service …``, or ``hub`` before a real systemd starts the engine."""
    verb, rest = arguments[0], arguments[1:]
    if verb == "hub":
        if not hub_answers():
            close_off_hub(Path("/etc/hosts"))
        return 0
    if verb == "systemctl":
        return systemctl(rest)
    if verb == "service":
        return service(rest)
    return boot("--detach" in rest)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
