"""Leaving a program behind that no terminal, session or parent can reach."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from runctl.agent.machine.root import LOGIN_VARIABLE, PASSED_ON, folder_root, login_user, root_available

SYSTEMD = Path("/run/systemd/system")


def daemonise() -> bool:
    """True in a grandchild that goes on alone; false in the caller."""
    if os.fork():
        os.wait()
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    return True


def leaves_behind(command: Sequence[str], errors: Path) -> bool:
    """Run a program that leaves another one behind; whether it succeeded. What it says goes to the end of that file."""
    with errors.open("ab") as sink:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            check=False,
        )
    return done.returncode == 0


def redirect(errors: Path) -> None:
    """Nothing is read any more, and what is printed goes to the end of that file."""
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    sink = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    for fd in (nothing, sink):
        if fd > 2:
            os.close(fd)


def under_systemd() -> bool:
    """Whether a program can be left to systemd, as a unit of its own."""
    return (
        SYSTEMD.is_dir()
        and folder_root() is None
        and shutil.which("systemd-run") is not None
        and root_available()
    )


def systemd_run(
    unit: str, properties: Sequence[str], env: Mapping[str, str], user: tuple[int, int] | None
) -> list[str]:
    """The beginning of root's command line for a program as a unit: neither a logout nor an update of the SSM agent
    takes it along. ``user``: as the user and the group of these numbers."""
    return [
        *("systemd-run", "--quiet", "--collect", "--no-block", f"--unit={unit}"),
        *("--property=" + setting for setting in properties),
        *(f"--setenv={name}={value}" for name, value in sorted(env.items())),
        *([f"--uid={user[0]}", f"--gid={user[1]}"] if user is not None else []),
        "--",
    ]


def circumstances() -> dict[str, str]:
    """The variables that another start of this program needs to find the same state."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**env, LOGIN_VARIABLE: str(login_user().uid)}
