"""Instance metadata: what is where, who may read it, and the server's own address inside a machine."""

from __future__ import annotations

import http.client
import json
import shlex
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.session import Session

from runctl.sandbox.api.listener import Listener, relayed_to
from runctl.sandbox.ebs.disks import Disks
from runctl.sandbox.fault_client import Faults
from runctl.sandbox.folders.machine import FolderMachine
from runctl.sandbox.layout import Layout
from runctl.sandbox.metadata.facts import InstanceFacts, InstanceRole
from runctl.sandbox.metadata.service import MetadataService
from runctl.sandbox.metadata.tree import Credentials, text_at, tree
from runctl.sandbox.world import Notices, World
from tests.sandbox.account import Account, Machine, until

INSTANCE = "i-0123456789abcdef0"
ROLE = InstanceRole("arn:aws:iam::123456789012:instance-profile/p", "AIPA1", "trainer", "arn:role", True)
NOTICE = '{"action": "terminate", "time": "2026-01-01T00:02:00Z"}'
FACTS = InstanceFacts(
    instance_id=INSTANCE,
    instance_type="g5.xlarge",
    image_id="ami-1",
    zone="us-east-1b",
    region="us-east-1",
    private_ip="10.0.0.7",
    public_ip=None,
    mac="02:00:00:00:00:01",
    architecture="x86_64",
    lifecycle="spot",
    launched=datetime(2026, 1, 1, tzinfo=UTC),
    role=ROLE,
    tags={"Name": "a name", "empty": ""},
    block_devices={"ami": "/dev/xvda", "root": "/dev/xvda", "ebs1": "/dev/sdf"},
    user_data=b"#!/bin/sh\n\xff",
)


def keys(facts: InstanceFacts, lasting: timedelta = timedelta(hours=6)) -> Credentials:
    now = datetime.now(UTC)
    return Credentials("ASIA1", "secret", "token", now, now + lasting)


class Imds:
    """The service of one folder machine, and requests to it."""

    def __init__(self, folder: Path) -> None:
        self.world = World(Layout(folder), "us-east-1", 1, None, False, Disks(Layout(folder)))
        self.facts = FACTS
        self.issued: list[Credentials] = []
        self.lasting = timedelta(hours=6)
        self.machine = FolderMachine(folder / "m", INSTANCE)
        self.stop = MetadataService(self.world, self._issue).serve(self.machine, lambda: self.facts)
        endpoint = self.machine.metadata_endpoint
        assert endpoint is not None
        self.address = ("127.0.0.1", int(endpoint.rpartition(":")[2]))

    def _issue(self, facts: InstanceFacts) -> Credentials:
        self.issued.append(keys(facts, self.lasting))
        return self.issued[-1]

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def token(self, ttl: str = "60", **more: str) -> tuple[int, str]:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": ttl, **more}
        status, body = self.ask("PUT", "/latest/api/token", headers)
        return status, body.decode()

    def get(self, path: str) -> tuple[int, bytes]:
        return self.ask("GET", path, {"X-aws-ec2-metadata-token": self.token()[1]})


@pytest.fixture
def imds(tmp_path: Path) -> Iterator[Imds]:
    created = Imds(tmp_path)
    yield created
    created.stop()


def read(path: str, facts: InstanceFacts = FACTS, notices: Notices | None = None) -> str | None:
    found = text_at(tree(facts, notices, lambda: keys(facts)), path)
    return None if found is None else found.decode("latin-1")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("meta-data/instance-id", INSTANCE),
        ("meta-data/instance-type", "g5.xlarge"),
        ("meta-data/ami-id", "ami-1"),
        ("meta-data/placement/availability-zone", "us-east-1b"),
        ("meta-data/placement/region", "us-east-1"),
        ("meta-data/placement/", "availability-zone\nregion"),
        ("meta-data/local-ipv4", "10.0.0.7"),
        ("meta-data/public-ipv4", None),
        ("meta-data/instance-life-cycle", "spot"),
        ("meta-data/iam/security-credentials/", "trainer"),
        ("meta-data/tags/instance/", "Name\nempty"),
        ("meta-data/tags/instance/Name", "a name"),
        ("meta-data/tags/instance/empty", ""),
        ("meta-data/tags/instance/other", None),
        ("meta-data/block-device-mapping/ebs1", "/dev/sdf"),
        ("meta-data/instance-id/more", None),
        ("meta-data/nothing", None),
        ("user-data", "#!/bin/sh\n\xff"),
        ("", "dynamic/\nmeta-data/\nuser-data"),
    ],
)
def test_every_fact_is_at_its_path(path: str, text: str | None) -> None:
    assert read(path) == text


