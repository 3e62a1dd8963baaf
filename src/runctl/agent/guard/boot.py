"""Programs of ours that start with the machine, and are started anew unless they end with exit code 0.

With systemd as units; without it as scripts that cloud-init runs at every boot.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SYSTEMD = Path("/run/systemd/system")
UNITS = Path("/etc/systemd/system")
PER_BOOT = Path("/var/lib/cloud/scripts/per-boot")


def start_at_boot(
    name: str, description: str, argv: Sequence[str], env: Mapping[str, str], user: str = "root"
) -> None:
    """The program runs now and after every boot, until it ends with exit code 0 and `remove` is called. As root.

    Raises `OSError` and `RuntimeError`.
    """
    if SYSTEMD.is_dir():
        path = UNITS / f"{name}.service"
        replace_file(path, unit(description, argv, env, user), 0o644)
        _call("systemctl", "daemon-reload")
        _call("systemctl", "enable", "--quiet", path.name)
        # Not waited for: at the first boot systemd has more to do before.
        _call("systemctl", "restart", "--no-block", path.name)
        return
    PER_BOOT.mkdir(parents=True, exist_ok=True)
    path = PER_BOOT / name
    replace_file(path, script(argv, env, user), 0o755)
    subprocess.Popen(
        [str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def remove(name: str) -> None:
    """It starts no more. What runs goes on to its end."""
    for path in (UNITS / f"{name}.service", UNITS / "multi-user.target.wants" / f"{name}.service"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        (PER_BOOT / name).unlink()


def unit(description: str, argv: Sequence[str], env: Mapping[str, str], user: str) -> str:
    """The unit's file."""
    variables = "".join(f"Environment={_quoted(f'{key}={value}')}\n" for key, value in sorted(env.items()))
    return (
        f"[Unit]\nDescription={description}\nStartLimitIntervalSec=0\n[Service]\nType=simple\nUser={user}\n"
        f"{variables}ExecStart={' '.join(map(_quoted, argv))}\n"
        "Restart=always\nRestartPreventExitStatus=0\nRestartSec=1\nOOMScoreAdjust=-900\n[Install]\nWantedBy=multi-user.target\n"
    )


def _quoted(argument: str) -> str:
    """As systemd reads words (systemd.syntax(7)): ``%`` and ``$`` stand for themselves."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def script(argv: Sequence[str], env: Mapping[str, str], user: str) -> str:
    """A script that starts the program over until it ends well, and does not keep the boot waiting."""
    arguments = [*(f"{key}={value}" for key, value in sorted(env.items())), *argv]
    command = shlex.join(["env", *arguments])
    if user != "root":
        command = shlex.join(["su", "-s", "/bin/sh", "-c", command, user])
    loop = f"until {command} </dev/null >/dev/null 2>&1; do sleep 1; done"
    return f"#!/bin/sh\nsetsid sh -c {shlex.quote(loop)} </dev/null >/dev/null 2>&1 &\n"


def replace_file(path: Path, text: str, mode: int, *, durable: bool = True) -> None:
    """The file has the text; where it is to be ``durable``, also after a power cut. Raises `OSError`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 (a descriptor)
        file.write(text)
        file.flush()
        os.fchmod(fd, mode)
        if durable:
            os.fsync(fd)
    partial.replace(path)
    if not durable:
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _call(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
