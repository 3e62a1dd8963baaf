"""The server that docker talks to at ECR's address: asks for the token, knows the repositories, passes layers to the
registry.

Layers go through the kernel from socket to socket. Manifests are answered from what the back-end knows, so that the
registry and the API always agree. One request a connection. Not on `HttpServer`, because the kernel can pass on only
what no server has begun to read.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import json
import logging
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.client import parse_headers
from urllib.parse import parse_qs, urlsplit

from moto.core.exceptions import ServiceException

from runctl.sandbox.api.listener import Listener
from runctl.sandbox.api.streams import pump
from runctl.sandbox.ecr.images import RepositoryImages
from runctl.sandbox.ecr.manifest import MOST_BYTES
from runctl.sandbox.ecr.route import Route, route
from runctl.sandbox.ecr.tokens import ExpiredToken, UnknownToken

USER = "AWS"
LAYERS = "/layers/"
"""The prefix of the links that GetDownloadUrlForLayer gives."""
_MOST_HEAD_BYTES = 64 << 10
_PATIENCE_SECONDS = 60.0
_TLS_HANDSHAKE = 0x16
_CODES = {
    "RepositoryNotFoundException": (404, "NAME_UNKNOWN"),
    "ImageNotFoundException": (404, "MANIFEST_UNKNOWN"),
    "LayersNotFoundException": (400, "MANIFEST_BLOB_UNKNOWN"),
    "ReferencedImagesNotFoundException": (400, "MANIFEST_BLOB_UNKNOWN"),
    "ImageTagAlreadyExistsException": (400, "TAG_INVALID"),
    "InvalidParameterException": (400, "MANIFEST_INVALID"),
    "ImageReferencedByManifestList": (400, "DENIED"),
    "AccessDeniedException": (403, "DENIED"),
    "ServerException": (503, "UNAVAILABLE"),
}
"""ECR's API words to the registry protocol's."""

log = logging.getLogger("runctl.sandbox")


class Refused(Exception):
    """An answer that is not what was asked for."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class NotLoggedIn(Exception):
    """No password was given."""


@dataclass(frozen=True)
class Request:
    """The head of a request, and what came of its body along with it."""

    method: str
    target: str
    headers: Message
    begun: bytes

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's values by name."""
        return parse_qs(urlsplit(self.target).query)

    @property
    def body_bytes(self) -> int | None:
        """The body's length; ``None`` when only its end will tell."""
        if self.headers.get("Transfer-Encoding"):
            return None
        return int(self.headers.get("Content-Length") or 0)


@dataclass(frozen=True)
class Reply:
    """An answer of this server."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] | None = None


class Front:
    """Listens on one address of this computer; `answer` serves connections from elsewhere, too."""

    def __init__(self, images: RepositoryImages, host: str) -> None:
        self._images = images
        listening = socket.create_server((host, 0), backlog=128)
        self.port: int = listening.getsockname()[1]
        self.address = f"{host}:{self.port}"
        self._listener = Listener(listening, self.answer, "ecr")

    def stop(self) -> None:
        """Stops listening."""
        self._listener.stop()

    def answer(self, connection: socket.socket) -> None:
        """One request, to its end."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(_PATIENCE_SECONDS)
        request = _read(connection)
        if request is None:
            return
        try:
            reply = self._serve(request, connection)
        except NotLoggedIn:
            challenge = f'Basic realm="http://{self.address}/",service="ecr.amazonaws.com"'
            reply = Reply(401, b"Not Authorized\n", {"WWW-Authenticate": challenge})
        except Refused as refusal:
            reply = _error(refusal.status, refusal.code, str(refusal))
        except ServiceException as refusal:
            status, code = _CODES.get(refusal.code, (500, "UNKNOWN"))
            reply = _error(status, code, refusal.message)
        if reply is not None:
            _send(connection, request, reply)

    def _serve(self, request: Request, connection: socket.socket) -> Reply | None:
        if request.path.startswith(LAYERS):
            self._linked_layer(request, connection)
            return None
        holder = self._holder(request.headers.get("Authorization", ""))
        if request.path in {"/v2", "/v2/"}:
            return Reply(200)
        if request.path == "/v2/_catalog":
            names = sorted(self._images.repositories)
            return _json({"repositories": names})
        where = route(request.method, request.path)
        if where is None:
            raise Refused(404, "UNSUPPORTED", f"there is nothing at {request.method} {request.path}")
        self._images.check(holder, where.action, where.repository)
        self._images.repository(where.repository)
        if where.kind == "manifests":
            return self._manifest(request, where, connection)
        if where.kind == "tags":
            images = self._images.repository(where.repository).images
            tags = sorted(tag for image in images for tag in image.image_tags)
            return _json({"name": where.repository, "tags": tags})
        self._relay(request, connection, mounting=where.action == "InitiateLayerUpload")
        return None

    def _holder(self, authorization: str) -> str:
        """The access key that asked for the token."""
        if not authorization:
            raise NotLoggedIn
        try:
            return self._images.logins.meaning(_password(authorization))
        except UnknownToken:
            raise Refused(400, "DENIED", "Your Authorization Token is invalid.") from None
        except ExpiredToken:
            message = "Your authorization token has expired. Reauthenticate and try again."
            raise Refused(403, "DENIED", message) from None

    def _manifest(self, request: Request, where: Route, connection: socket.socket) -> Reply:
        name, tag, digest = where.repository, where.tag, where.digest
        if request.method == "DELETE":
            self._images.remove(name, tag=tag, digest=digest)
            return Reply(202)
        if request.method == "PUT":
            body = _body(request, connection)
            image = self._images.push(name, tag, body, request.headers.get("Content-Type"))
            if digest not in {None, image.manifest.digest}:
                raise Refused(400, "DIGEST_INVALID", "the manifest is not what its digest says")
            location = f"http://{self.address}/v2/{name}/manifests/{image.manifest.digest}"
            return Reply(201, b"", {"Docker-Content-Digest": image.manifest.digest, "Location": location})
        try:
            image = self._images.find(name, tag=tag, digest=digest)
        except ServiceException as error:
            raise Refused(404, "MANIFEST_UNKNOWN", "Requested image not found") from error
        if request.method == "GET":
            self._images.note_pull(image)
        described = {
            "Docker-Content-Digest": image.manifest.digest,
            "Content-Type": image.manifest.media_type,
        }
        return Reply(200, image.manifest.body, described)

    def _linked_layer(self, request: Request, connection: socket.socket) -> None:
        try:
            name, digest = self._images.links.meaning(request.query.get("ticket", [""])[0])
        except (UnknownToken, ExpiredToken):
            raise Refused(403, "DENIED", "the link is invalid or has expired") from None
        if request.path != f"{LAYERS}{name}/{digest}" or request.method not in {"GET", "HEAD"}:
            raise Refused(403, "DENIED", "the link is for something else")
        onward = Request(request.method, f"/v2/{name}/blobs/{digest}", request.headers, request.begun)
        self._relay(onward, connection)

    def _relay(self, request: Request, connection: socket.socket, *, mounting: bool = False) -> None:
        """The registry answers. Without ``mounting``'s query: ECR never takes a layer over from another repository."""
        registry = self._images.registry
        target = request.path if mounting else request.target
        with registry.connect() as onward:
            for end in (connection, onward):
                end.settimeout(None)
            onward.sendall(_onward_head(request, target) + request.begun)
            sending = threading.Thread(target=_send_body, args=(request, connection, onward), daemon=True)
            sending.start()
            try:
                pump(onward, connection)
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
                sending.join(timeout=5)
            finally:
                for end in (connection, onward):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                sending.join()


