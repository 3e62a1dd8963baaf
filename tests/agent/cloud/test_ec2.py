"""What a machine asks EC2 and Auto Scaling for about itself: signed as botocore signs it, and asked again when it may
be."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from runctl.agent.after_run import GroupEnd
from runctl.agent.cloud.autoscaling import AutoScaling, end_groups
from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.ec2 import Ec2
from runctl.agent.cloud.ecr import Ecr, RegistryLogin
from runctl.agent.errors import AgentError

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example", "AWS_SESSION_TOKEN": "token"}


def refusal(status: int, code: str, message: str = "") -> tuple[int, str]:
    text = f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
    return status, text


DONE = (200, "<DetachVolumeResponse/>")


class Endpoint(http.server.HTTPServer):
    """Answers in turn; remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, str]] = []
        self.asked: list[tuple[dict[str, str], bytes]] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(({name.lower(): value for name, value in self.headers.items()}, body))
        status, text = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def detach(endpoint: Endpoint) -> None:
    url = f"http://127.0.0.1:{endpoint.server_port}"
    Ec2("i-0abc", "eu-west-1", Credentials(KEYS), url).detach_volume("vol-0abc")


def test_a_request_is_signed_as_botocore_signs_it(endpoint: Endpoint) -> None:
    endpoint.answers = [DONE]
    detach(endpoint)
    ((headers, body),) = endpoint.asked
    assert parse_qs(body.decode()) == {
        "Action": ["DetachVolume"],
        "Version": ["2016-11-15"],
        "VolumeId": ["vol-0abc"],
        "InstanceId": ["i-0abc"],
    }
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = AWSRequest(
        "POST",
        f"http://{headers['host']}/",
        headers={name: headers[name] for name in signed},
        data=body,
    )
    request.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(BotoCredentials("AKIAEXAMPLE", "example", "token"), "ec2", "eu-west-1")
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert headers["authorization"].rpartition("=")[2] == expected


@pytest.mark.parametrize(
    "answers",
    [
        [refusal(503, "RequestLimitExceeded"), DONE],
        [refusal(500, "InternalError"), refusal(503, "Unavailable"), DONE],
        [refusal(400, "IncorrectState", "Volume 'vol-0abc' is in the 'available' state.")],
    ],
)
def test_a_volume_is_let_go_in_the_end(endpoint: Endpoint, answers: list[tuple[int, str]]) -> None:
    endpoint.answers = list(answers)
    detach(endpoint)
    assert len(endpoint.asked) == len(answers)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([refusal(403, "UnauthorizedOperation", "You are not")], "its role does not allow ec2:DetachVolume"),
        (
            [refusal(400, "InvalidVolume.NotFound", "It does not exist.")],
            "EC2 refuses DetachVolume: InvalidVolume.NotFound It does not exist.",
        ),
        ([refusal(503, "RequestLimitExceeded")] * 3, "EC2 refuses DetachVolume: RequestLimitExceeded"),
    ],
)
def test_a_refusal_is_told(endpoint: Endpoint, answers: list[tuple[int, str]], said: str) -> None:
    endpoint.answers = list(answers)
    with pytest.raises(AgentError) as raised:
        detach(endpoint)
    assert raised.value.message == said
    assert endpoint.answers == []


def actions(endpoint: Endpoint) -> list[dict[str, str]]:
    found = [{key: value[0] for key, value in parse_qs(body.decode()).items()} for _, body in endpoint.asked]
    return [{key: value for key, value in each.items() if key != "Version"} for each in found]


GONE = refusal(400, "ValidationError", "AutoScalingGroup name not found - null")


def end(endpoint: Endpoint, own: str = "") -> None:
    url = f"http://127.0.0.1:{endpoint.server_port}"
    keys = Credentials(KEYS)
    wanted = GroupEnd("runctl-run-1", template="runctl-run-1", others=("runctl-run-1-on-demand",))
    scaling, ec2 = AutoScaling("i-0abc", "eu-west-1", keys, url), Ec2("i-0abc", "eu-west-1", keys, url)
    end_groups(wanted, scaling, ec2, own=own)


