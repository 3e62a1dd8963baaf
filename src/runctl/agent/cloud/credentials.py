"""Who the machine is to AWS: keys from a file that others renew, from variables, or those of the instance's role."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timezone

from runctl._dataclasses import dataclass
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

    def __init__(self, variables: Mapping[str, str], keys_file: str = "") -> None:
        """With ``keys_file`` (`runctl.agent.checkpoint_spec.StoreKeys`) only those in it are used."""
        self._file = keys_file
        self._read_at: tuple[int, int] | None = None
        self._metadata = Metadata(variables, _SECONDS)
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        access, secret = variables.get("AWS_ACCESS_KEY_ID"), variables.get("AWS_SECRET_ACCESS_KEY")
        if access and secret:
            self._keys = Keys(access, secret, variables.get("AWS_SESSION_TOKEN", ""))

    def now(self) -> Keys:
        """Raises `AgentError`: ``no-role`` where the machine has none, ``keys-ended`` where nobody brought more."""
        if self._file:
            return self._of_file()
        with self._lock:
            keys = self._keys
            if keys is None or (keys.ends_at is not None and keys.ends_at - time.time() < _RENEWED_BEFORE):
                keys = self._keys = self._fetch(keys)
            return keys

    def _of_file(self) -> Keys:
        """Read anew whenever it has changed."""
        with self._lock:
            try:
                facts = os.stat(self._file)  # noqa: PTH116
                if self._keys is None or (facts.st_mtime_ns, facts.st_ino) != self._read_at:
                    with open(self._file, encoding="utf-8") as file:  # noqa: PTH123
                        found = json.load(file)
                    self._keys = Keys(
                        found["access_key"], found["secret_key"], found.get("token", ""), found.get("ends_at")
                    )
                    self._read_at = (facts.st_mtime_ns, facts.st_ino)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise AgentError("no-role", f"the keys for the store cannot be read: {error}") from error
            keys = self._keys
        if keys.ends_at is not None and keys.ends_at <= time.time():
            raise AgentError(
                "keys-ended",
                "the keys for the store have ended, and nobody has brought newer ones",
                "whoever follows the run brings them: runctl monitor, or runctl runs logs --follow",
            )
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
