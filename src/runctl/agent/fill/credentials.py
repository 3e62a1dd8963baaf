"""Who the machine is to S3: keys from variables, else those of the instance's role, renewed before they end."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Mapping, Optional

from runctl.agent.fill.errors import FillError

METADATA = "http://169.254.169.254"
_ROLE = "/latest/meta-data/iam/security-credentials/"
_RENEWED_BEFORE = 300.0
"""Seconds before their end at which keys are fetched anew."""
_TRIES = 4


@dataclass(frozen=True)
class Keys:
    """What requests are signed with."""

    access_key: str
    secret_key: str
    token: str = ""
    ends_at: Optional[float] = None
    """Seconds since the epoch; ``None`` for keys that do not end."""


class Credentials:
    """Keys that are good now. Safe to use from several threads."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._endpoint = variables.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "") or METADATA
        self._lock = threading.Lock()
        self._keys: Optional[Keys] = None
        access, secret = variables.get("AWS_ACCESS_KEY_ID"), variables.get("AWS_SECRET_ACCESS_KEY")
        if access and secret:
            self._keys = Keys(access, secret, variables.get("AWS_SESSION_TOKEN", ""))

    def now(self) -> Keys:
        """Raises `FillError` (``no-role``) where the machine has neither."""
        with self._lock:
            keys = self._keys
            if keys is None or (keys.ends_at is not None and keys.ends_at - time.time() < _RENEWED_BEFORE):
                keys = self._keys = self._fetch(keys)
            return keys

    def _fetch(self, old: Optional[Keys]) -> Keys:
        for attempt in range(_TRIES):
            try:
                request = urllib.request.Request(  # noqa: S310 (the metadata service's own address)
                    self._endpoint + "/latest/api/token",
                    method="PUT",
                    headers={"X-aws-ec2-metadata-token-ttl-seconds": "300"},
                )
                token = self._read(request)
                name = self._read(self._asking(_ROLE, token)).split("\n")[0].strip()
                return _keys_of(json.loads(self._read(self._asking(_ROLE + name, token))))
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    break
            except (OSError, ValueError, KeyError):
                pass
            time.sleep(0.5 * 2**attempt)
        if old is not None and old.ends_at is not None and old.ends_at > time.time():
            return old
        raise FillError(
            "no-role",
            "this machine has no role, and so no right to read from S3",
            "give it an instance profile, or detach the volume: a helper machine with a role is then rented for it",
        )

    def _asking(self, path: str, token: str) -> urllib.request.Request:
        return urllib.request.Request(  # noqa: S310 (the metadata service's own address)
            self._endpoint + path, headers={"X-aws-ec2-metadata-token": token}
        )

    @staticmethod
    def _read(request: urllib.request.Request) -> str:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 (see above)
            text: str = answer.read().decode()
            return text


def _keys_of(answer: Mapping[str, str]) -> Keys:
    ends = datetime.strptime(answer["Expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return Keys(answer["AccessKeyId"], answer["SecretAccessKey"], answer.get("Token", ""), ends.timestamp())
