"""Lyceum's object storage: one bucket for the account, in the sandbox's S3, by keys that end (§8)."""

from __future__ import annotations

import json
import secrets
import threading
from datetime import UTC
from typing import Any

_ROLE = "lyceum-storage"


class ObjectStorage:
    """The account's bucket, made when somebody first asks for keys."""

    def __init__(self) -> None:
        self.account = ""
        """The sandbox's own at moto."""
        self.bucket = f"lyceum-{secrets.token_hex(6)}"
        self._made = False
        self._lock = threading.Lock()

    def credentials(self, region: str, endpoint: str, seconds: int, *, tells_end: bool) -> dict[str, Any]:
        """Keys of that bucket alone. Whether their end is told is not certain (§8), nor whether the endpoint has its
        scheme."""
        from moto.sts.models import sts_backends

        role_arn = self._role(region)
        role = sts_backends[self.account]["aws"].assume_role(region, "lyceum", role_arn, "", seconds, "")
        end = role.expiration.replace(tzinfo=UTC)
        return {
            "access_key": role.access_key_id,
            "secret_key": role.secret_access_key,
            "session_token": role.session_token,
            "endpoint": endpoint,
            "bucket_name": self.bucket,
            "region": region,
            **({"expiry": f"{end:%Y-%m-%dT%H:%M:%SZ}"} if tells_end else {}),
        }

    def _role(self, region: str) -> str:
        from moto.iam.models import iam_backends
        from moto.s3.models import s3_backends

        iam = iam_backends[self.account]["aws"]
        with self._lock:
            if not self._made:
                s3_backends[self.account]["aws"].create_bucket(self.bucket, region)
                iam.create_role(_ROLE, json.dumps({"Statement": []}), "/", None, "", [], None)
                here = f"arn:aws:s3:::{self.bucket}"
                allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": [here, f"{here}/*"]}
                policy = {"Version": "2012-10-17", "Statement": [allowed]}
                iam.put_role_policy(_ROLE, "bucket", json.dumps(policy))
                self._made = True
        return str(iam.get_role(_ROLE).arn)
