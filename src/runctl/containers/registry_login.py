"""Logging in to a registry for one command: by a token through stdin, into a folder that is gone afterwards."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from runctl._dataclasses import dataclass
from runctl.containers.client import DockerClient
from runctl.containers.failures import registry_failure
from runctl.core.files import expand_user

CONFIG_FILE = "config.json"
_HELPER_SECONDS = 30


@dataclass(frozen=True)
class Credential:
    """A way into one registry."""

    host: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credential({self.host!r}, {self.username!r})"


def user_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the user's own docker keeps its configuration."""
    return Path(environ.get("DOCKER_CONFIG") or expand_user("~/.docker"))


def private_config(users: Mapping[str, Any], host: str) -> dict[str, Any]:
    """The user's configuration, but for ``host``, whose password is to be kept in the file itself. Pure.

    Without that, docker would put it into the user's own keychain.
    """
    auths = {name: value for name, value in dict(users.get("auths") or {}).items() if name != host}
    helpers = {**dict(users.get("credHelpers") or {}), host: ""}
    return {**users, "auths": auths, "credHelpers": helpers}


@contextmanager
def logged_in(client: DockerClient, credential: Credential | None) -> Iterator[DockerClient]:
    """The same client, logged in by a private configuration that is removed at the end; the user's is not touched.

    What else the user has there (contexts, plug-ins, logins to other registries) goes on working. Without a
    credential it is the client itself. Raises `CredentialsError`, `Unreachable`.
    """
    if credential is None:
        yield client
        return
    with tempfile.TemporaryDirectory(prefix="runctl-docker-") as name:
        folder = Path(name)
        users = user_folder()
        config = private_config(_read(users / CONFIG_FILE), credential.host)
        file = folder / CONFIG_FILE
        file.touch(mode=0o600)
        file.write_text(json.dumps(config))
        with suppress(OSError):
            for entry in users.iterdir():
                if entry.name != CONFIG_FILE:
                    (folder / entry.name).symlink_to(entry.absolute())
        mine = replace(client, config=str(folder))
        done = mine.run(
            "login",
            *("--username", credential.username, "--password-stdin", credential.host),
            stdin=credential.password.encode(),
        )
        if done.returncode != 0:
            raise registry_failure(done.stderr.decode(errors="replace"), credential.host, "logging in to")
        yield mine


def users_credential(host: str) -> Credential | None:
    """What the user's own ``docker login`` left for a registry; ``None`` when there is nothing."""
    config = _read(user_folder() / CONFIG_FILE)
    helper = (config.get("credHelpers") or {}).get(host) or config.get("credsStore")
    if helper:
        return _from_helper(str(helper), host)
    entry = (config.get("auths") or {}).get(host) or {}
    with suppress(ValueError, UnicodeDecodeError):
        username, colon, password = base64.b64decode(str(entry.get("auth", ""))).decode().partition(":")
        if colon:
            return Credential(host, username, password)
    return None


def _from_helper(helper: str, host: str) -> Credential | None:
    """By the protocol of docker's credential helpers: the host on stdin, JSON on stdout."""
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=host.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=True,
        )
        answer = json.loads(done.stdout)
        return Credential(host, answer["Username"], answer["Secret"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
