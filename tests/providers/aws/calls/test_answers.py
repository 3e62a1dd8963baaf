"""Who speaks in AWS's place, or keeps silent, is named."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from runctl.core.errors import RunctlError, Unreachable
from runctl.providers.aws.calls import session as session_module
from runctl.providers.aws.calls.answers import proxy_for
from runctl.providers.aws.calls.errors import UnexpectedAnswer, our_errors
from runctl.providers.aws.calls.parse import instance_of
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.calls.slow_calls import Waits
from runctl.testing.progress import RecordedProgress

CALLS: dict[str, Callable[[AwsSession], object]] = {
    "ec2": lambda session: session.ec2.describe_instances()["Reservations"],
    "sts": lambda session: session.sts.get_caller_identity()["Account"],
    "ssm": lambda session: session.ssm.get_parameter(Name="/x")["Parameter"]["Value"],
    "ecr": lambda session: session.ecr.describe_repositories()["repositories"],
    "iam": lambda session: session.iam.get_role(RoleName="x")["Role"]["Arn"],
    "s3": lambda session: session.s3.list_objects_v2(Bucket="x").get("Contents", ()),
}
ANSWERS = {
    "a web page": (200, "text/html", b"<!DOCTYPE html><html><body><p>Please sign in</p></body></html>"),
    "a web page that is not called one": (200, "text/xml", b"<html><body>Please sign in</body></html>"),
    "a refusal in words": (403, "text/plain", b"Please sign in: this site is blocked"),
    "a redirect": (302, "text/html", b"<html>Please sign in</html>"),
}
DESCRIBED = (
    b"<DescribeInstancesResponse><reservationSet><item><instancesSet><item>%s</item></instancesSet></item>"
    b"</reservationSet></DescribeInstancesResponse>"
)
ODD = {
    "an empty object": (200, "application/x-amz-json-1.1", b"{}"),
    "xml of somebody else": (200, "text/xml", b"<feed><entry/></feed>"),
    "a list": (200, "application/x-amz-json-1.1", b"[]"),
    "half of it": (200, "text/xml", b"<DescribeInstancesResponse><reservationSet><item>"),
    "nothing": (200, "text/xml", b""),
    "a word for a time": (200, "text/xml", DESCRIBED % b"<launchTime>soon</launchTime>"),
}


@contextlib.contextmanager
def _answering(says: Callable[[], tuple[int, str, bytes]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, kind, body = says()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> AwsSession:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    return AwsSession(region="us-east-1", profile=None)


@pytest.fixture(scope="module")
def foreign() -> Generator[tuple[AwsSession, str, dict[str, tuple[int, str, bytes]]]]:
    """A session, the address it is led to, and what answers there; making clients is most of a test's time."""
    says = {"now": ANSWERS["a web page"]}
    with pytest.MonkeyPatch.context() as patch, _answering(lambda: says["now"]) as url:
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", "x")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        session = AwsSession(region="us-east-1", profile=None)
        for client in (
            session.ec2,
            session.sts,
            session.ssm,
            session.ecr,
            session.iam,
            session.s3,
            session.instance_connect,
        ):
            client.meta.region_name  # noqa: B018
        yield session, url, says


