"""How a script is started on the host: its command line, its folder and its environment."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from runctl.agent.errors import AgentError
from runctl.agent.machine.root import LoginUser, folder_root
from runctl.agent.spec import RunSpec
from runctl.agent.starter import how_to_run, nothing_runs, starter

LOGIN_SHELL_SECONDS = 10.0
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_FOR_SCRIPTS = ("_", "SHLVL", "PWD", "OLDPWD", "PS1")

# What makes the network work on a machine behind a proxy or with certificates of its own; not every image
# puts it where a login shell finds it.
NETWORK = (
    *(
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
    ),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "PIP_INDEX_URL"),
    *(
        "PIP_CONFIG_FILE",
        "PIP_NO_INDEX",
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "UV_INDEX_URL",
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "UV_NO_INDEX",
        "UV_OFFLINE",
        "UV_FIND_LINKS",
        "UV_CONFIG_FILE",
    ),
)


def checked_path(root: Path, script: str) -> Path:
    """The script's file in the tree. Raises `AgentError`: ``no-such-script``, or ``bad-script`` outside of it."""
    relative = PurePosixPath(script)
    if not script or relative.is_absolute() or ".." in relative.parts:
        raise AgentError("bad-script", f"{script!r} is not a path inside the project")
    path = root / script
    if not path.is_file():
        raise AgentError(
            "no-such-script",
            f"the project on the machine has no {script}",
            "was the code synced? git-ignored files are left out: see --include-pattern",
        )
    try:
        path.resolve().relative_to(root.resolve())
    except ValueError:
        raise AgentError("bad-script", f"{script} is a link that leads out of the project") from None
    return path


def command(path: Path, shown: str, spec: RunSpec, python: str) -> list[str]:
    """The argument list that runs a script; ``shown`` is the path that the script finds as its own name.

    Raises `AgentError` (``bad-script``) for a file that nothing runs.
    """
    executable = bool(path.stat().st_mode & stat.S_IXUSR)
    argv = starter(shown, python, spec.interpreter, first_line(path), executable=executable)
    if argv is not None:
        return [*argv, *spec.args]
    raise AgentError("bad-script", nothing_runs(path.name), how_to_run(shown))


def uses_python(spec: RunSpec) -> bool:
    """Whether the environment's Python runs the script."""
    is_python = PurePosixPath(spec.script).suffix.lower() == ".py"
    return is_python and not spec.interpreter and not spec.is_command


def first_line(path: Path) -> bytes:
    """Enough of the file to see its ``#!`` line (the kernel looks at 256 bytes)."""
    with path.open("rb") as file:
        return file.read(256) + b"\n"


_UV_IN_PYTHON = re.compile(rb"""["']uvx?["' ]""")
_UV_IN_TEXT = re.compile(rb"(?<![\w./-])uvx?(?![\w.-])")
_READ_BYTES = 1 << 20


def calls_uv(spec: RunSpec, path: Path | None) -> bool:
    """Whether the command or the script mentions uv as a program. A word too many costs a download once a machine."""
    command_line = " ".join([spec.script, *spec.args] if spec.is_command else spec.interpreter)
    if _UV_IN_TEXT.search(command_line.encode(errors="surrogateescape")):
        return True
    if path is None:
        return False
    with path.open("rb") as file:
        text = file.read(_READ_BYTES)
    pattern = _UV_IN_PYTHON if path.suffix.lower() == ".py" else _UV_IN_TEXT
    return pattern.search(text) is not None


def folder(spec: RunSpec, work: Path) -> Path:
    """Where the script starts. Raises `AgentError` (``no-such-workdir``)."""
    path = work / spec.workdir if spec.workdir else work
    if not path.is_dir():
        raise AgentError("no-such-workdir", f"there is no folder {spec.workdir} to start in")
    return path


def parse_environment(data: bytes) -> dict[str, str]:
    """What ``env -0`` prints."""
    found = {}
    for item in data.split(b"\0"):
        name, separator, value = item.decode(errors="surrogateescape").partition("=")
        if separator and name:
            found[name] = value
    return found


def login_environment(user: LoginUser, own: Mapping[str, str]) -> dict[str, str]:
    """The variables of a login shell of this user, and those of ours that the network needs.

    An image's own set-up (CUDA paths, conda) is in its profile; a broken profile must not stop a run, so that
    a shell that fails or does not answer leaves the plain defaults.
    """
    base = {
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "SHELL": user.shell,
        "LANG": own.get("LANG") or "C.UTF-8",
        "PATH": own.get("PATH") or DEFAULT_PATH,
    }
    if folder_root() is None:
        base.update(_ask_shell(user, base))
    for name in NETWORK:
        if name in own:
            base.setdefault(name, own[name])
    return {name: value for name, value in base.items() if name not in NOT_FOR_SCRIPTS}


def _ask_shell(user: LoginUser, base: Mapping[str, str]) -> dict[str, str]:
    start = b"\0runctl\0"
    # A fixed program: nothing of the request goes through the shell.
    program = r"printf '\0runctl\0'; exec env -0"
    home: str | None = user.home if Path(user.home).is_dir() else None
    try:
        done = subprocess.run(
            [user.shell, "-l", "-c", program],
            env={**base, "TERM": "dumb"},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LOGIN_SHELL_SECONDS,
            start_new_session=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    _, found, data = done.stdout.partition(start)
    variables = parse_environment(data) if found and done.returncode == 0 else {}
    variables.pop("TERM", None)
    return variables


def environment(
    login: Mapping[str, str], contract: Mapping[str, str], spec: RunSpec, bin_folder: Path | None
) -> dict[str, str]:
    """The script's variables: login shell, the run's own environment, the user's, then the contract."""
    env = dict(login)
    env["PYTHONUNBUFFERED"] = "1"
    if bin_folder is not None:
        env["VIRTUAL_ENV"] = str(bin_folder.parent)
        env["PATH"] = str(bin_folder) + os.pathsep + env.get("PATH", DEFAULT_PATH)
    env.update(spec.env)
    env.update(contract)
    return env
