"""The file by which others find a sandbox's server, and the keys in it, without which nobody may do anything there."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runctl.core.files import make_private_file
from runctl.sandbox.layout import Layout

CONTROL = "/_sandbox/"
"""The sandbox's own requests are below it."""
TOKEN_HEADER = "X-Runctl-Sandbox-Token"  # noqa: S105 - a header's name
_LETTERS = string.ascii_uppercase + string.digits


@dataclass(frozen=True)
class Keys:
    """Random for each start, and kept in a file that only the user can read."""

    access_key_id: str = field(repr=False)
    """The account owner's: as long as AWS's, 82 bits of it random. On AWS it is no secret, but here it is the key."""
    secret_access_key: str = field(repr=False)
    """For clients, which sign with it; the sandbox does not check signatures."""
    control_token: str = field(repr=False)
    """For the sandbox's own requests, below ``/_sandbox/``."""
    lyceum_key: str = field(default="", repr=False)
    """For Lyceum's API."""
    runpod_key: str = field(default="", repr=False)
    """For RunPod's API."""

    @classmethod
    def new(cls) -> Keys:
        """Random, so that they cannot be guessed."""
        return cls(
            access_key_id="AKIA" + "".join(secrets.choice(_LETTERS) for _ in range(16)),
            secret_access_key=secrets.token_urlsafe(30),
            control_token=secrets.token_urlsafe(32),
            lyceum_key="lk_" + secrets.token_urlsafe(30),
            runpod_key="rpa_" + secrets.token_urlsafe(30),
        )


def read(layout: Layout) -> dict[str, Any] | None:
    """What the server has written down; ``None`` when it has not, or when this user may not read it."""
    try:
        content = json.loads(layout.info_file.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write(layout: Layout, content: Mapping[str, object]) -> None:
    """The file holds this, all at once; only the user can read it. Raises `OSError`."""
    part = layout.info_file.with_suffix(".part")
    make_private_file(part)
    part.write_text(json.dumps(content))
    part.replace(layout.info_file)
