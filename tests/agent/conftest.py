"""What the agent's tests share."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from runctl.agent import package
from tests.agent.driver import Agent
from tests.agent.s3_bucket import KEYS, REGION, Bucket


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zipapp."""
    return package.build(tmp_path_factory.mktemp("zipapp"))


@pytest.fixture
def agent(built: Path, tmp_path: Path) -> Iterator[Agent]:
    """An agent on this machine, with a state directory of its own; its runs end with the test."""
    state = tmp_path / "state"
    (state / "bin").mkdir(parents=True)
    shutil.copy(built, state / "bin")
    one = Agent(state / "bin" / built.name, state)
    yield one
    one.end_everything()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's S3, in a thread of this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_endpoint: str, tmp_path: Path) -> Bucket:
    """An empty one of its own."""
    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name=REGION,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    name = "b" + os.urandom(6).hex()
    client.create_bucket(Bucket=name)
    into = tmp_path / "volume"
    into.mkdir()
    return Bucket(s3_endpoint, name, into, client)
