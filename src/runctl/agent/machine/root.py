"""Where the agent stands: its user, its root rights, its own command line, and paths of the machine.

``RUNCTL_MACHINE_ROOT`` makes a folder stand for a machine (the sandbox where there are no namespaces): absolute
paths of the machine are then below that folder, and root rights are neither there nor needed.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent.errors import AgentError
from runctl.agent.spec import STATE_DIRECTORY

ROOT_VARIABLE = "RUNCTL_MACHINE_ROOT"
STATE_VARIABLE = "RUNCTL_AGENT_STATE"
LOGIN_VARIABLE = "RUNCTL_LOGIN_UID"
"""Set when the agent has called itself by sudo: the user it did so for."""
HOME_VARIABLE = "RUNCTL_LOGIN_HOME"
"""Names another home folder of the login user, whose profile and caches are then used."""
PASSED_ON = (
    STATE_VARIABLE,
    HOME_VARIABLE,
    ROOT_VARIABLE,
    "DOCKER_HOST",
    "PATH",
    "LANG",
    "RUNCTL_FSTAB",
    "RUNCTL_PROBE_SPACING",
)


@dataclass(frozen=True)
class LoginUser:
    """Whom the script runs as, and who owns what it writes."""

    uid: int
    gid: int
    name: str
    home: str
    shell: str


def folder_root() -> Path | None:
    """The folder that stands for the machine, or ``None`` on a real one."""
    root = os.environ.get(ROOT_VARIABLE)
    return Path(root) if root else None


def on_machine(path: str) -> Path:
    """An absolute path of the machine as this process can open it."""
    root = folder_root()
    if root is None:
        return Path(path)
    if path == str(root) or path.startswith(str(root) + "/"):
        return Path(path)
    return root / path.lstrip("/")


def named_path(request: Mapping[str, Any]) -> Path:
    """``root`` of a request, else its ``path``. Raises `AgentError` (``bad-request``).

    A relative one counts from the login user's home, as the transports have it.
    """
    given = request.get("root", request.get("path"))
    if not isinstance(given, str) or not given or "\0" in given:
        raise AgentError("bad-request", f"{given!r} is not a path")
    home = on_machine(login_user().home)
    if given == "~" or given.startswith("~/"):
        return home / given[2:]
    return on_machine(given) if given.startswith("/") else home / given


def state_path() -> Path:
    """Where the agent keeps everything, whether it is there or not."""
    named = os.environ.get(STATE_VARIABLE)
    return Path(named) if named else on_machine(STATE_DIRECTORY)


def state_directory() -> Path:
    """Where the agent keeps everything. Raises `AgentError` (``no-state``) if it cannot be written."""
    path = state_path()
    try:
        for folder in (path, path / "runs"):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise _no_state(path, str(error)) from error
    if not os.access(path / "runs", os.W_OK | os.X_OK):
        raise _no_state(path, "it is not writable for this user")
    return path


def _no_state(path: Path, why: str) -> AgentError:
    return AgentError(
        "no-state",
        f"the agent cannot keep its state in {path}: {why}",
        f"sudo install -d -o $(id -un) -g $(id -gn) {path}",
    )


def login_user() -> LoginUser:
    """The user who called the agent, through its own sudo too. A number without a name has itself as name."""
    uid = int(os.environ.get(LOGIN_VARIABLE, "") or os.getuid())
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return LoginUser(uid, os.getgid(), str(uid), os.environ.get("HOME", "/"), "/bin/sh")
    home = os.environ.get("HOME", entry.pw_dir) if folder_root() else entry.pw_dir
    home = os.environ.get(HOME_VARIABLE) or home
    return LoginUser(uid, entry.pw_gid, entry.pw_name, home, entry.pw_shell or "/bin/sh")


def root_available() -> bool:
    """Whether this process is root or may become it without a password."""
    if os.geteuid() == 0:
        return True
    import shutil

    if shutil.which("sudo") is None:
        return False
    done = subprocess.run(["sudo", "-n", "true"], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def machine_variables() -> dict[str, str]:
    """What the machine sets for every login (``/etc/environment``, pam_env(8)), which a service does not see."""
    try:
        text = on_machine("/etc/environment").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.strip().partition("=") for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {
        name.strip().rpartition("export ")[2]: value.strip().strip("\"'")
        for name, separator, value in lines
        if separator
    }


def agent_command() -> list[str]:
    """How to start this very program again."""
    main = sys.modules["__main__"]
    origin = getattr(getattr(main, "__spec__", None), "origin", None) or getattr(main, "__file__", None) or ""
    archive = Path(origin).parent
    if archive.is_file():
        return [sys.executable, str(archive.resolve())]
    return [sys.executable, "-m", "runctl.agent"]


def as_root(argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
    """The command line that runs ``argv`` as root. Values in ``env`` are seen in the process list: no secrets."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if env:
        prefix.append("env")
    return [*prefix, *(f"{name}={value}" for name, value in (env or {}).items()), *argv]


def agent_as_root(*arguments: str, through: Sequence[str] = ()) -> list[str]:
    """The command line that runs a verb of this program as root, in the same circumstances; ``through`` stands before
    it: ``nsenter …``."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env[LOGIN_VARIABLE] = str(login_user().uid)
    return as_root([*through, *agent_command(), *arguments], env)


def call_as_root(verb: str, request: Mapping[str, Any], through: Sequence[str] = ()) -> Any:
    """Run a verb as root and return its ``ok``; ``through`` as in `agent_as_root`.

    Raises `AgentError`, its own or ``needs-root``.
    """
    if not root_available():
        raise needs_root(verb)
    done = subprocess.run(
        agent_as_root(verb, through=through),
        input=json.dumps(request).encode(),
        capture_output=True,
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        output = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise AgentError("agent-failed", f"the agent's {verb} as root failed: {output}") from None
    if "error" in answer:
        error = answer["error"]
        raise AgentError(error["code"], error["message"], error.get("hint", ""))
    return answer["ok"]


def needs_root(what: str) -> AgentError:
    """The error for something that only root can do where nobody can become root."""
    return AgentError(
        "needs-root",
        f"{what} needs root, and {login_user().name} has no passwordless sudo on this machine",
        "log in as a user with passwordless sudo, as the images of cloud providers have",
    )