def test_the_other_group_ends_first_then_the_template_and_the_machines_own_group_last(
    endpoint: Endpoint,
) -> None:
    busy = refusal(500, "ResourceContention", "busy")
    endpoint.answers = [DONE, busy, DONE, DONE, DONE, refusal(400, "ScalingActivityInProgress", "busy"), DONE]
    end(endpoint)
    told = [(each["Action"], each.get("AutoScalingGroupName", "")) for each in actions(endpoint)]
    assert list(dict.fromkeys(told)) == [
        ("SetDesiredCapacity", "runctl-run-1-on-demand"),
        ("DeleteAutoScalingGroup", "runctl-run-1-on-demand"),
        ("DeleteLaunchTemplate", ""),
        ("SetDesiredCapacity", "runctl-run-1"),
        ("DeleteAutoScalingGroup", "runctl-run-1"),
    ]
    forced = [each for each in actions(endpoint) if each["Action"] == "DeleteAutoScalingGroup"]
    assert all(each["ForceDelete"] == "true" for each in forced)


def test_a_machine_of_the_second_group_ends_that_one_last(endpoint: Endpoint) -> None:
    endpoint.answers = [DONE] * 5
    end(endpoint, own="runctl-run-1-on-demand")
    told = [each.get("AutoScalingGroupName", "") for each in actions(endpoint)]
    assert told == ["runctl-run-1"] * 2 + [""] + ["runctl-run-1-on-demand"] * 2


def test_the_moment_of_the_second_group_is_moved(endpoint: Endpoint) -> None:
    endpoint.answers = [DONE]
    url = f"http://127.0.0.1:{endpoint.server_port}"
    scaling = AutoScaling("i-0abc", "eu-west-1", Credentials(KEYS), url)
    scaling.begin_at("runctl-run-1-on-demand", "runctl-on-demand", 1_800_000_000.4)
    assert actions(endpoint) == [
        {
            "Action": "PutScheduledUpdateGroupAction",
            "AutoScalingGroupName": "runctl-run-1-on-demand",
            "ScheduledActionName": "runctl-on-demand",
            "StartTime": "2027-01-15T08:00:00Z",
            "MinSize": "0",
            "MaxSize": "1",
            "DesiredCapacity": "1",
        }
    ]


def test_what_somebody_else_has_ended_is_passed_over(endpoint: Endpoint) -> None:
    no_template = refusal(400, "InvalidLaunchTemplateName.NotFoundException", "It does not exist.")
    endpoint.answers = [GONE, GONE, no_template, DONE, GONE]
    end(endpoint)
    assert len(endpoint.asked) == 5


def test_nothing_after_a_refusal_is_done(endpoint: Endpoint) -> None:
    """The machine is needed for the next try, and its own group is what keeps it."""
    endpoint.answers = [refusal(403, "AccessDenied", "not authorized")]
    with pytest.raises(AgentError, match="its role does not allow autoscaling:SetDesiredCapacity"):
        end(endpoint)
    assert len(endpoint.asked) == 1


TAKEN = refusal(
    400, "InvalidParameterValue", "Invalid value '/dev/sdf': Attachment point /dev/sdf is already in use"
)
ATTACHED = (200, "<AttachVolumeResponse/>")


@pytest.mark.parametrize(
    ("answers", "device"),
    [
        ([ATTACHED], "/dev/sdf"),
        ([TAKEN, ATTACHED], "/dev/sdg"),
        ([refusal(400, "VolumeInUse", "vol-0abc is already attached to an instance")], None),
        ([refusal(400, "IncorrectState", "'vol-0abc' is not 'available'.")], None),
    ],
)
def test_a_volume_is_attached_under_a_free_name_once_nobody_has_it(
    endpoint: Endpoint, answers: list[tuple[int, str]], device: str | None
) -> None:
    endpoint.answers = list(answers)
    url = f"http://127.0.0.1:{endpoint.server_port}"
    assert Ec2("i-0abc", "eu-west-1", Credentials(KEYS), url).attach_volume("vol-0abc") == device
    last = parse_qs(endpoint.asked[-1][1].decode())
    assert (last["Action"], last["VolumeId"], last["InstanceId"]) == (
        ["AttachVolume"],
        ["vol-0abc"],
        ["i-0abc"],
    )


