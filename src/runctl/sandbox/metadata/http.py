"""IMDS as a machine speaks with it: tokens, refusals, texts and listings."""

from __future__ import annotations

import secrets
import select
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from runctl.sandbox.api.http_server import CONNECTION, Start
from runctl.sandbox.metadata.facts import InstanceFacts
from runctl.sandbox.metadata.tree import Credentials, text_at, tree
from runctl.sandbox.world import World

TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 - the header's name
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
LONGEST_TTL = 21600
RENEWED_BEFORE = timedelta(minutes=15)
"""AWS has new keys ready some minutes before the old ones end."""
_HELD_SECONDS = 30.0


class Metadata:
    """One machine's, as a WSGI application: its tokens and its role's keys."""

    def __init__(
        self,
        world: World,
        describe: Callable[[], InstanceFacts],
        issue: Callable[[InstanceFacts], Credentials],
        own_addresses: frozenset[str],
    ) -> None:
        self._world = world
        self.describe = describe
        self._issue = issue
        self.own_addresses = own_addresses
        self._tokens: dict[str, float] = {}
        self._credentials: Credentials | None = None
        self._lock = threading.Lock()

    def __call__(self, environ: Mapping[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        facts, method = self.describe(), environ["REQUEST_METHOD"]
        path = environ["RAW_URI"].partition("?")[0]
        if not facts.enabled or "HTTP_X_FORWARDED_FOR" in environ:
            return _answer(start, HTTPStatus.FORBIDDEN)
        if method == "PUT":
            return self._put(facts, path, environ, start)
        if method in {"GET", "HEAD"}:
            return self._get(facts, path, environ.get(_variable(TOKEN_HEADER)), start)
        return _answer(start, HTTPStatus.NOT_IMPLEMENTED)

    def _put(
        self, facts: InstanceFacts, path: str, environ: Mapping[str, Any], start: Start
    ) -> Iterable[bytes]:
        """A token."""
        if path.rstrip("/") != "/latest/api/token":
            return _answer(start, HTTPStatus.NOT_FOUND)
        if facts.hop_limit < 2 and environ["REMOTE_ADDR"] not in self.own_addresses:
            # On AWS the answer's packets die one hop short of a container: its caller hears nothing.
            select.select([environ[CONNECTION]], [], [], _HELD_SECONDS)
            raise ConnectionAbortedError("the caller is a hop too far away")
        ttl = environ.get(_variable(TTL_HEADER), "")
        if not ttl.isascii() or not ttl.isdigit() or not 1 <= int(ttl) <= LONGEST_TTL:
            return _answer(start, HTTPStatus.BAD_REQUEST)
        return _answer(start, HTTPStatus.OK, self.new_token(int(ttl)).encode(), (TTL_HEADER, ttl))

    def _get(self, facts: InstanceFacts, path: str, token: str | None, start: Start) -> Iterable[bytes]:
        """A text or a listing."""
        if (token is None and facts.tokens_required) or (token is not None and not self.knows(token)):
            return _answer(start, HTTPStatus.UNAUTHORIZED)
        version, _, rest = path.lstrip("/").partition("/")
        found: bytes | None = None
        if not version:
            found = b"latest"
        elif version == "latest" or _is_date(version):
            found = self.read(facts, rest)
        return _answer(start, HTTPStatus.NOT_FOUND if found is None else HTTPStatus.OK, found)

    def new_token(self, seconds: int) -> str:
        """Good for that long."""
        token, now = secrets.token_urlsafe(40) + "==", time.monotonic()
        with self._lock:
            self._tokens = {known: until for known, until in self._tokens.items() if until > now}
            self._tokens[token] = now + seconds
        return token

    def knows(self, token: str) -> bool:
        """Whether it is good now."""
        with self._lock:
            return self._tokens.get(token, 0.0) > time.monotonic()

    def read(self, facts: InstanceFacts, path: str) -> bytes | None:
        """The text at that path below ``/latest/``."""
        with self._world.lock:
            notices = self._world.notices.get(facts.instance_id)
        return text_at(tree(facts, notices, lambda: self._keys(facts)), path)

    def _keys(self, facts: InstanceFacts) -> Credentials:
        with self._lock:
            kept = self._credentials
            if kept is None or kept.expires - datetime.now(UTC) < RENEWED_BEFORE:
                kept = self._credentials = self._issue(facts)
            return kept


def _variable(header: str) -> str:
    """The header's name in WSGI's environment."""
    return "HTTP_" + header.upper().replace("-", "_")


def _answer(
    start: Start, status: HTTPStatus, body: bytes | None = None, *headers: tuple[str, str]
) -> Iterable[bytes]:
    if body is None:
        body = f"{status.value} - {status.phrase}\n".encode()
    start(
        f"{status.value} {status.phrase}",
        [
            ("Server", "EC2ws"),
            ("Content-Type", "text/plain"),
            ("Content-Length", str(len(body))),
            *headers,
        ],
    )
    return [body]


def _is_date(version: str) -> bool:
    """IMDS answers under the dates of its versions too."""
    try:
        datetime.strptime(version, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return True
