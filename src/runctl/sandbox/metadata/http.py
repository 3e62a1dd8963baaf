"""IMDS as a machine speaks with it: tokens, refusals, texts and listings."""

from __future__ import annotations

import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from runctl.sandbox.metadata.facts import InstanceFacts
from runctl.sandbox.metadata.tree import Credentials, look_up, tree
from runctl.sandbox.world import World

TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 - the header's name
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
LONGEST_TTL = 21600
RENEWED_BEFORE = timedelta(minutes=15)
"""AWS has new keys ready some minutes before the old ones end."""
_HELD_SECONDS = 30.0


class Desk:
    """One machine's: its tokens and its role's keys."""

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

    def answer(self, connection: socket.socket) -> None:
        """Every request of one connection."""
        _Handler(connection, self)

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
        return look_up(tree(facts, notices, lambda: self._keys(facts)), path)

    def _keys(self, facts: InstanceFacts) -> Credentials:
        with self._lock:
            kept = self._credentials
            if kept is None or kept.expires - datetime.now(UTC) < RENEWED_BEFORE:
                kept = self._credentials = self._issue(facts)
            return kept


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"
    sys_version = ""
    timeout = 60

    def __init__(self, connection: socket.socket, desk: Desk) -> None:
        self._desk = desk
        super().__init__(connection, connection.getpeername(), None)  # type: ignore[arg-type]

    def do_PUT(self) -> None:
        """A token."""
        facts = self._desk.describe()
        if self._is_refused(facts):
            return
        if self.path.partition("?")[0].rstrip("/") != "/latest/api/token":
            self._send(HTTPStatus.NOT_FOUND)
            return
        if facts.hop_limit < 2 and self.client_address[0] not in self._desk.own_addresses:
            # On AWS the answer's packets die one hop short of a container: its caller hears nothing.
            select.select([self.connection], [], [], _HELD_SECONDS)
            self.close_connection = True
            return
        ttl = self.headers.get(TTL_HEADER, "")
        if not ttl.isascii() or not ttl.isdigit() or not 1 <= int(ttl) <= LONGEST_TTL:
            self._send(HTTPStatus.BAD_REQUEST)
            return
        self._send(HTTPStatus.OK, self._desk.new_token(int(ttl)).encode(), {TTL_HEADER: ttl})

    def do_GET(self) -> None:
        """A text or a listing."""
        facts = self._desk.describe()
        if self._is_refused(facts):
            return
        token = self.headers.get(TOKEN_HEADER)
        if (token is None and facts.tokens_required) or (token is not None and not self._desk.knows(token)):
            self._send(HTTPStatus.UNAUTHORIZED)
            return
        version, _, rest = self.path.partition("?")[0].lstrip("/").partition("/")
        found: bytes | None
        if not version:
            found = b"latest"
        elif version == "latest" or _is_date(version):
            found = self._desk.read(facts, rest)
        else:
            found = None
        if found is None:
            self._send(HTTPStatus.NOT_FOUND)
        else:
            self._send(HTTPStatus.OK, found)

    do_HEAD = do_GET  # noqa: N815 - the base class calls it so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Not written."""

    def _is_refused(self, facts: InstanceFacts) -> bool:
        length = int(self.headers.get("Content-Length") or 0)
        if length:
            self.rfile.read(length)
        refused = not facts.enabled or "X-Forwarded-For" in self.headers
        if refused:
            self._send(HTTPStatus.FORBIDDEN)
        return refused

    def _send(
        self, status: HTTPStatus, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        if body is None:
            body = f"{status.value} - {status.phrase}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _is_date(version: str) -> bool:
    """IMDS answers under the dates of its versions too."""
    try:
        datetime.strptime(version, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return True
