"""What `doctor` looks at on this computer itself; each check is a value with the exact fix."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from runctl._version import __version__
from runctl.core.config import SANDBOX_VARIABLE, Reading
from runctl.core.database import Database
from runctl.core.errors import RunctlError
from runctl.core.text import counted
from runctl.providers.interface import Check, DoctorStatus

Which = Callable[[str], str | None]
Run = Callable[[Sequence[str]], tuple[int, str]]
"""A command's exit code, and its output with stderr."""

_PACKAGES = {
    "ssh": {"apt-get": "openssh-client", "dnf": "openssh-clients"},
    "git": {"apt-get": "git", "dnf": "git", "brew": "git"},
}
_TIMEOUT_SECONDS = 10


def run_quietly(argv: Sequence[str]) -> tuple[int, str]:
    """Run it to its end; one that cannot be run or hangs has exit code 127 or 124."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {_TIMEOUT_SECONDS} s"
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout.decode(errors="replace").strip()


def check_computer(
    reading: Reading, state_file: Path, *, which: Which = shutil.which, run: Run = run_quietly
) -> tuple[Check, ...]:
    """Everything that does not need a provider. Never raises."""
    return (
        _python(),
        *_configuration(reading),
        _state(state_file),
        _ssh(which, run),
        _git(which, run),
        _docker(which, run),
        _sandbox(),
    )


def _python() -> Check:
    detail = f"runctl {__version__}, Python {platform.python_version()}, {sys.executable}"
    return Check("runctl", DoctorStatus.OK, detail)


def _configuration(reading: Reading) -> tuple[Check, ...]:
    if not reading.problems:
        read = ", ".join(map(str, reading.files)) or "no file; defaults and variables"
        return (Check("configuration", DoctorStatus.OK, read),)
    return tuple(
        Check(
            "configuration",
            DoctorStatus.FAILED,
            problem.text(),
            problem.hint or "fix it, then: runctl config validate",
        )
        for problem in reading.problems
    )


def _state(file: Path) -> Check:
    try:
        with Database(file).transaction() as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM runs").fetchone()
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except RunctlError as error:
        return Check("state", DoctorStatus.FAILED, error.message, error.hint)
    except OSError as error:
        return Check(
            "state",
            DoctorStatus.FAILED,
            f"{file.parent} cannot be written: {error.strerror}",
            "check its permissions",
        )
    return Check("state", DoctorStatus.OK, f"{file}, {counted(count, 'run')}")


def _ssh(which: Which, run: Run) -> Check:
    if which("ssh") is None or which("ssh-keygen") is None:
        missing = "ssh" if which("ssh") is None else "ssh-keygen"
        return Check("ssh", DoctorStatus.FAILED, f"{missing} is not installed", install("ssh", which))
    return Check("ssh", DoctorStatus.OK, _first_line(run(["ssh", "-V"])[1]))


def _git(which: Which, run: Run) -> Check:
    if which("git") is None:
        detail = "not installed: what belongs to a project is told by ignore rules alone"
        return Check("git", DoctorStatus.WARNING, detail, install("git", which))
    return Check("git", DoctorStatus.OK, _first_line(run(["git", "--version"])[1]))


def _docker(which: Which, run: Run) -> Check:
    purpose = "runs in containers on this computer need it; rented machines bring their own"
    if which("docker") is None:
        return Check(
            "docker",
            DoctorStatus.WARNING,
            f"not installed: {purpose}",
            "https://docs.docker.com/engine/install/",
        )
    code, output = run(["docker", "version", "--format", "{{.Server.Version}}"])
    if code == 0:
        return Check("docker", DoctorStatus.OK, f"engine {_first_line(output)}")
    if "permission denied" in output.lower():
        return Check(
            "docker",
            DoctorStatus.WARNING,
            f"this user may not use the engine: {purpose}",
            'sudo usermod -aG docker "$USER", then log in again',
        )
    fix = "start Docker Desktop" if sys.platform == "darwin" else "sudo systemctl start docker"
    return Check("docker", DoctorStatus.WARNING, f"the engine does not run: {purpose}", fix)


def _sandbox() -> Check:
    from runctl.cli.framework.extras import install_command
    from runctl.cli.sandbox import missing_part, running

    missing = missing_part()
    if missing is not None:
        return Check(
            "sandbox", DoctorStatus.SKIPPED, f"{missing} is not installed", install_command("sandbox")
        )
    info = running()
    if info is None:
        return Check("sandbox", DoctorStatus.OK, "can be started: runctl sandbox start")
    here = os.environ.get(SANDBOX_VARIABLE) == info.endpoint_url
    into = "this shell points to it" if here else 'eval "$(runctl sandbox env)" points this shell to it'
    return Check("sandbox", DoctorStatus.OK, f"runs at {info.endpoint_url}, in {info.region}; {into}")


def install(program: str, which: Which) -> str:
    """The command that installs a program here, as far as this computer's package manager is known."""
    for tool, package in _PACKAGES[program].items():
        if which(tool) is not None:
            prefix = [] if tool == "brew" else ["sudo"]
            return " ".join([*prefix, tool, "install", package])
    return f"install {program} with this system's package manager"


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else "no answer"
