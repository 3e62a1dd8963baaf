"""Inside a sandbox machine: carries out what `runctl.sandbox.machines.user_data` has made of the user data.

On a machine with systemd as a program of its units (``early``, ``final``), else as a part of the first process.
Standard library only.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STEPS = Path("/var/lib/runctl-sandbox/user-data.json")
"""On the root disk from the first boot on."""
INSTANCE = Path("/var/lib/cloud/instance")
PER_BOOT = Path("/var/lib/cloud/scripts/per-boot")
LOG = Path("/var/log/cloud-init-output.log")
UP = Path("/var/lib/runctl-sandbox-up")
"""Appears on the root disk when the machine is up."""


def early() -> None:
    """What has to be there before anybody logs in. What was done at an earlier boot is not done again."""
    steps = read_steps()
    at_first = [] if _done("early") else steps.get("early", [])
    if steps.get("boot") or at_first:
        # However long this takes: on EC2 an instance runs whether cloud-init has ended or not.
        UP.touch()
    carry_out(steps.get("boot", []))
    carry_out(at_first)
    _mark("early")


def final() -> None:
    """The scripts of every boot, then on the first one those of the user data; marks the end."""
    scripts = sorted(PER_BOOT.iterdir()) if PER_BOOT.is_dir() else []
    carry_out([{"do": "run", "argv": [str(path)]} for path in scripts if os.access(path, os.X_OK)])
    steps = read_steps()
    if not _done("final"):
        carry_out(steps.get("final", []))
        if steps.get("problem"):
            fail(steps["problem"])
        _mark("final")
    finish_boot()


def read_steps() -> dict[str, Any]:
    """Those of this machine; empty where it has no user data."""
    try:
        found = json.loads(STEPS.read_text())
    except FileNotFoundError:
        return {}
    return dict(found)


def carry_out(steps: list[dict[str, Any]]) -> None:
    """Each in turn, whatever became of the one before."""
    for number, step in enumerate(steps, 1):
        try:
            problem = _ACTIONS[step["do"]](step, number)
        except Exception as error:  # noqa: BLE001 (the others are still to be done, as cloud-init does them)
            problem = f"{step['do']} failed: {error}"
        if problem:
            fail(problem)


def fail(problem: str) -> None:
    """It stands in cloud-init's log, and ``cloud-init status`` will say ``error``."""
    say(problem)
    INSTANCE.mkdir(parents=True, exist_ok=True)
    with (INSTANCE / "error").open("a", errors="backslashreplace") as file:
        file.write(problem + "\n")


def run(argv: list[str]) -> int:
    """As root, with what it says in cloud-init's log; its exit code."""
    with LOG.open("ab") as log:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, cwd="/"
        ).returncode


def say(text: str) -> None:
    """A line in cloud-init's log."""
    with LOG.open("a", errors="backslashreplace") as log:
        log.write(text + "\n")


def finish_boot() -> None:
    """What ``cloud-init status --wait`` waits for."""
    INSTANCE.mkdir(parents=True, exist_ok=True)
    now = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())
    (INSTANCE / "boot-finished").write_text(now + "\n")


def _run(step: dict[str, Any], _number: int) -> str:
    code = run(step["argv"])
    return f"{' '.join(step['argv'])} ended with {code}" if code else ""


def _script(step: dict[str, Any], number: int) -> str:
    INSTANCE.mkdir(parents=True, exist_ok=True)
    script = INSTANCE / ("user-data.txt" if number == 1 else f"user-data-{number}.txt")
    script.write_bytes(step["text"].encode(errors="surrogateescape"))
    script.chmod(0o700)
    code = run([str(script)])
    return f"user-data ended with {code}" if code else ""


def _file(step: dict[str, Any], _number: int) -> str:
    path = Path(step["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    content = base64.b64decode(step["content"]) if step["base64"] else step["content"].encode()
    with path.open("ab" if step["append"] else "wb") as file:
        file.write(content)
    path.chmod(step["mode"])
    user, _, group = step["owner"].partition(":")
    shutil.chown(path, user, group or None)
    return ""


def _user(step: dict[str, Any], _number: int) -> str:
    name = step["name"]
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        add = ["useradd", "--create-home", "--shell", step["shell"] or "/bin/sh", name]
        done = subprocess.run(add, check=False, capture_output=True, text=True)
        if done.returncode:
            return f"useradd {name} ended with {done.returncode}: {done.stderr.strip()}"
        account = pwd.getpwnam(name)
    problems = [problem for group in step["groups"] if (problem := _join(name, group))]
    if step["sudo"]:
        rules = Path("/etc/sudoers.d/90-cloud-init-users")
        with rules.open("a") as file:
            file.writelines(f"{name} {rule}\n" for rule in step["sudo"])
        rules.chmod(0o440)
    folder = Path(account.pw_dir, ".ssh")
    folder.mkdir(mode=0o700, exist_ok=True)
    keys = folder / "authorized_keys"
    before = keys.read_text() if keys.exists() else ""
    keys.write_text(before + "".join(f"{key}\n" for key in step["keys"] if key not in before))
    keys.chmod(0o600)
    for path in (folder, keys):
        os.chown(path, account.pw_uid, account.pw_gid)
    return "; ".join(problems)


def _join(user: str, group: str) -> str:
    """Empty, or why the user is not in the group. One that is not there is made, as cloud-init does."""
    for argv in (["groupadd", "--force", group], ["usermod", "--append", "--groups", group, user]):
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        if done.returncode:
            return f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}"
    return ""


_ACTIONS = {"run": _run, "script": _script, "file": _file, "user": _user}


def _done(phase: str) -> bool:
    return (INSTANCE / f"sem-{phase}").exists()


def _mark(phase: str) -> None:
    INSTANCE.mkdir(parents=True, exist_ok=True)
    (INSTANCE / f"sem-{phase}").touch()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        {"early": early, "final": final}[sys.argv[1]]()
