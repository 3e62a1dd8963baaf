"""An instance metadata service (version 2) that announces what a test wants, on a port of this computer."""

from __future__ import annotations

import http.server
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runctl.agent.cloud.metadata import ENDPOINT_VARIABLE


class MetadataService(http.server.ThreadingHTTPServer):
    """Nothing is announced at first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.texts: dict[str, str] = {"instance-life-cycle": "spot"}
        self.clock_ahead = 0.0
        """Seconds by which the service's clock is ahead of this computer's."""
        self.tokens: set[str] = set()
        """Those that are valid: clear it, and all have ended."""

    @property
    def variables(self) -> dict[str, str]:
        """That lead an agent here."""
        return {ENDPOINT_VARIABLE: f"http://127.0.0.1:{self.server_port}"}

    def _now(self) -> float:
        return time.time() + self.clock_ahead

    def interrupt(self, seconds: float) -> None:
        """The machine ends so many seconds from now."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now() + seconds))
        self.texts["spot/instance-action"] = json.dumps({"action": "terminate", "time": at})

    def recommend_rebalance(self) -> None:
        """An interruption has become likely."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now()))
        self.texts["events/recommendations/rebalance"] = json.dumps({"noticeTime": at})


class _Handler(http.server.BaseHTTPRequestHandler):
    server: MetadataService

    def do_PUT(self) -> None:
        if self.path != "/latest/api/token":
            self._answer(None)
            return
        token = secrets.token_hex(8)
        self.server.tokens.add(token)
        self._answer(token)

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] not in self.server.tokens:
            self._answer(None, 401)
            return
        self._answer(self.server.texts.get(self.path.removeprefix("/latest/meta-data/")))

    def _answer(self, body: str | None, without: int = 404) -> None:
        self.send_response(without if body is None else 200)
        self.send_header("Content-Length", str(len(body or "")))
        self.end_headers()
        self.wfile.write((body or "").encode())

    def date_time_string(self, timestamp: float | None = None) -> str:
        """For the header ``Date``."""
        now = time.time() if timestamp is None else timestamp
        return super().date_time_string(now + self.server.clock_ahead)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def metadata_service() -> Iterator[MetadataService]:
    """One that answers until the block is left."""
    with MetadataService() as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield service
        service.shutdown()
