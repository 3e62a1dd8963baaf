"""What stands before every request: credentials, asked-for faults, and calls that are repeated with one token."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from runctl.sandbox.world import World

Start = Callable[..., Any]
Wsgi = Callable[[dict[str, Any], Start], Iterable[bytes]]

IDEMPOTENT = {"RunInstances", "CreateVolume"}
EXPIRED_TOKEN = "expired"  # noqa: S105 - the word that tests use for one
INVALID_KEY = "AKIAINVALID"

_here = threading.local()


def parameter(name: str) -> str | None:
    """A form parameter of the EC2 request that this thread serves; moto passes not all of them on."""
    form: dict[str, str] = getattr(_here, "form", {})
    return form.get(name)


@dataclass(frozen=True)
class _Call:
    service: str
    action: str
    form: dict[str, str]
    access_key: str
    token: str


class Gate:
    """WSGI middleware around moto's application."""

    def __init__(self, application: Wsgi, world: World) -> None:
        self._application = application
        self._world = world
        self._answers: dict[tuple[str, str], tuple[str, str, list[tuple[str, str]], bytes]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        call = _read(environ)
        refusal = self._refusal(call)
        if refusal is not None:
            return _refuse(call, start, *refusal)
        _here.form = call.form
        token = call.form.get("ClientToken", "")
        if call.action in IDEMPOTENT and token:
            return self._once(call, token, environ, start)
        return self._application(environ, start)

    def _refusal(self, call: _Call) -> tuple[int, str, str] | None:
        faults = self._world.faults
        ec2 = call.service == "ec2"
        if call.token == EXPIRED_TOKEN:
            code = "RequestExpired" if ec2 else "ExpiredToken"
            return (
                400,
                code,
                "Request has expired." if ec2 else "The security token included in the request is expired",
            )
        if call.access_key == INVALID_KEY:
            if ec2:
                return 401, "AuthFailure", "AWS was not able to validate the provided access credentials"
            return 403, "InvalidClientTokenId", "The security token included in the request is invalid."
        if f"{call.service}:{call.action}" in faults.denied:
            message = f"You are not authorized to perform this operation: {call.service}:{call.action}."
            return 403, "UnauthorizedOperation" if ec2 else "AccessDenied", message
        with self._world.lock:
            left = faults.throttled.get(call.action, 0)
            if left > 0:
                faults.throttled[call.action] = left - 1
                code = "RequestLimitExceeded" if ec2 else "ThrottlingException"
                return 503 if ec2 else 400, code, "Request limit exceeded."
        return None

    def _once(self, call: _Call, token: str, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """The same token and parameters get the first answer again; other parameters are refused, as on AWS."""
        wanted = hashlib.sha256(json.dumps(sorted(call.form.items())).encode()).hexdigest()
        key = (call.action, token)
        with self._guard:
            lock = self._locks.setdefault(f"{call.action}/{token}", threading.Lock())
        with lock:
            if key in self._answers:
                digest, status, headers, body = self._answers[key]
                if digest != wanted:
                    message = (
                        "The request uses the same client token as a previous, but non-identical request."
                    )
                    return _refuse(call, start, 400, "IdempotentParameterMismatch", message)
                start(status, headers)
                return [body]
            kept: list[Any] = []
            body = b"".join(self._application(environ, lambda *words, **more: kept.append((words, more))))
            (words, _more) = kept[-1]
            if str(words[0]).startswith("200"):
                self._answers[key] = (wanted, words[0], words[1], body)
            start(*words)
            return [body]


def _read(environ: dict[str, Any]) -> _Call:
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    scope = authorization.partition("Credential=")[2].partition(",")[0].split("/")
    service = scope[3] if len(scope) > 3 else ""
    token = environ.get("HTTP_X_AMZ_SECURITY_TOKEN", "")
    form: dict[str, str] = {}
    action = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = BytesIO(body)
        form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        action = form.get("Action", action)
    return _Call(service, action, form, scope[0], token)


def _refuse(call: _Call, start: Start, status: int, code: str, message: str) -> Iterable[bytes]:
    if call.service == "ec2":
        text = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error></Errors>"
            "<RequestID>00000000-0000-4000-8000-000000000000</RequestID></Response>"
        )
        kind = "text/xml"
    elif call.form:
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
            "<RequestId>00000000-0000-4000-8000-000000000000</RequestId></ErrorResponse>"
        )
        kind = "text/xml"
    elif call.service == "s3":
        text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        kind = "application/xml"
    else:
        text, kind = json.dumps({"__type": code, "message": message}), "application/x-amz-json-1.1"
    body = text.encode()
    start(f"{status} Refused", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
