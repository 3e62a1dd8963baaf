"""The section ``[runpod]`` of the configuration, and who one is to RunPod."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from pathlib import Path
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core.config.values import TRUST, USD
from runctl.core.errors import CredentialsError
from runctl.core.files import expand_user

BASE_URL = "https://api.runpod.io/v2"
KEY_VARIABLE = "RUNPOD_API_KEY"
URL_VARIABLE = "RUNPOD_API_URL"
IMAGE = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
DISK_GB = 40
_HOW = f"set {KEY_VARIABLE} to an API key (console.runpod.io, Settings), or log in with runpodctl"


@dataclass(frozen=True)
class RunPodConfig:
    """``[runpod]``: which account, and what its pods are like."""

    base_url: str | None = field(default=None, metadata=TRUST)
    """Where the API is; by default RunPod's own address."""
    instance_type: str | None = field(default=None, metadata={"check": "instance-type"})
    """``rtx-4090``, or ``rtx-4090.2x`` for a pod with two of them."""
    cloud: str = field(default="secure", metadata={"choices": ("secure", "community")})
    """RunPod's own data centres, or other people's machines, which are cheaper."""
    image: str = field(default=IMAGE, metadata=TRUST)
    """A pod is a container: its image has Python, and starts sshd where ``PUBLIC_KEY`` is set."""
    registry: str | None = None
    """The name of a login that RunPod keeps for the registry of a private image (console.runpod.io, Settings)."""
    end_key: str | None = field(default=None, metadata=TRUST)
    """The name of a variable with a key that may end pods: it is put onto each pod, for where RunPod does not let a pod
    end itself by the key that it has anyway."""
    disk: int = field(default=DISK_GB, metadata={"minimum": 1})
    """GB of the pod's own disk, which is lost when it stops or ends."""
    identity_file: str | None = field(default=None, metadata={"kind": "path", **TRUST})
    """The private key that pods let in; by default one that runctl makes for this computer."""
    strict_host_key: bool = False
    """Whether a pod is refused whose key is not known yet. RunPod publishes none."""
    ask_above: Decimal | None = field(default=None, metadata={**USD, **TRUST})
    """USD an hour: a pod that costs more is only rented after a confirmation, even without a terminal to ask on."""


@dataclass(frozen=True)
class Account:
    """Who calls, and where."""

    key: str = field(repr=False)
    source: str
    """Where it was found, for a person."""
    base_url: str

    @property
    def graphql_url(self) -> str:
        """Of the older API, beside the other."""
        return f"{self.base_url.removesuffix('/v2')}/graphql"


def find_account(settings: RunPodConfig, environ: Mapping[str, str]) -> Account:
    """The account of the variable, else of the file of RunPod's own tools, which is only read.

    Raises `CredentialsError` where there is none.
    """
    file = expand_user("~/.runpod/config.toml")
    written = _vendor_config(file)
    nested = written.get("default")
    candidates = (
        (environ.get(KEY_VARIABLE), KEY_VARIABLE),
        # runpodctl writes the one, RunPod's Python package the other.
        (written.get("apikey"), str(file)),
        (nested.get("api_key") if isinstance(nested, Mapping) else None, str(file)),
    )
    for value, source in candidates:
        key = value.strip() if isinstance(value, str) else ""
        if key:
            return Account(key, source, settings.base_url or environ.get(URL_VARIABLE) or BASE_URL)
    raise CredentialsError("no key for RunPod is known on this computer", hint=_HOW)


def this_account(settings: RunPodConfig) -> Account:
    """As `find_account`, by this process's environment."""
    return find_account(settings, os.environ)


def _vendor_config(file: Path) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