def test_what_an_instance_lacks_is_not_listed() -> None:
    facts = replace(FACTS, role=None, tags=None, user_data=None)

    listed = (read("meta-data/", facts) or "").splitlines()

    assert not {"iam/", "tags/", "spot/", "public-ipv4"} & set(listed)
    assert read("user-data", facts) is None


def test_an_interruption_is_there_once_it_is_noticed() -> None:
    notices = Notices()
    assert read("meta-data/spot/instance-action", notices=notices) is None

    notices.instance_action = NOTICE

    assert read("meta-data/spot/instance-action", notices=notices) == NOTICE
    assert read("meta-data/spot/termination-time", notices=notices) == "2026-01-01T00:02:00Z"


def test_a_rebalance_recommendation_is_there_once_it_is_noticed() -> None:
    path = "meta-data/events/recommendations/rebalance"
    assert read(path, notices=Notices()) is None

    assert read(path, notices=Notices(rebalance='{"noticeTime": "x"}')) == '{"noticeTime": "x"}'


def test_the_identity_document_says_which_instance_it_is() -> None:
    document = json.loads(read("dynamic/instance-identity/document") or "")

    assert (document["instanceId"], document["region"], document["pendingTime"]) == (
        INSTANCE,
        "us-east-1",
        "2026-01-01T00:00:00Z",
    )


def test_a_token_opens_the_metadata(imds: Imds) -> None:
    assert imds.get("/latest/meta-data/instance-id") == (200, INSTANCE.encode())


def test_without_a_token_nothing_is_told(imds: Imds) -> None:
    assert imds.ask("GET", "/latest/meta-data/instance-id")[0] == 401
    assert imds.ask("GET", "/latest/meta-data/", {"X-aws-ec2-metadata-token": "made-up"})[0] == 401


def test_version_one_works_where_tokens_are_optional(imds: Imds) -> None:
    imds.facts = replace(FACTS, tokens_required=False)

    assert imds.ask("GET", "/latest/meta-data/instance-id") == (200, INSTANCE.encode())


def test_a_token_ends(imds: Imds) -> None:
    _, token = imds.token(ttl="1")
    ask = {"X-aws-ec2-metadata-token": token}
    assert imds.ask("GET", "/latest/meta-data/", ask)[0] == 200

    until(lambda: imds.ask("GET", "/latest/meta-data/", ask)[0] == 401, "the token's end", 5)


@pytest.mark.parametrize("ttl", ["", "0", "21601", "-1", "x", "\u00b2"])
def test_a_token_needs_a_time_to_live_within_the_limits(imds: Imds, ttl: str) -> None:
    assert imds.token(ttl=ttl)[0] == 400


def test_a_forwarded_request_is_refused(imds: Imds) -> None:
    assert imds.token(**{"X-Forwarded-For": "10.0.0.9"})[0] == 403


def test_a_service_that_is_switched_off_refuses(imds: Imds) -> None:
    imds.facts = replace(FACTS, enabled=False)

    assert imds.token()[0] == 403


def test_a_path_that_is_not_there_is_a_404(imds: Imds) -> None:
    assert imds.get("/latest/meta-data/spot/instance-action")[0] == 404
    assert imds.get("/earliest/meta-data/")[0] == 404


def test_the_service_answers_under_the_date_of_a_version(imds: Imds) -> None:
    assert imds.get("/2021-03-23/meta-data/instance-id") == (200, INSTANCE.encode())


def test_one_connection_serves_many_requests(imds: Imds) -> None:
    connection = http.client.HTTPConnection(*imds.address, timeout=10)
    _, token = imds.token()
    for _ in range(3):
        connection.request(
            "GET", "/latest/meta-data/instance-id", headers={"X-aws-ec2-metadata-token": token}
        )
        assert connection.getresponse().read() == INSTANCE.encode()
    connection.close()


def test_a_roles_keys_are_kept_until_shortly_before_their_end(imds: Imds) -> None:
    path = "/latest/meta-data/iam/security-credentials/trainer"
    first = json.loads(imds.get(path)[1])
    imds.get(path)
    assert (first["AccessKeyId"], first["Token"], len(imds.issued)) == ("ASIA1", "token", 1)


def test_keys_that_end_soon_are_replaced(imds: Imds) -> None:
    imds.lasting = timedelta(minutes=5)
    for _ in range(2):
        imds.get("/latest/meta-data/iam/security-credentials/trainer")

    assert len(imds.issued) == 2


