"""The section ``[lyceum]`` of the configuration, and who one is to Lyceum."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core.config.values import TRUST, USD
from runctl.core.errors import CredentialsError
from runctl.core.files import expand_user

ORIGIN = "https://api.lyceum.technology"
KEY_VARIABLE = "LYCEUM_API_KEY"
ORGANISATION_VARIABLE = "LYCEUM_ORG"
LOGIN_USER = "lyceum"
_HOW = (
    f"set {KEY_VARIABLE} to an API key (dashboard.lyceum.technology), or log in with the vendor's lyceum tool"
)


@dataclass(frozen=True)
class LyceumConfig:
    """``[lyceum]``: which account, and what its machines are like."""

    base_url: str | None = field(default=None, metadata=TRUST)
    """Where the API is; by default Lyceum's own address."""
    organisation: str | None = field(default=None, metadata=TRUST)
    """The organisation's slug, where a key is good for several."""
    instance_type: str | None = field(default=None, metadata={"check": "instance-type"})
    """``h100``, or ``h100.4x`` for a machine with four of them."""
    spot: bool = False
    """Whether `create` buys on the spot market when neither ``--spot`` nor ``--on-demand`` is given."""
    login_user: str = LOGIN_USER
    identity_file: str | None = field(default=None, metadata={"kind": "path", **TRUST})
    """The private key that machines let in; by default one that runctl makes for this computer."""
    strict_host_key: bool = False
    """Whether a machine is refused whose key is not known yet. Lyceum publishes none."""
    ask_above: Decimal | None = field(default=None, metadata={**USD, **TRUST})
    """USD an hour: a machine that costs more is only rented after a confirmation, even without a terminal to ask on."""


@dataclass(frozen=True)
class Account:
    """Who calls, and where."""

    token: str = field(repr=False)
    """An API key, or what the vendor's tool got at its login."""
    source: str
    """Where it was found, for a person."""
    base_url: str
    organisation: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Of every call."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if self.organisation:
            headers["X-Org-Slug"] = self.organisation
        return headers


def find_account(settings: LyceumConfig, environ: Mapping[str, str], now: datetime) -> Account:
    """The account of the variable, else of the vendor tool's files, which are only read.

    Raises `CredentialsError` where there is none, or where the login in its file has expired.
    """
    folder = expand_user("~/.lyceum")
    written = _vendor_config(folder / "config.json")
    candidates = (
        (environ.get(KEY_VARIABLE), KEY_VARIABLE),
        (written.get("api_key"), str(folder / "config.json")),
        (_text(folder / "api_key"), str(folder / "api_key")),
    )
    for value, source in candidates:
        token = value.strip() if isinstance(value, str) else ""
        if not token:
            continue
        if _expired(token, now):
            raise CredentialsError(f"the login to Lyceum in {source} has expired", hint=_HOW)
        organisation = (
            settings.organisation or environ.get(ORGANISATION_VARIABLE) or written.get("active_org_slug")
        )
        base = settings.base_url or (written.get("base_url") if source != KEY_VARIABLE else None) or ORIGIN
        return Account(token, source, str(base), organisation if isinstance(organisation, str) else None)
    raise CredentialsError("no key for Lyceum is known on this computer", hint=_HOW)


def this_account(settings: LyceumConfig, now: datetime) -> Account:
    """As `find_account`, by this process's environment."""
    return find_account(settings, os.environ, now)


def _vendor_config(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _expired(token: str, now: datetime) -> bool:
    """Whether it is a JWT (RFC 7519) whose time is over. API keys carry no time."""
    parts = token.split(".")
    if len(parts) != 3:
        return False
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        expires = json.loads(base64.urlsafe_b64decode(padded)).get("exp")
    except (ValueError, AttributeError):
        return False
    return isinstance(expires, int | float) and expires <= now.timestamp()
