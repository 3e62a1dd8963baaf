"""A running sandbox: the variables that point programs to it, and requests to it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from runctl.core.config import NOWHERE, SANDBOX_VARIABLE
from runctl.core.errors import NotFound, RunctlError
from runctl.sandbox.record import CONTROL, TOKEN_HEADER, Keys

DEFAULT_REGION = "us-east-1"
LOOPBACK = ("127.0.0.1", "localhost")
NO_PROXY = ("NO_PROXY", "no_proxy")
"""Programs read the one or the other."""


class SandboxError(RunctlError):
    """The sandbox cannot be started, or does not answer."""

    code = "sandbox"


@dataclass(frozen=True)
class SandboxInfo:
    """A running sandbox."""

    home: Path
    endpoint_url: str
    pid: int
    region: str
    kind: str
    """``namespaces`` or ``folders``."""
    docker: bool
    """Whether its machines have Docker."""
    left_out: tuple[str, ...]
    """What it cannot do on this computer, and why, as sentences."""
    started_at: datetime
    keys: Keys = field(repr=False)

    def environment(self, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables that point the AWS command line, boto3 and runctl to it, past ``inherited`` proxies."""
        return environment(self.endpoint_url, self.region, self.keys, inherited or {})


def environment(endpoint: str, region: str, keys: Keys, inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables that point to that endpoint; loopback is added to ``inherited``'s NO_PROXY."""
    past = inherited.get("no_proxy") or inherited.get("NO_PROXY") or ""
    names = [name.strip() for name in past.split(",") if name.strip()]
    no_proxy = ",".join([*names, *(name for name in LOOPBACK if name not in names and "*" not in names)])
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        SANDBOX_VARIABLE: endpoint,
        "RUNCTL_LYCEUM_BASE_URL": f"{endpoint}/lyceum",
        "LYCEUM_API_KEY": keys.lyceum_key,
        "RUNCTL_RUNPOD_BASE_URL": f"{endpoint}/runpod",
        "RUNPOD_API_KEY": keys.runpod_key,
        **dict.fromkeys(NO_PROXY, no_proxy),
    }


def nowhere(inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep later commands away from AWS when no sandbox runs."""
    keys = Keys("no-sandbox", "no-sandbox", "", "no-sandbox", "no-sandbox")
    return environment(NOWHERE, DEFAULT_REGION, keys, inherited)


def misleading(inherited: Mapping[str, str]) -> list[str]:
    """The variables that would bypass the sandbox, or send another account's keys to it."""
    exact = {"AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"}
    return sorted(name for name in inherited if name in exact or name.startswith("AWS_ENDPOINT_URL_"))


def proxies_without_sandbox(inherited: Mapping[str, str]) -> dict[str, str]:
    """What to restore of ``NO_PROXY`` afterwards, by name; empty where nothing is."""
    left = {}
    for name in NO_PROXY:
        names = [host.strip() for host in inherited.get(name, "").split(",")]
        left[name] = ",".join(host for host in names if host and host not in LOOPBACK)
    return left


def ask(endpoint: str, token: str, verb: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    """One request to the sandbox itself. Raises `SandboxError`; `NotFound` for what it does not have, such as an
    instance."""
    request = urllib.request.Request(  # noqa: S310 - our own server, on loopback
        f"{endpoint}{CONTROL}{verb}",
        json.dumps(parameters).encode(),
        {"Content-Type": "application/json", TOKEN_HEADER: token},
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        with error:
            said = error.read().decode(errors="replace")
        if error.code == HTTPStatus.NOT_FOUND:
            refusal = json.loads(said)
            raise NotFound(refusal["error"], hint=refusal.get("hint", "runctl aws list")) from error
        raise SandboxError(f"the sandbox refused {verb}: {said}") from error
    except OSError as error:
        raise SandboxError(f"the sandbox at {endpoint} does not answer: {error}") from error
