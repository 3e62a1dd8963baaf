"""AWS Signature Version 4 for requests without a body, as S3 wants it."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import Dict, Mapping
from urllib.parse import quote

from runctl.agent.fill.credentials import Keys

EMPTY = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


def path_of(*parts: str) -> str:
    """Encoded once, as S3 signs it: slashes stay."""
    return "".join("/" + quote(part.encode("utf-8", "surrogateescape"), safe="/-_.~") for part in parts)


def query_of(parameters: Mapping[str, str]) -> str:
    """Sorted and encoded, as it is signed and sent."""
    pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in parameters.items())
    return "&".join("{}={}".format(name, value) for name, value in pairs)


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for word in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return key


def signed(
    method: str,
    host: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    keys: Keys,
    region: str,
    moment: str,
) -> Dict[str, str]:
    """The headers to send. ``moment`` is the time as ``20260501T120000Z``. Pure."""
    send = {"host": host, "x-amz-content-sha256": EMPTY, "x-amz-date": moment, **headers}
    if keys.token:
        send["x-amz-security-token"] = keys.token
    names = sorted(send)
    canonical = "".join("{}:{}\n".format(name, send[name]) for name in names)
    listed = ";".join(names)
    request = "\n".join((method, path, query, canonical, listed, EMPTY))
    day = moment[:8]
    scope = "{}/{}/s3/aws4_request".format(day, region)
    text = "\n".join((_ALGORITHM, moment, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = _signing_key(keys.secret_key, day, region)
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    send["authorization"] = "{} Credential={}/{}, SignedHeaders={}, Signature={}".format(
        _ALGORITHM, keys.access_key, scope, listed, signature
    )
    return send
