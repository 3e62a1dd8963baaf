"""What a run needs to get its image and nobody else may have: registry logins and build secrets.

They come through stdin, lie below the state directory for the login user alone, and are gone when the image is there,
or when the attempt ends without one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runctl.agent.errors import AgentError
from runctl.agent.machine import docker
from runctl.agent.machine.root import login_user, state_directory
from runctl.agent.records import RUN_ID, attempts

STALE_SECONDS = 3600.0
"""Longer than any start takes; a run that has not begun by then never will."""
LOGIN_SECONDS = 60.0
CONFIG_FILE = "config.json"


def entrust(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The run's logins are made and its secrets kept, in place of what was there for it; ``forget`` only removes.

    Raises `AgentError` (``registry-login``, ``bad-request``); nothing is left then.
    """
    run_id = str(request.get("run_id", ""))
    if not RUN_ID.fullmatch(run_id):
        raise AgentError("bad-request", f"{run_id!r} is not a run id")
    _remove_stale()
    forget(run_id)
    if request.get("forget"):
        return {}
    folder = folder_of(run_id)
    folder.mkdir(mode=0o700, parents=True)
    try:
        (folder / "secrets").mkdir(mode=0o700)
        for name, content in dict(request.get("secrets") or {}).items():
            _keep_secret(folder / "secrets", name, base64.b64decode(content))
        for login in request.get("logins") or ():
            _login(folder, str(login["host"]), str(login["username"]), str(login["password"]))
    except BaseException:
        forget(run_id)
        raise
    return {}


def folder_of(run_id: str) -> Path:
    """Where it lies."""
    return state_directory() / "entrusted" / run_id


def forget(run_id: str) -> None:
    """Nothing is left of it."""
    shutil.rmtree(folder_of(run_id), ignore_errors=True)


def config_options(run_id: str) -> list[str]:
    """For ``docker``: the private configuration with the run's logins, where there is one."""
    folder = folder_of(run_id) / "docker"
    return ["--config", str(folder)] if folder.is_dir() else []


def secret_file(run_id: str, name: str) -> Path:
    """Where a secret is. Raises `AgentError` when it was not entrusted."""
    file = folder_of(run_id) / "secrets" / name
    if not file.is_file():
        raise AgentError(
            "image-failed",
            f"the build's secret {name} is not on the machine",
            "start the run again with --secret",
        )
    return file


def private_config(users: Mapping[str, Any], host: str) -> dict[str, Any]:
    """The user's configuration, but for ``host``, whose password is kept in the file and in no keychain. Pure."""
    auths = {name: value for name, value in dict(users.get("auths") or {}).items() if name != host}
    helpers = dict(users.get("credHelpers") or {})
    helpers[host] = ""
    return {**users, "auths": auths, "credHelpers": helpers}


def _keep_secret(folder: Path, name: str, content: bytes) -> None:
    if "/" in name or name in ("", ".", ".."):
        raise AgentError("bad-request", f"{name!r} is not the id of a secret")
    _write(folder / name, content)


def _login(folder: Path, host: str, username: str, password: str) -> None:
    engine = docker.connect()
    config = folder / "docker"
    users = Path(login_user().home) / ".docker"
    if not config.is_dir():
        config.mkdir(mode=0o700)
        with contextlib.suppress(OSError):
            for entry in users.iterdir():
                if entry.name != CONFIG_FILE:
                    (config / entry.name).symlink_to(entry)
    known = _read(config / CONFIG_FILE) or _read(users / CONFIG_FILE) or {}
    _write(config / CONFIG_FILE, json.dumps(private_config(known, host)).encode())
    argv = engine.command("--config", str(config), "login", "--username", username, "--password-stdin", host)
    try:
        done = docker.run_within(argv, LOGIN_SECONDS, password.encode())
        output = docker.text(done.stderr)
        failed = done.returncode != 0
    except subprocess.TimeoutExpired:
        output, failed = "it does not answer", True
    if failed:
        raise AgentError(
            "registry-login",
            f"the machine cannot log in to {host}: {output.splitlines()[-1] if output else 'no answer'}",
            "is the registry reachable from the machine? a token may have expired: run the command again",
        )


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)


def _remove_stale() -> None:
    with contextlib.suppress(OSError):
        for folder in (state_directory() / "entrusted").iterdir():
            # A build may take longer: what a run that goes on was entrusted with is its own.
            if time.time() - folder.stat().st_mtime > STALE_SECONDS and not _goes_on(folder.name):
                shutil.rmtree(folder, ignore_errors=True)


def _goes_on(run_id: str) -> bool:
    return any(not (attempt.path / "end.json").exists() for attempt in attempts(run_id))
