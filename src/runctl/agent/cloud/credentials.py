"""Who the machine is to AWS: keys from variables, else those of the instance's role, renewed before they end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from runctl.agent.cloud.http import pause_before_try
from runctl.agent.cloud.metadata import Metadata
from runctl.agent.errors import AgentError

_ROLE = "iam/security-credentials/"
_SECONDS = 5.0
_RENEWED_BEFORE = 300.0
"""Seconds before their end at which keys are fetched anew."""
_TRIES = 4


@dataclass(frozen=True)
class Keys:
    """What requests are signed with."""

    access_key: str
    secret_key: str
    token: str = ""
    ends_at: float | None = None
    """Seconds since the epoch; ``None`` for keys that do not end."""


class Credentials:
    """Keys that are good now. Safe to use from several threads."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._metadata = Metadata(variables, _SECONDS)
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        access, secret = variables.get("AWS_ACCESS_KEY_ID"), variables.get("AWS_SECRET_ACCESS_KEY")
        if access and secret:
            self._keys = Keys(access, secret, variables.get("AWS_SESSION_TOKEN", ""))

    def now(self) -> Keys:
        """Raises `AgentError` (``no-role``) where the machine has neither."""
        with self._lock:
            keys = self._keys
            if keys is None or (keys.ends_at is not None and keys.ends_at - time.time() < _RENEWED_BEFORE):
                keys = self._keys = self._fetch(keys)
            return keys

    def _fetch(self, old: Keys | None) -> Keys:
        for attempt in range(_TRIES):
            if attempt:
                pause_before_try(attempt)
            try:
                name = self._metadata.get(_ROLE)
                text = None if name is None else self._metadata.get(_ROLE + name.split("\n")[0].strip())
                if text is None:
                    break
                return _keys_of(json.loads(text))
            except (OSError, ValueError, KeyError, TypeError):
                # It may be busy, or in the middle of renewing them.
                continue
        if old is not None and old.ends_at is not None and old.ends_at > time.time():
            return old
        raise AgentError(
            "no-role",
            "this machine has no role, and so no right to use S3",
            "give it an instance profile, or detach the volume: a helper machine with a role is then rented for it",
        )


def _keys_of(answer: Mapping[str, str]) -> Keys:
    ends = datetime.strptime(answer["Expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return Keys(answer["AccessKeyId"], answer["SecretAccessKey"], answer.get("Token", ""), ends.timestamp())