def test_a_notice_reaches_the_machine_that_it_is_for(imds: Imds) -> None:
    imds.world.notices[INSTANCE] = Notices(instance_action=NOTICE)
    imds.world.notices["i-other"] = Notices(instance_action="{}")

    assert imds.get("/latest/meta-data/spot/instance-action") == (200, NOTICE.encode())


def test_nothing_listens_after_the_end(imds: Imds) -> None:
    imds.stop()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(imds.address, timeout=5)


def test_botocore_finds_the_roles_keys(imds: Imds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", str(imds.machine.metadata_endpoint))

    found = Session().get_credentials()

    assert found is not None
    assert (found.access_key, found.method) == ("ASIA1", "iam-role")


def test_a_relay_passes_both_directions_until_both_have_ended() -> None:
    def shout(connection: socket.socket) -> None:
        data = b""
        while piece := connection.recv(1 << 16):
            data += piece
        connection.sendall(data.upper())

    far = socket.create_server(("127.0.0.1", 0))
    far_address = far.getsockname()
    near = socket.create_server(("127.0.0.1", 0))
    near_address = near.getsockname()
    listeners = [Listener(far, shout, "far"), Listener(near, relayed_to(far_address), "near")]
    sent = b"a" * 3_000_000

    with socket.create_connection(near_address, timeout=10) as mine:
        mine.sendall(sent)
        mine.shutdown(socket.SHUT_WR)
        got = b""
        while piece := mine.recv(1 << 16):
            got += piece

    assert got == sent.upper()
    for listener in listeners:
        listener.stop()


def test_a_relay_to_nowhere_closes_the_connection() -> None:
    gone = socket.create_server(("127.0.0.1", 0))
    address = gone.getsockname()
    gone.close()
    near = socket.create_server(("127.0.0.1", 0))
    near_address = near.getsockname()
    listener = Listener(near, relayed_to(address), "near")

    with socket.create_connection(near_address, timeout=10) as mine:
        assert mine.recv(1) == b""

    listener.stop()


IMDS = "http://169.254.169.254/latest"
TOKEN = f"curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {IMDS}/api/token"


def ask_inside(machine: Machine, path: str) -> str:
    return machine.run(f'curl -sf -H "X-aws-ec2-metadata-token: $({TOKEN})" {IMDS}/{shlex.quote(path)}')


@pytest.mark.namespaces
def test_a_machine_reads_its_own_metadata(launch: Callable[..., Machine]) -> None:
    machine = launch(
        MetadataOptions={"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "project", "Value": "digits"}]}],
    )

    assert ask_inside(machine, "meta-data/instance-id") == machine.id
    assert ask_inside(machine, "meta-data/local-ipv4") == machine.address
    assert ask_inside(machine, "meta-data/tags/instance/project") == "digits"
    assert machine.ssh(f"curl -sf {IMDS}/meta-data/").returncode == 22


@pytest.mark.namespaces
def test_an_interruption_is_noticed_inside(
    account: Account, launch: Callable[..., Machine], faults: Faults
) -> None:
    machine = launch(InstanceMarketOptions={"MarketType": "spot"})
    assert ask_inside(machine, "meta-data/instance-life-cycle") == "spot"

    faults.interrupt(machine.id, seconds=60)

    assert json.loads(ask_inside(machine, "meta-data/spot/instance-action"))["action"] == "terminate"


@pytest.mark.namespaces
def test_the_servers_own_address_works_inside(account: Account, launch: Callable[..., Machine]) -> None:
    account.s3.create_bucket(Bucket="inside")
    account.s3.put_object(Bucket="inside", Key="a", Body=b"from inside")
    url = account.s3.generate_presigned_url("get_object", Params={"Bucket": "inside", "Key": "a"})

    assert launch().run(f"curl -sf {shlex.quote(url)}") == "from inside"


@pytest.mark.namespaces
def test_a_rebooted_machine_has_its_metadata_again(account: Account, launch: Callable[..., Machine]) -> None:
    machine = launch()
    before = machine.run("cat /proc/sys/kernel/random/boot_id; stat -c %y /proc/1")

    account.ec2.reboot_instances(InstanceIds=[machine.id])

    def is_back() -> bool:
        done = machine.ssh("cat /proc/sys/kernel/random/boot_id; stat -c %y /proc/1")
        return done.returncode == 0 and done.stdout != before

    until(is_back, "the reboot", 30)
    assert ask_inside(machine, "meta-data/instance-id") == machine.id
