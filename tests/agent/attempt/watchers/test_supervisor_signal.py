"""Who or what ended a run, told as it was."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest

from runctl.agent.attempt.watchers.supervisor_signal import spot_notice, why_terminated
from runctl.agent.spec import EndReason


@pytest.mark.parametrize(
    ("notice", "down", "reason", "said"),
    [
        (
            "terminate at 12:00",
            True,
            EndReason.INTERRUPTED,
            "takes the spot machine back (terminate at 12:00)",
        ),
        ("terminate at 12:00", False, EndReason.INTERRUPTED, "takes the spot machine back"),
        (None, True, EndReason.STOPPED, "the machine was shut down"),
        (None, False, EndReason.STOPPED, "somebody on the machine"),
    ],
)
def test_a_signal_to_the_supervisor_has_its_true_cause(
    notice: str | None, down: bool, reason: EndReason, said: str
) -> None:
    found, message = why_terminated(notice, down)
    assert found is reason
    assert said in message


class Metadata(http.server.BaseHTTPRequestHandler):
    """EC2's instance metadata, version 2: what it answers is in ``body``."""

    body: ClassVar[bytes | None] = None

    def do_PUT(self) -> None:
        self._answer(b"token")

    def do_GET(self) -> None:
        wanted = self.path == "/latest/meta-data/spot/instance-action"
        allowed = self.headers["X-aws-ec2-metadata-token"] == "token"
        self._answer(self.body if wanted and allowed else None)

    def _answer(self, body: bytes | None) -> None:
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Metadata]]:
    with http.server.HTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        yield Metadata
        server.shutdown()


@pytest.mark.parametrize(
    ("body", "notice"),
    [
        (b'{"action": "terminate", "time": "2026-11-28T12:00:00Z"}', "terminate at 2026-11-28T12:00:00Z"),
        (None, None),
        (b"<html>", None),
    ],
)
def test_ec2s_own_notice_is_read(
    metadata: type[Metadata], monkeypatch: pytest.MonkeyPatch, body: bytes | None, notice: str | None
) -> None:
    monkeypatch.setattr(metadata, "body", body)
    assert spot_notice() == notice