@pytest.mark.parametrize("service", CALLS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_what_somebody_else_says_is_quoted_with_its_address(
    foreign: tuple[AwsSession, str, dict[str, tuple[int, str, bytes]]], service: str, answer: str
) -> None:
    session, url, says = foreign
    says["now"] = ANSWERS[answer]
    with pytest.raises(Unreachable) as caught, our_errors(url):
        CALLS[service](session)

    assert caught.value.code == "not-aws"
    assert url in caught.value.message
    assert "Please sign in" in caught.value.message
    assert "<" not in caught.value.message


@pytest.mark.parametrize("service", [name for name in CALLS if name != "s3"])
@pytest.mark.parametrize("answer", ODD)
def test_no_form_of_an_answer_is_called_a_fault_of_ours(
    foreign: tuple[AwsSession, str, dict[str, tuple[int, str, bytes]]], service: str, answer: str
) -> None:
    session, url, says = foreign
    says["now"] = ODD[answer]
    with contextlib.suppress(RunctlError), our_errors(url):
        CALLS[service](session)


@pytest.mark.parametrize(
    "described",
    [
        {},
        {"InstanceId": "i-1", "State": {"Name": "dreaming"}, "InstanceType": "t3.micro"},
        {"InstanceId": "i-1", "State": "running", "InstanceType": "t3.micro"},
        {"InstanceId": "i-1", "State": {"Name": "running"}, "InstanceType": "t3.micro", "Tags": [{}]},
    ],
)
def test_a_description_without_what_belongs_into_it_is_an_unexpected_answer(
    described: dict[str, object],
) -> None:
    with pytest.raises(UnexpectedAnswer), our_errors("http://127.0.0.1:4566"):
        instance_of(described)


def test_an_answer_of_aws_is_one_whatever_it_calls_itself(
    foreign: tuple[AwsSession, str, dict[str, tuple[int, str, bytes]]],
) -> None:
    session, _, says = foreign
    says["now"] = (200, "text/html", b'{"RequestId": "1", "Success": true}')

    answer = session.instance_connect.send_ssh_public_key(
        InstanceId="i-0123456789abcdef0", InstanceOSUser="ec2-user", SSHPublicKey="ssh-ed25519 " + "A" * 80
    )

    assert answer["Success"] is True


def test_a_proxy_that_answers_is_named_without_its_password(
    session: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _answering(lambda: ANSWERS["a refusal in words"]) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://ec2.example.test")
        monkeypatch.setenv("http_proxy", url.replace("//", "//ada:secret@"))
        monkeypatch.setattr(AwsSession, "_check_stand_in", lambda _: None)
        with pytest.raises(Unreachable) as caught, our_errors(session.endpoint):
            CALLS["ec2"](session)

    assert f"the proxy {url}" in caught.value.message
    assert "secret" not in caught.value.message + caught.value.hint
    assert "NO_PROXY=ec2.example.test" in caught.value.hint


def test_a_proxy_that_is_not_there_is_named(session: AwsSession, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://ec2.example.test")
        monkeypatch.setenv("http_proxy", url)
        with pytest.raises(Unreachable) as caught, our_errors(session.endpoint):
            CALLS["ec2"](session)

    assert f"through the proxy {url}" in caught.value.message
    assert "sandbox" not in caught.value.hint


def test_a_host_that_needs_no_proxy_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    assert proxy_for("http://127.0.0.1:4566") is None
    assert proxy_for("http://ec2.example.test") == "http://127.0.0.1:9"


@pytest.fixture
def silent() -> Generator[str]:
    """Somebody who takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_who_never_answers_is_named_while_we_wait_and_given_up(
    session: AwsSession, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    monkeypatch.setattr(session_module, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("runctl.providers.aws.calls.slow_calls.SAY_AFTER_SECONDS", 0.1)
    monkeypatch.setattr("runctl.providers.aws.calls.slow_calls._TICK_SECONDS", 0.02)
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent)
    progress = RecordedProgress()
    session.report_to(progress)

    with pytest.raises(Unreachable, match=silent), our_errors(session.endpoint):
        CALLS["ec2"](session)

    assert any(f"waiting for {silent.partition('//')[2]} to answer" in line for line in progress.updates)


def test_a_wait_counts_from_the_first_request_and_ends_with_the_answer() -> None:
    now = [0.0]
    waits = Waits(monotonic=lambda: now[0])
    waits.begin("ec2.us-east-1.amazonaws.com")
    now[0] = 10.0
    waits.begin("ec2.us-east-1.amazonaws.com")
    now[0] = 12.0

    during = waits.message()
    waits.end()

    assert during == "waiting for ec2.us-east-1.amazonaws.com to answer (12 s)"
    assert waits.message() is None
