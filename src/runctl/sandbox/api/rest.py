"""What the JSON APIs of RunPod and Lyceum share on this computer: a key, routes, refusals, and what can go wrong."""

from __future__ import annotations

import hmac
import json
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map
from werkzeug.wrappers import Request, Response

from runctl.sandbox.api.http_server import CONNECTION, Start
from runctl.sandbox.machines.hardware import Hardware
from runctl.sandbox.machines.machine import Machine


class Refused(Exception):
    """The API answers with this status and text, and one text for each wrong field."""

    def __init__(self, status: int, detail: str, *errors: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors


class MachineMaker(Protocol):
    """Makes machines, and removes them."""

    docker: bool

    def new_machine(self, hardware: Hardware) -> Machine:
        """A machine that has not booted."""
        ...

    def forget_machine(self, instance_id: str) -> None:
        """Nothing is left of it."""
        ...


@dataclass
class RestBehaviour:
    """How any of these APIs behaves: what tests, and `runctl sandbox faults`, can change."""

    failing_reads: int = 0
    """How many more reads answer 500."""
    lost: dict[str, int] = field(default_factory=dict)
    """How many more calls of an endpoint are carried out and still answer 502."""
    dropped: dict[str, list[str]] = field(default_factory=dict)
    """What becomes of the connection of the next calls of an endpoint, call by call: it is reset ``before`` the call is
    carried out, ``after`` that without an answer, in the ``middle`` of the answer, or at its ``end``."""
    refused_key: bool = False
    denied: list[str] = field(default_factory=list)
    """Endpoints that the key has no right to: 403."""
    limited: int = 0
    """How many more calls answer 429, and when to come again."""


_DROPPED = "runctl.dropped"
"""In WSGI's environment: when the connection is to be reset."""


class Dropped(ConnectionAbortedError):
    """The connection is gone before the client has its answer."""


@dataclass(frozen=True)
class Reply:
    """An answer other than 200 with JSON."""

    status: int
    value: Any = None
    """``None``: an empty body."""


class RestApi(ABC):
    """The WSGI application of one such API. An endpoint of `routes` is the method ``_ENDPOINT``."""

    prefix: str
    """The prefix of its paths, below the sandbox's address."""
    routes: Map

    def __init__(self, key: str) -> None:
        self._key = key

    @property
    @abstractmethod
    def behaviour(self) -> RestBehaviour:
        """As it is now."""

    @abstractmethod
    def problem(self, status: int, title: str, refused: Refused | None) -> Mapping[str, Any]:
        """The body of a refusal, in the API's form."""

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        environ = {**environ, "PATH_INFO": environ.get("PATH_INFO", "").removeprefix(self.prefix)}
        answer = self.respond(Request(environ))
        drop = environ.get(_DROPPED)
        if drop:
            connection = environ.get(CONNECTION)
            if connection is not None:
                _reset(connection, _on_the_wire(answer) if drop in {"middle", "end"} else b"", drop)
            raise Dropped(drop)
        return answer(environ, start)

    def respond(self, request: Request) -> Response:
        """The answer to a request."""
        try:
            reply = self._reply(request)
        except Refused as refused:
            reply = Reply(refused.status, self.problem(refused.status, "Refused", refused))
        except HTTPException as error:
            code = error.code or 500
            reply = Reply(code, self.problem(code, error.name, None))
        text = "" if reply.value is None else json.dumps(reply.value)
        headers = {"Retry-After": "1"} if reply.status == 429 else {}
        return Response(text, reply.status, headers, content_type="application/json")

    def check_key(self, key: str, endpoint: str, values: Mapping[str, Any]) -> None:
        """Raises `Refused` where the key may not make that call."""
        del endpoint, values
        if self.behaviour.refused_key or not hmac.compare_digest(key.encode(), self._key.encode()):
            raise Refused(401, "missing or bad bearer token")

    def _reply(self, request: Request) -> Reply:
        endpoint, values = self.routes.bind("sandbox").match(request.path, request.method)
        self.check_key(request.headers.get("Authorization", "").removeprefix("Bearer "), endpoint, values)
        if endpoint in self.behaviour.denied:
            raise Refused(403, "access denied")
        if self.behaviour.limited > 0:
            self.behaviour.limited -= 1
            raise Refused(429, "rate limit exceeded for the minute window")
        if request.method == "GET" and self.behaviour.failing_reads > 0:
            self.behaviour.failing_reads -= 1
            raise Refused(500, "Internal Server Error")
        drops = self.behaviour.dropped.get(endpoint)
        drop = request.environ[_DROPPED] = drops.pop(0) if drops else ""
        if drop == "before":
            return Reply(204)
        answer = getattr(self, f"_{endpoint}")(request, **values)
        if self.behaviour.lost.get(endpoint, 0) > 0:
            self.behaviour.lost[endpoint] -= 1
            raise Refused(502, "Bad Gateway")
        return answer if isinstance(answer, Reply) else Reply(200, answer)


def _on_the_wire(answer: Response) -> bytes:
    body = answer.get_data()
    lines = [f"HTTP/1.1 {answer.status}", *(f"{name}: {value}" for name, value in answer.headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def _reset(connection: socket.socket, answer: bytes, drop: str) -> None:
    """What there is of the answer has gone, and the connection is reset."""
    with suppress(OSError):
        connection.sendall(answer[: -(len(answer) // 4) or None] if drop == "middle" else answer)
        # Whoever serves it closes it.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
