"""The keys of one start of a sandbox. Whoever has them may do everything in it, and nobody else may do anything."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field

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

    @classmethod
    def new(cls) -> Keys:
        """Nobody can guess them."""
        return cls(
            access_key_id="AKIA" + "".join(secrets.choice(_LETTERS) for _ in range(16)),
            secret_access_key=secrets.token_urlsafe(30),
            control_token=secrets.token_urlsafe(32),
        )
