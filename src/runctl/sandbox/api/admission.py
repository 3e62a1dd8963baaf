"""Which requests the server accepts at all: those whose headers are those of a program on this computer.

A page in a browser can reach every port of loopback. What it sends carries its ``Origin``; with a name that its owner
points at 127.0.0.1 afterwards (DNS rebinding) it carries that name as ``Host``.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection, Iterable
from typing import Any

from runctl.sandbox.api.http_server import Start, Wsgi
from runctl.sandbox.record import TOKEN_HEADER

_TOKEN_KEY = "HTTP_" + TOKEN_HEADER.upper().replace("-", "_")
LOOPBACK = ("127.0.0.1", "localhost")


def refusal(environ: dict[str, Any], hosts: Collection[str]) -> str | None:
    """Why this request is refused, whoever sent it; ``None`` when it is accepted."""
    host = str(environ.get("HTTP_HOST", ""))
    if host.partition(":")[0].lower() not in hosts:
        return f"the sandbox does not answer to the name {host!r}, only to {', '.join(sorted(hosts))}"
    if "HTTP_ORIGIN" in environ:
        return "the sandbox does not answer pages in a browser"
    return None


def has_token(environ: dict[str, Any], token: str) -> bool:
    """Whether the request may control the sandbox itself."""
    given = str(environ.get(_TOKEN_KEY, ""))
    return hmac.compare_digest(given.encode(), token.encode())


def answer(start: Start, status: str, value: object) -> Iterable[bytes]:
    """A JSON document."""
    body = json.dumps(value).encode()
    start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


class Admission:
    """WSGI middleware: refuses requests with a foreign ``Host``, or with an ``Origin``."""

    def __init__(self, application: Wsgi, hosts: Collection[str]) -> None:
        self._application = application
        self._hosts = frozenset(hosts)

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        problem = refusal(environ, self._hosts)
        if problem is not None:
            return answer(start, "403 Forbidden", {"error": problem})
        return self._application(environ, start)
