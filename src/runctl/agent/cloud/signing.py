"""AWS Signature Version 4 as S3 and EC2 want it: in a request's headers, or in an address for somebody else to use."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

from runctl.agent.cloud.credentials import Keys

EMPTY = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
"""For a body that a checksum of its own protects."""
LONGEST_SECONDS = 7 * 24 * 3600
"""How long a presigned address may be good for."""
_ALGORITHM = "AWS4-HMAC-SHA256"


def path_of(*parts: str) -> str:
    """Encoded once, as S3 signs it: slashes stay."""
    return "".join("/" + quote(part.encode("utf-8", "surrogateescape"), safe="/-_.~") for part in parts)


def query_of(parameters: Mapping[str, str]) -> str:
    """Sorted and encoded, as it is signed and sent."""
    pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in parameters.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
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
    payload: str = EMPTY,
    service: str = "s3",
) -> dict[str, str]:
    """The headers to send. ``moment`` is the time as ``20260501T120000Z``; ``payload`` the body's SHA-256. Pure."""
    send = {"host": host, "x-amz-content-sha256": payload, "x-amz-date": moment, **headers}
    if keys.token:
        send["x-amz-security-token"] = keys.token
    listed, signature = _signature(method, path, query, send, keys, region, moment, payload, service)
    credential = f"{keys.access_key}/{_scope(moment, region, service)}"
    send["authorization"] = (
        f"{_ALGORITHM} Credential={credential}, SignedHeaders={listed}, Signature={signature}"
    )
    return send


def presigned(method: str, host: str, path: str, keys: Keys, region: str, moment: str, seconds: int) -> str:
    """The query of an address that whoever has it may use for so many seconds, as far as the keys live. Pure."""
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise ValueError(f"an address cannot be good for {seconds} s: 1 to {LONGEST_SECONDS} are possible")
    parameters = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{keys.access_key}/{_scope(moment, region)}",
        "X-Amz-Date": moment,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    if keys.token:
        parameters["X-Amz-Security-Token"] = keys.token
    query = query_of(parameters)
    _, signature = _signature(method, path, query, {"host": host}, keys, region, moment, UNSIGNED)
    return f"{query}&X-Amz-Signature={signature}"


def _scope(moment: str, region: str, service: str = "s3") -> str:
    return f"{moment[:8]}/{region}/{service}/aws4_request"


def _signature(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    keys: Keys,
    region: str,
    moment: str,
    payload: str,
    service: str = "s3",
) -> tuple[str, str]:
    """The names of the headers that are signed, and the signature."""
    names = sorted(headers)
    listed = ";".join(names)
    canonical = "".join(f"{name}:{headers[name]}\n" for name in names)
    request = "\n".join((method, path, query, canonical, listed, payload))
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join((_ALGORITHM, moment, _scope(moment, region, service), digest))
    key = _signing_key(keys.secret_key, moment[:8], region, service)
    return listed, hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