def _read(connection: socket.socket) -> Request | None:
    """The head of a request; ``None`` when there comes none that could be answered, which the other side is told."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(_MOST_HEAD_BYTES)
        data += more
        if data[:1] == bytes([_TLS_HANDSHAKE]) or len(data) > _MOST_HEAD_BYTES:
            # To an engine this answer means: no TLS here, try without.
            connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\nThis is HTTP, without TLS.\n")
            return None
        if not more:
            return None
    head, _, begun = data.partition(b"\r\n\r\n")
    first, _, rest = head.partition(b"\r\n")
    parts = first.decode("latin-1").split()
    if len(parts) != 3:
        connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        return None
    return Request(parts[0], parts[1], parse_headers(io.BytesIO(rest + b"\r\n\r\n")), begun)


def _password(authorization: str) -> str:
    """ECR's user's. Raises `UnknownToken` where there is none."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise UnknownToken from None
    if scheme.lower() != "basic" or user != USER:
        raise UnknownToken
    return password


def _onward_head(request: Request, target: str) -> bytes:
    """The Host stays: the registry builds the addresses in its answers from it."""
    lines = [f"{request.method} {target} HTTP/1.1"]
    for name, value in request.headers.items():
        if name.lower() not in {"authorization", "connection"}:
            lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


def _send_body(request: Request, connection: socket.socket, onward: socket.socket) -> None:
    wanted = request.body_bytes
    left = None if wanted is None else wanted - len(request.begun)
    sent = None
    with contextlib.suppress(OSError):
        sent = pump(connection, onward, left)
    if sent is None or sent != left:
        # The client has gone, or has read the answer that it got before its body's end.
        with contextlib.suppress(OSError):
            onward.shutdown(socket.SHUT_WR)


def _body(request: Request, connection: socket.socket) -> bytes:
    wanted = request.body_bytes
    if wanted is None:
        raise Refused(411, "SIZE_INVALID", "a manifest is sent with its length")
    if wanted > MOST_BYTES:
        raise Refused(413, "SIZE_INVALID", f"the manifest is larger than {MOST_BYTES} bytes")
    if request.headers.get("Expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = request.begun
    while len(body) < wanted:
        more = connection.recv(wanted - len(body))
        if not more:
            raise OSError("the client has gone")
        body += more
    return body[:wanted]


def _send(connection: socket.socket, request: Request, reply: Reply) -> None:
    headers = {
        "Docker-Distribution-Api-Version": "registry/2.0",
        "Content-Length": str(len(reply.body)),
        "Connection": "close",
        **(reply.headers or {}),
    }
    head = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    body = b"" if request.method == "HEAD" else reply.body
    connection.sendall(head.encode("latin-1") + b"\r\n" + body)
    connection.shutdown(socket.SHUT_WR)
    # Closed with something unread, the connection would be reset, and the answer with it.
    connection.settimeout(2)
    with contextlib.suppress(OSError):
        while connection.recv(1 << 20):
            pass


def _json(value: object) -> Reply:
    return Reply(200, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8"})


def _error(status: int, code: str, message: str) -> Reply:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Reply(status, body, {"Content-Type": "application/json; charset=utf-8"})
