"""The server below the API: connections that stay, bodies of every kind, answers from files."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runctl.sandbox.api.http_server import FileRegion, HttpServer

Environ = dict[str, Any]
Serve = Callable[[Callable[[Environ, Any], Iterable[bytes]]], "Client"]


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers with lower-case names, and body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(
            method, path, body=body, headers=named, encode_chunked=hasattr(body, "__next__")
        )
        response = self.connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, response.read()

    @property
    def local_port(self) -> int:
        """Tells one connection from the next."""
        return int(self.connection.sock.getsockname()[1])


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server of an application, and a client of it."""
    servers: list[HttpServer] = []
    clients: list[Client] = []

    def call(application: Callable[[Environ, Any], Iterable[bytes]]) -> Client:
        servers.append(HttpServer(application, socket.create_server(("127.0.0.1", 0))))
        clients.append(Client(servers[-1].port))
        return clients[-1]

    yield call
    for client in clients:
        client.connection.close()
    for server in servers:
        server.stop()


def echo(environ: Environ, start: Any) -> Iterable[bytes]:
    """The request's body."""
    start("200 OK", [("Content-Type", "text/plain")])
    return [environ["wsgi.input"].read()]


def test_a_connection_serves_one_request_after_another(serve: Serve) -> None:
    client = serve(echo)

    ports = set()
    for number in range(3):
        assert client.ask("POST", "/", str(number))[2] == str(number).encode()
        ports.add(client.local_port)
    assert len(ports) == 1


def test_a_connection_ends_when_the_client_says_so(serve: Serve) -> None:
    assert serve(echo).ask("GET", "/", Connection="close")[1]["connection"] == "close"


def test_a_body_in_chunks_is_read_to_its_end(serve: Serve) -> None:
    client = serve(echo)

    assert client.ask("POST", "/", iter([b"one", b"two" * 50_000]), Transfer_Encoding="chunked")[2] == (
        b"one" + b"two" * 50_000
    )
    assert client.ask("POST", "/", "next")[2] == b"next"


@pytest.mark.parametrize("size", [10, 500_000, 5_000_000])
def test_a_body_that_nobody_reads_does_not_disturb_the_next_request(serve: Serve, size: int) -> None:
    def refuse(environ: Environ, start: Any) -> Iterable[bytes]:
        start("403 Forbidden", [])
        return [environ["PATH_INFO"].encode()]

    client = serve(refuse)

    for path in ("/first", "/second"):
        try:
            status, _, body = client.ask("PUT", path, b"x" * size)
        except OSError:
            # Too long to be waited for: the connection may end while it is still being sent.
            assert size > 1 << 20
            client.connection.close()
        else:
            assert (status, body) == (403, path.encode())


def test_a_client_that_waits_is_told_to_go_on(serve: Serve) -> None:
    port = serve(echo).connection.port
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert b"200 OK" in connection.recv(1000)


def test_the_application_sees_the_request_as_wsgi_has_it(serve: Serve) -> None:
    seen: Environ = {}

    def look(environ: Environ, start: Any) -> Iterable[bytes]:
        seen.update(environ)
        start("204 No Content", [])
        return []

    client = serve(look)
    headers = {"x-amz-meta-a_b": "kept", "other_name": "dropped", "X-Two": "1"}
    client.connection.request("GET", "/a%20b/%C3%A9?x=%20&y", headers=headers)
    response = client.connection.getresponse()

    assert (response.status, response.read()) == (204, b"")
    assert seen["PATH_INFO"].encode("latin-1").decode() == "/a b/é"
    assert (seen["QUERY_STRING"], seen["RAW_URI"]) == ("x=%20&y", "/a%20b/%C3%A9?x=%20&y")
    assert (seen["HTTP_X_TWO"], seen["HTTP_X_AMZ_META_A_B"]) == ("1", "kept")
    assert "HTTP_OTHER_NAME" not in seen


def test_a_path_with_two_slashes_is_no_host(serve: Serve) -> None:
    def path(environ: Environ, start: Any) -> Iterable[bytes]:
        start("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    assert serve(path).ask("GET", "//bucket/key")[2] == b"//bucket/key"


def test_a_head_has_the_length_and_no_body(serve: Serve) -> None:
    def head(environ: Environ, start: Any) -> Iterable[bytes]:
        start("200 OK", [("content-length", "1234")])
        return []

    client = serve(head)

    for _ in range(2):
        status, headers, body = client.ask("HEAD", "/")
        assert (status, headers["content-length"], body) == (200, "1234", b"")


def test_a_part_of_a_file_is_sent_and_the_file_closed(serve: Serve, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(content)
    opened: list[int] = []

    def part(environ: Environ, start: Any) -> Iterable[bytes]:
        opened.append(os.open(tmp_path / "file", os.O_RDONLY))
        start("206 Partial Content", [])
        return FileRegion(opened[-1], 1000, 2_500_000)

    client = serve(part)

    for _ in range(2):
        status, headers, body = client.ask("GET", "/")
        assert (status, headers["content-length"]) == (206, "2500000")
        assert hashlib.sha256(body).digest() == hashlib.sha256(content[1000:2_501_000]).digest()
    client.connection.close()
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_a_file_region_can_be_read_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789" * 200_000)
    region = FileRegion(os.open(tmp_path / "file", os.O_RDONLY), 5, 1_500_000)

    content = b"".join(region)
    region.close()

    assert content == (b"0123456789" * 200_000)[5:1_500_005]


@pytest.mark.parametrize("error", [ValueError("no"), ProcessLookupError("the machine is down")])
def test_an_application_that_breaks_is_an_error_500(
    serve: Serve, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def broken(environ: Environ, start: Any) -> Iterable[bytes]:
        raise error

    assert serve(broken).ask("GET", "/")[0] == 500
    assert "GET /" in caplog.text


@pytest.mark.parametrize("text", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nnothing\r\n\r\n", b"\x16\x03\x01"])
def test_what_is_no_request_ends_the_connection(serve: Serve, text: bytes) -> None:
    port = serve(echo).connection.port
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(5)

        assert connection.recv(100) == b""
