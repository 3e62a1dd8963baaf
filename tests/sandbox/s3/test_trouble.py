"""S3 that is slow or away, as its users meet it."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from typing import Any

from runctl.sandbox.api.http_server import Start
from runctl.sandbox.s3 import trouble
from runctl.sandbox.s3.request import REQUEST_KEY, read
from runctl.sandbox.s3.trouble import TroubledStore
from runctl.sandbox.store_trouble import WELL, StoreTrouble


class Time:
    """One that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def echo(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
    start("200 OK", [])
    return [environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))]


def asked(
    store: TroubledStore, body: bytes = b"", method: str = "PUT", *, s3: bool = True
) -> tuple[str, bytes]:
    said: list[str] = []
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    if s3:
        environ[REQUEST_KEY] = read(method, "/bucket/key", "")
    answer = b"".join(store(environ, lambda status, _headers: said.append(status)))
    return said[0], answer


def test_while_it_is_away_every_request_is_refused_and_other_services_answer() -> None:
    store = TroubledStore(echo, lambda: StoreTrouble(away=True))
    status, body = asked(store, b"data")
    assert (status, b"<Code>ServiceUnavailable</Code>" in body) == ("503 Service Unavailable", True)
    assert asked(store, method="HEAD") == ("503 Service Unavailable", b"")
    assert asked(store, b"data", s3=False) == ("200 OK", b"data")


def test_a_slow_one_loses_nothing_and_moves_what_it_is_said_to_for_all_together(monkeypatch: Any) -> None:
    time, data = Time(), b"x" * (40 << 10)
    monkeypatch.setattr(trouble, "time", time)
    store = TroubledStore(echo, lambda: StoreTrouble(bytes_per_second=10 << 10))
    assert asked(store, data) == ("200 OK", data)
    # In and out again.
    assert time.now == 8.0


def test_whoever_waits_goes_on_when_it_is_well_again() -> None:
    now = [StoreTrouble(bytes_per_second=1)]
    store = TroubledStore(echo, lambda: now[0])
    waiting = threading.Thread(target=asked, args=(store, b"x" * 1000))
    waiting.start()
    now[0] = WELL
    waiting.join(timeout=30)
    assert not waiting.is_alive()
    assert asked(store, b"data") == ("200 OK", b"data")
