"""An HTTP proxy before an endpoint that speaks for providers: it counts calls, and makes one of them go wrong."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

FAULTS: Mapping[str, str] = {
    "kill_before": "SIGKILL to the command; the call is not carried out",
    "kill_after": "the call is carried out, then SIGKILL to the command; the answer is never delivered",
    "drop_before": "the connection is closed; the call is not carried out",
    "drop_after": "the call is carried out; the connection is closed without an answer",
    "delay": "the call is carried out, the answer comes later (--seconds)",
    "http500": "an internal error of AWS's; the call is not carried out",
    "http500_after": "the call is carried out, the answer is an internal error of AWS's",
    "throttle": "the call is refused because there are too many",
    "expired": "the call is refused because the credentials have expired",
    "denied": "the call is refused because it is not allowed",
    "html": "a web page instead of AWS's answer, as captive portals give; the call is not carried out",
}
"""What can go wrong with a call."""

_CODES = {
    "http500": {"ec2": (500, "InternalError"), "s3": (500, "InternalError"), "": (500, "InternalFailure")},
    "throttle": {
        "ec2": (503, "RequestLimitExceeded"),
        "s3": (503, "SlowDown"),
        "": (400, "ThrottlingException"),
    },
    "expired": {
        "ec2": (400, "RequestExpired"),
        "s3": (400, "ExpiredToken"),
        "": (400, "ExpiredTokenException"),
    },
    "denied": {
        "ec2": (403, "UnauthorizedOperation"),
        "s3": (403, "AccessDenied"),
        "": (400, "AccessDeniedException"),
    },
}
_REST_STATUS = {"http500": 500, "throttle": 429, "expired": 401, "denied": 403}
_REST_PREFIX = re.compile(r"/(runpod|lyceum)(?:/api/v2/external)?(/[^?]*)")
_REST_WORDS = re.compile(
    r"action|aggregate|availability|billing|block|catalog|create|credentials|datacenters|gpus|graphql|list"
    r"|network-volumes|orgs|pods|registries|status|storage|transactions|user|vms"
)
"""Of the paths of REST APIs; other parts of a path are ids."""
_HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "te", "transfer-encoding", "upgrade"}
_PAGE = b"<html><head><title>Welcome</title></head><body><p>Sign in to use this network.</p></body></html>"


@dataclass(frozen=True)
class Arm:
    """Which call goes wrong, and how."""

    fault: str = ""
    """A key of `FAULTS`; empty for none."""
    at: int = 1
    """The number of the call, from 1, among those that match."""
    always: bool = False
    """That call and every later one."""
    match: str = ""
    """Only calls of this name, such as ``ec2:CreateVolume``; empty: all."""
    seconds: float = 70.0
    process_id: int = 0
    """The command, for the faults that kill it."""
    each_change: bool = False
    """Instead: every call that changes something, the first time that its name occurs."""

    def hits(self, names: list[str]) -> bool:
        """Whether the last of these calls is to go wrong. Pure."""
        if not self.fault or self.match not in {"", names[-1]}:
            return False
        if self.each_change:
            return is_change(names[-1]) and names.count(names[-1]) == 1
        number = names.count(self.match) if self.match else len(names)
        return number == self.at or (self.always and number > self.at)


@dataclass
class Call:
    """One call that passed."""

    name: str
    """``ec2:RunInstances``; ``s3:PUT`` where the operation has no name of its own in the request, and
    ``runpod:DELETE/pods/*`` of a REST API."""
    fault: str = ""
    status: int | None = None
    """``None``: nothing was answered."""


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    length: str | None = None
    """Of what a HEAD does not carry."""


@dataclass
class FaultProxy:
    """Use it as a context manager; `url` is then an endpoint."""

    to: str
    host: str = "127.0.0.1"
    counts: Callable[[str], bool] = field(default=lambda _peer: True)
    """Whether calls from this address are the command's; others are passed on and not counted."""
    url: str = ""
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._arm = Arm()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """It listens."""
        self._server = ThreadingHTTPServer((self.host, 0), type("Handler", (_Handler,), {"owner": self}))
        self._server.daemon_threads = True
        self.url = f"http://{self.host}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """It listens no more."""
        self._server.shutdown()
        self._server.server_close()

    def arm(
        self,
        fault: str = "",
        *,
        at: int = 1,
        match: str = "",
        always: bool = False,
        seconds: float = 70.0,
        process_id: int = 0,
        each_change: bool = False,
    ) -> None:
        """Count from nothing; from now on that call goes wrong."""
        assert not fault or fault in FAULTS
        with self._lock:
            self.calls.clear()
            self._arm = Arm(fault, at, always, match, seconds, process_id, each_change)

    def count(self, name: str) -> int:
        """How many calls have this name."""
        return sum(call.name == name for call in self.calls)

    def begin(self, name: str) -> tuple[Call, Arm]:
        """Count the call, and say what is to go wrong with it."""
        with self._lock:
            call = Call(name)
            self.calls.append(call)
            arm = self._arm
            if arm.hits([each.name for each in self.calls]):
                call.fault = arm.fault
            return call, arm


class _Handler(BaseHTTPRequestHandler):
    """One connection of the command's."""

    protocol_version = "HTTP/1.1"
    owner: FaultProxy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _serve(self) -> None:
        body = _body(self.rfile, self.headers)
        if not self.owner.counts(self.client_address[0]):
            self._answer(_forward(self.owner.to, self.command, self.path, self.headers, body))
            return
        name = name_of(self.command, self.path, self.headers, body)
        call, arm = self.owner.begin(name)
        if call.fault in {"kill_before", "drop_before"}:
            self._cut(arm if call.fault == "kill_before" else None)
            return
        if call.fault in _CODES:
            answer = _refusal(call.fault, name)
        elif call.fault == "html":
            answer = _Answer(200, [("Content-Type", "text/html")], _PAGE)
        else:
            answer = _forward(self.owner.to, self.command, self.path, self.headers, body)
        if call.fault in {"kill_after", "drop_after"}:
            self._cut(arm if call.fault == "kill_after" else None)
            return
        if call.fault == "http500_after":
            answer = _refusal("http500", name)
        if call.fault == "delay":
            time.sleep(arm.seconds)
        call.status = answer.status
        self._answer(answer)

    def _answer(self, answer: _Answer) -> None:
        with contextlib.suppress(OSError):
            self.send_response_only(answer.status)
            for key, value in answer.headers:
                if key.lower() not in _HOP_BY_HOP:
                    self.send_header(key, value)
            self.send_header("Content-Length", answer.length or str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

    def _cut(self, kill: Arm | None) -> None:
        if kill is not None and kill.process_id:
            with contextlib.suppress(ProcessLookupError):
                os.kill(kill.process_id, signal.SIGKILL)
        self.close_connection = True


def is_change(name: str) -> bool:
    """Whether a call of this name changes something. Pure."""
    operation = name.partition(":")[2]
    # RunPod's balance is asked for by POST.
    reads = ("Describe", "Get", "GET", "List", "HEAD", "AssumeRole", "POST/graphql")
    return not operation.startswith(reads)


def name_of(method: str, target: str, headers: Message, body: bytes) -> str:
    """The call's service and operation, from what it looks like on the wire. Pure."""
    if rest := _REST_PREFIX.match(target):
        parts = (
            "/" + (part if _REST_WORDS.fullmatch(part) else "*") for part in rest[2].strip("/").split("/")
        )
        return f"{rest[1]}:{method}{''.join(parts)}"
    scope = headers.get("authorization", "").partition("Credential=")[2].partition(",")[0].split("/")
    service = scope[3] if len(scope) > 3 else "s3"
    if "x-amz-target" in headers:
        return f"{service}:{headers['x-amz-target'].rpartition('.')[2]}"
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return f"{service}:{parse_qs(body.decode(errors='replace')).get('Action', ['?'])[0]}"
    query = urlsplit(target).query
    parameter = re.split("[&=]", query)[0] if query else ""
    return f"{service}:{method}{'?' + parameter if parameter else ''}"


def _refusal(kind: str, name: str) -> _Answer:
    service = name.partition(":")[0]
    if service in {"runpod", "lyceum"}:
        told = json.dumps({"detail": "the fault campaign says so"}).encode()
        return _Answer(_REST_STATUS[kind], [("Content-Type", "application/json")], told)
    status, code = _CODES[kind].get(service, _CODES[kind][""])
    message = "the fault campaign says so"
    if service in {"ecr", "ec2-instance-connect", "pricing", "ssm"}:
        body = json.dumps({"__type": code, "message": message}).encode()
        return _Answer(status, [("Content-Type", "application/x-amz-json-1.1")], body)
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    wrapped = {
        "ec2": f"<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>",
        "s3": error,
    }.get(service, f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>")
    return _Answer(status, [("Content-Type", "text/xml")], wrapped.encode())


def _forward(to: str, method: str, target: str, headers: Message, body: bytes) -> _Answer:
    address = urlsplit(to)
    upstream = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=900)
    try:
        upstream.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for key, value in headers.items():
            if key.lower() not in _HOP_BY_HOP | {"expect"}:
                upstream.putheader(key, value)
        upstream.putheader("Host", address.netloc)
        upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body or None)
        response = upstream.getresponse()
        data = response.read()
        length = response.getheader("content-length") if method == "HEAD" else None
        return _Answer(response.status, response.getheaders(), data, length)
    finally:
        upstream.close()


def _body(stream: Any, headers: Message) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        data: bytes = stream.read(int(headers.get("content-length") or 0))
        return data
    whole = bytearray()
    while size := int(stream.readline().split(b";")[0], 16):
        whole += stream.read(size)
        stream.readline()
    while stream.readline().strip():
        pass
    return bytes(whole)
