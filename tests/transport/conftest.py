"""The machines that the transports' tests reach: this computer, three ways."""

from __future__ import annotations

import getpass
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from runctl.providers.aws.ssm.transport import SsmTransport
from runctl.testing.sshd import Sshd, running
from runctl.transport.interface import Transport
from runctl.transport.local import LocalTransport
from runctl.transport.ssh import SshTransport
from runctl.transport.ssh_connection import SshTarget
from tests.providers.aws.ssm.server import HURRY, FakeSsm, staging


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One server for all tests that do not change it."""
    with running(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def over_ssh(sshd: Sshd) -> Iterator[SshTransport]:
    """One connection for the tests that leave it as it is."""
    with tempfile.TemporaryDirectory(prefix="rt") as name:
        it = SshTransport(
            SshTarget("127.0.0.1", sshd.user, "i-0123456789abcdef0", sshd.port),
            runtime_dir=Path(name),
            known_hosts=Path(name) / "known hosts",
            identity=sshd.identity,
        )
        yield it
        it.close()


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """Short enough for a socket's path, and gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="rt") as name:
        yield Path(name)


@pytest.fixture
def connect(runtime_dir: Path) -> Iterator[Callable[..., SshTransport]]:
    """Makes transports to a server, and closes them."""
    created: list[SshTransport] = []

    def make(server: Sshd, *, alias: str = "i-0123456789abcdef0", **options: object) -> SshTransport:
        settings = {"identity": server.identity, **options}
        transport = SshTransport(
            SshTarget("127.0.0.1", server.user, alias, server.port),
            runtime_dir=runtime_dir,
            known_hosts=runtime_dir / "known hosts",
            **settings,  # type: ignore[arg-type]
        )
        created.append(transport)
        return transport

    yield make
    for transport in created:
        transport.close()


@pytest.fixture(
    params=[
        "local",
        pytest.param("ssh", marks=[pytest.mark.sshd, pytest.mark.root, pytest.mark.linux]),
        pytest.param("ssm", marks=[pytest.mark.root, pytest.mark.linux]),
    ]
)
def transport(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Transport]:
    """Each way to a machine in turn."""
    if request.param == "local":
        yield LocalTransport()
    elif request.param == "ssh":
        yield cast("SshTransport", request.getfixturevalue("over_ssh"))
    else:
        client = FakeSsm(tmp_path_factory.mktemp("ssm"))
        with staging(tmp_path_factory.mktemp("staging")) as store:
            yield SsmTransport(client, client.instance_id, user=getpass.getuser(), staging=store, clock=HURRY)
        client.close()