def test_a_volume_of_another_zone_is_not_waited_for(endpoint: Endpoint) -> None:
    endpoint.answers = [refusal(400, "InvalidVolume.ZoneMismatch", "The volume is not in the same zone.")]
    url = f"http://127.0.0.1:{endpoint.server_port}"
    with pytest.raises(AgentError, match="ZoneMismatch"):
        Ec2("i-0abc", "eu-west-1", Credentials(KEYS), url).attach_volume("vol-0abc")


def test_a_clock_that_is_wrong_does_not_spoil_the_signature(endpoint: Endpoint) -> None:
    endpoint.answers = [DONE]
    url = f"http://127.0.0.1:{endpoint.server_port}"
    Ec2("i-0abc", "eu-west-1", Credentials(KEYS), url, 86400.0).detach_volume("vol-0abc")
    ((headers, _),) = endpoint.asked
    said = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - timedelta(days=1) - said) < timedelta(minutes=5)


def test_only_the_tags_that_are_named_are_deleted_whatever_their_values(endpoint: Endpoint) -> None:
    endpoint.answers = [(200, "<DeleteTagsResponse/>")]
    url = f"http://127.0.0.1:{endpoint.server_port}"
    Ec2("i-0abc", "eu-west-1", Credentials(KEYS), url).delete_tags("vol-0abc", ("runctl:content", "other"))
    ((_, body),) = endpoint.asked
    assert parse_qs(body.decode(), keep_blank_values=True) == {
        "Action": ["DeleteTags"],
        "Version": ["2016-11-15"],
        "ResourceId.1": ["vol-0abc"],
        "Tag.1.Key": ["runctl:content"],
        "Tag.2.Key": ["other"],
    }


@pytest.mark.parametrize(("state", "terminated"), [("terminated", True), ("shutting-down", False)])
def test_a_machine_does_nothing_any_more_only_when_it_has_terminated(
    endpoint: Endpoint, state: str, terminated: bool
) -> None:
    item = f"<item><instanceId>i-0def</instanceId><instanceState><code>48</code><name>{state}</name></instanceState>"
    endpoint.answers = [(200, f"<DescribeInstancesResponse>{item}</item></DescribeInstancesResponse>")]
    url = f"http://127.0.0.1:{endpoint.server_port}"
    assert Ec2("i-0abc", "eu-west-1", Credentials(KEYS), url).has_terminated("i-0def") is terminated
    ((_, body),) = endpoint.asked
    assert parse_qs(body.decode())["InstanceId.1"] == ["i-0def"]


def test_a_registrys_token_is_asked_for_as_ecr_wants_it_and_a_refusal_names_the_right(
    endpoint: Endpoint,
) -> None:
    row = {
        "authorizationToken": base64.b64encode(b"AWS:pass:word").decode(),
        "proxyEndpoint": "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com",
    }
    denied = {"__type": "com.amazonaws#AccessDeniedException", "message": "no"}
    endpoint.answers = [
        (200, json.dumps({"authorizationData": [row]})),
        (400, json.dumps(denied)),
        (200, "{}"),
    ]
    ecr = Ecr("i-0abc", "eu-west-1", Credentials(KEYS), f"http://127.0.0.1:{endpoint.server_port}")
    assert ecr.login() == RegistryLogin("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "AWS", "pass:word")
    with pytest.raises(AgentError, match="its role does not allow ecr:GetAuthorizationToken"):
        ecr.login()
    with pytest.raises(AgentError, match="cannot be read"):
        ecr.login()
    headers, body = endpoint.asked[0]
    assert body == b"{}"
    assert headers["x-amz-target"] == "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
    assert headers["content-type"] == "application/x-amz-json-1.1"
    assert "x-amz-target" in headers["authorization"]
    assert "/ecr/aws4_request" in headers["authorization"]
