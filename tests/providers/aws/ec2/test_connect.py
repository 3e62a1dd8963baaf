"""The way to a machine is chosen from what really answers, and kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runctl.core.errors import PermissionDenied, Unreachable, Unsupported
from runctl.core.machine_models import Instance, InstanceState
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ec2 import connect, ssh_access
from runctl.providers.aws.ec2.connect import Connections
from runctl.providers.aws.ec2.hostkeys import host_keys_in
from runctl.providers.aws.plugin import plugin
from runctl.providers.aws.settings import TRANSPORTS
from runctl.providers.aws.ssm.transport import SsmTransport
from runctl.providers.instance_plans import InstanceRequest
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from runctl.testing.transport import FakeTransport
from runctl.transport.ssh import SshTransport
from tests.aws_fixtures import Refuse, context_of

Ping = Callable[[str | None], None]


@pytest.fixture
def instance(provider: AwsProvider, session: AwsSession) -> Instance:
    """A machine whose security group lets SSH in."""
    group = session.ec2.create_security_group(GroupName="ssh", Description="x")["GroupId"]
    session.ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="192.0.2.0/24"
    )
    plan = provider.renting.plan(InstanceRequest(security_groups=(group,)))
    return provider.instance(provider.renting.create(plan).id)


@pytest.fixture
def closed_instance(provider: AwsProvider) -> Instance:
    """A machine in the default group, which lets nothing in."""
    return provider.instance(provider.renting.create(provider.renting.plan(InstanceRequest())).id)


@pytest.fixture
def ping(session: AwsSession, monkeypatch: pytest.MonkeyPatch) -> Ping:
    """What Systems Manager says of every machine."""

    def say(status: str | None) -> None:
        found = [{"PingStatus": status}] if status else []
        monkeypatch.setattr(
            session.ssm, "describe_instance_information", lambda **_: {"InstanceInformationList": found}
        )

    say(None)
    return say


@pytest.fixture
def port_22(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    def set_open(is_open: bool) -> None:
        monkeypatch.setattr(ssh_access, "_answers", lambda _: is_open)

    set_open(False)
    return set_open


def test_a_machine_that_answers_on_neither_way_says_what_was_tried(
    provider: AwsProvider, instance: Instance, ping: Ping, port_22: Callable[[bool], None]
) -> None:
    with pytest.raises(Unreachable, match=r"ssh: .* port 22; ssm: .* registered"):
        provider.transport(instance)


def test_systems_manager_is_taken_where_ssh_does_not_answer(
    provider: AwsProvider,
    instance: Instance,
    ping: Ping,
    port_22: Callable[[bool], None],
    progress: RecordedProgress,
) -> None:
    ping("Online")

    transport = provider.transport(instance, progress=progress)

    assert isinstance(transport, SsmTransport)
    assert any(detail.startswith("transport ssm") for detail in progress.details)


def test_ssh_is_taken_where_it_answers_with_a_key_that_instance_connect_lets_in(
    provider: AwsProvider,
    instance: Instance,
    ping: Ping,
    port_22: Callable[[bool], None],
    progress: RecordedProgress,
) -> None:
    ping("Online")
    port_22(True)

    transport = provider.transport(instance, progress=progress)

    assert isinstance(transport, SshTransport)
    assert transport.target.user == "ec2-user"
    assert transport.target.host_key_alias == instance.id
    assert "EC2 Instance Connect" in progress.details[-1]


@pytest.mark.parametrize("missing", ["ssh", "ssh-keygen"])
def test_without_openssh_here_systems_manager_is_taken_and_ssh_refused_with_the_reason(
    provider: AwsProvider,
    instance: Instance,
    ping: Ping,
    port_22: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    progress: RecordedProgress,
    tmp_path: Path,
    missing: str,
) -> None:
    ping("Online")
    port_22(True)
    (other,) = {"ssh", "ssh-keygen"} - {missing}
    (tmp_path / other).symlink_to(shutil.which(other) or "")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert isinstance(provider.transport(instance, progress=progress), SsmTransport)
    assert progress.details[-1].endswith(f"ssh: {missing} is not installed on this computer")
    with pytest.raises(Unreachable, match=f"ssh: {missing} is not installed") as caught:
        provider.transport(instance, "ssh")
    assert caught.value.hint == "install OpenSSH's client"


def test_a_configured_key_file_is_used(
    session: AwsSession,
    clock: ManualClock,
    tmp_path: Path,
    instance: Instance,
    ping: Ping,
    port_22: Callable[[bool], None],
    progress: RecordedProgress,
) -> None:
    port_22(True)
    provider = AwsProvider(context_of(session, clock, tmp_path, identity_file=str(tmp_path / "key.pem")))

    provider.transport(instance, progress=progress)

    assert str(tmp_path / "key.pem") in progress.details[-1]


def test_a_port_that_no_group_opens_is_not_knocked_at_when_systems_manager_is_there(
    provider: AwsProvider, closed_instance: Instance, ping: Ping, monkeypatch: pytest.MonkeyPatch
) -> None:
    ping("Online")

    def knock(_: str) -> bool:
        raise AssertionError("it knocked")

    monkeypatch.setattr(ssh_access, "_answers", knock)

    assert isinstance(provider.transport(closed_instance), SsmTransport)


def test_such_a_port_is_tried_when_ssh_is_asked_for(
    provider: AwsProvider, closed_instance: Instance, ping: Ping, port_22: Callable[[bool], None]
) -> None:
    port_22(True)

    assert isinstance(provider.transport(closed_instance, "ssh"), SshTransport)


def test_a_closed_port_is_given_as_the_reason(
    provider: AwsProvider, closed_instance: Instance, ping: Ping
) -> None:
    with pytest.raises(Unreachable, match="security groups do not let port 22 in"):
        provider.transport(closed_instance)


def test_an_explicit_choice_is_never_answered_with_another(
    provider: AwsProvider, instance: Instance, ping: Ping, port_22: Callable[[bool], None]
) -> None:
    ping("Online")

    with pytest.raises(Unreachable, match="ssh"):
        provider.transport(instance, "ssh")
    assert isinstance(provider.transport(instance, "ssm"), SsmTransport)


def test_the_configured_transport_is_the_automatic_one(
    session: AwsSession,
    clock: ManualClock,
    tmp_path: Path,
    instance: Instance,
    ping: Ping,
    port_22: Callable[[bool], None],
) -> None:
    ping("Online")
    port_22(True)
    provider = AwsProvider(context_of(session, clock, tmp_path, transport="ssm"))

    assert isinstance(provider.transport(instance), SsmTransport)


def test_a_transport_is_kept_until_the_machine_is_ended(
    provider: AwsProvider, instance: Instance, ping: Ping, port_22: Callable[[bool], None]
) -> None:
    ping("Online")
    first = provider.transport(instance)
    assert provider.transport(instance) is first

    provider.renting.terminate(instance.id)

    assert provider.transport(instance) is not first


def test_a_transport_of_another_kind_is_unsupported(provider: AwsProvider, instance: Instance) -> None:
    with pytest.raises(Unsupported):
        provider.transport(instance, "local")


def test_every_transport_that_is_offered_has_its_access(provider: AwsProvider) -> None:
    assert tuple(provider._connections._access) == TRANSPORTS == plugin.transports


def test_a_stopped_machine_is_not_even_tried(provider: AwsProvider, instance: Instance) -> None:
    with pytest.raises(Unreachable) as caught:
        provider.transport(replace(instance, state=InstanceState.STOPPED))

    assert caught.value.hint == f"runctl aws start {instance.id}"


def test_when_instance_connect_refuses_ssh_is_no_way_any_more(
    provider: AwsProvider,
    session: AwsSession,
    instance: Instance,
    ping: Ping,
    port_22: Callable[[bool], None],
    refuse: Refuse,
) -> None:
    ping("Online")
    port_22(True)
    refuse(session.instance_connect, "SendSSHPublicKey", "AccessDeniedException", "not you")
    transport = provider.transport(instance)
    assert isinstance(transport, SshTransport)
    with pytest.raises(PermissionDenied, match="not you"):
        transport.run(["true"])
    provider._connections.forget(instance.id)

    assert isinstance(provider.transport(instance), SsmTransport)


def test_the_agents_state_is_where_the_sandboxs_machine_keeps_it(
    provider: AwsProvider, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTransport()
    fake.on(["sh", "-c", connect._STATE_ASKED], b"/somewhere/else")
    monkeypatch.setattr(Connections, "_choose", lambda *_: fake)

    agent = provider.agent(instance)

    assert str(agent.state_directory) == "/somewhere/else"
    assert provider.agent(instance) is agent


CONSOLE = """\
[   10.1] cloud-init[1]: something
-----BEGIN SSH HOST KEY KEYS-----
ecdsa-sha2-nistp256 AAAAE2V= root@ip-10-0-0-1
ssh-ed25519 AAAAC3N= root@ip-10-0-0-1
-----END SSH HOST KEY KEYS-----
"""


def test_host_keys_are_read_from_the_console() -> None:
    assert [key.split()[0] for key in host_keys_in(CONSOLE)] == ["ecdsa-sha2-nistp256", "ssh-ed25519"]


def test_the_last_boot_counts() -> None:
    later = CONSOLE.replace("AAAAC3N=", "AAAANEW=")

    assert "AAAANEW=" in host_keys_in(CONSOLE + later)[1]


@pytest.mark.parametrize("console", ["", "nothing", CONSOLE[: CONSOLE.index("-----END")]])
def test_a_console_without_whole_keys_gives_none(console: str) -> None:
    assert host_keys_in(console) == ()
