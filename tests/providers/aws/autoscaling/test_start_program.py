"""What a group's machine runs first, on its own: it finds the very program that the run was started with."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import pwd
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from runctl.providers.aws.autoscaling import start_program
from tests.agent.metadata_service import MetadataService, metadata_service

PROGRAM = b"import sys; sys.stdout.write(sys.stdin.read() + sys.argv[1])"
ROLE = {"AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "example", "Token": "token"}
WANTED = {
    "url": "s3://mine/runs of mine",
    "run_id": "run-1",
    "agent": "agent.pyz",
    "agent_sha256": hashlib.sha256(PROGRAM).hexdigest(),
    "store_region": "eu-west-1",
    "region": "us-east-1",
    "group": "runctl-run-1",
    "domain": "amazonaws.com",
}


class Endpoint(http.server.HTTPServer):
    """S3 and Auto Scaling, as much as the program asks of them; remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.elsewhere = ""
        """The region of the bucket, where it is another one than was asked in."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Endpoint

    def do_GET(self) -> None:
        headers = self._asked(b"")
        if self.server.elsewhere and f"/{self.server.elsewhere}/s3/" not in headers["authorization"]:
            self.send_response(301)
            self.send_header("x-amz-bucket-region", self.server.elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._answer(PROGRAM)

    def do_POST(self) -> None:
        self._asked(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"<SetDesiredCapacityResponse/>")

    def _asked(self, body: bytes) -> dict[str, str]:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, headers, body))
        return headers

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def metadata() -> Iterator[MetadataService]:
    with metadata_service() as service:
        service.texts["iam/security-credentials/"] = "role"
        service.texts["iam/security-credentials/role"] = json.dumps(ROLE)
        yield service


@pytest.fixture
def endpoint(metadata: MetadataService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    with Endpoint() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {
            **metadata.variables,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_AUTOSCALING"):
            monkeypatch.delenv(name, raising=False)
        yield server
        server.shutdown()


def signature(asked: tuple[str, str, dict[str, str], bytes], service: str, region: str) -> str:
    """As botocore makes it of the same request."""
    method, path, headers, body = asked
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = AWSRequest(
        method,
        f"http://{headers['host']}{path}",
        headers={name: headers[name] for name in signed},
        data=body,
    )
    request.context["timestamp"] = headers["x-amz-date"]
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    auth = kind(Credentials("ASIAEXAMPLE", "example", "token"), service, region)
    canonical = auth.canonical_request(request)
    return str(auth.signature(auth.string_to_sign(request, canonical), request))


def test_the_program_is_fetched_by_the_roles_keys_wherever_the_bucket_is(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.elsewhere = "ap-south-1"
    start_program.fetch(WANTED, tmp_path / "agent.pyz")

    assert (tmp_path / "agent.pyz").read_bytes() == PROGRAM
    assert [path for _, path, _, _ in endpoint.asked] == ["/mine/runs%20of%20mine/run-1/agent.pyz"] * 2
    for asked, region in zip(endpoint.asked, ("eu-west-1", "ap-south-1"), strict=True):
        assert asked[2]["authorization"].rpartition("=")[2] == signature(asked, "s3", region)


def test_another_program_than_was_meant_is_not_kept(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the program"):
        start_program.fetch({**WANTED, "agent_sha256": "0" * 64}, tmp_path / "agent.pyz")
    assert list(tmp_path.iterdir()) == []


def test_the_program_is_told_the_runs_address(
    endpoint: Endpoint, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.pyz").write_bytes(PROGRAM)
    user = pwd.getpwuid(os.getuid()).pw_name
    assert start_program.take_up({**WANTED, "user": user}, tmp_path / "agent.pyz") == 0
    told, _, verb = capfd.readouterr().out.rpartition("}")
    assert json.loads(told + "}") == {
        "url": "s3://mine/runs of mine/run-1",
        "endpoint": "",
        "region": "eu-west-1",
        "group": "runctl-run-1",
    }
    assert verb == "take-up"


def test_a_folder_that_stands_for_a_machine_has_one_user_and_an_image_without_the_one_named_is_given_up(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "take-up.json").write_text(json.dumps({**WANTED, "user": "nobody-has-this"}))
    monkeypatch.setattr(start_program, "__file__", str(tmp_path / "take-up.py"))
    monkeypatch.setattr(start_program, "STATE", tmp_path)
    monkeypatch.setattr(start_program, "GIVE_UP_SECONDS", -1)

    class Enough(Exception):
        """The program would go on for ever."""

    def pause(_: float) -> None:
        raise Enough

    # Of the program alone: the servers of the test may wait.
    own = SimpleNamespace(**{**vars(time), "sleep": pause})
    with monkeypatch.context() as patched, pytest.raises(Enough):
        patched.setattr(start_program, "time", own)
        start_program.main()
    assert [method for method, *_ in endpoint.asked] == ["POST"], "the group is to have no machine"
    monkeypatch.setattr(start_program, "MACHINE_ROOT", str(tmp_path))
    start_program.main()
    assert [method for method, *_ in endpoint.asked] == ["POST", "GET"]


def test_a_group_whose_machines_can_do_nothing_is_set_to_zero(endpoint: Endpoint) -> None:
    start_program.end_group(WANTED)
    (asked,) = endpoint.asked
    assert parse_qs(asked[3].decode()) == {
        "Action": ["SetDesiredCapacity"],
        "Version": ["2011-01-01"],
        "DesiredCapacity": ["0"],
        "AutoScalingGroupName": ["runctl-run-1"],
    }
    assert asked[2]["authorization"].rpartition("=")[2] == signature(asked, "autoscaling", "us-east-1")
