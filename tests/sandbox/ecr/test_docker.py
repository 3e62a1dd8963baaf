"""docker itself with ECR's registry: from this computer's engine, and from a machine's, at one and the same address."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent import engine as engines
from tests.sandbox.account import Account, Machine

pytestmark = [pytest.mark.namespaces, pytest.mark.docker]

Docker = Callable[..., subprocess.CompletedProcess[str]]
LAYER_BYTES = 3_000_000


@pytest.fixture(scope="module")
def ecr(docker_account: Account) -> Any:
    """The API."""
    return docker_account.client("ecr")


@pytest.fixture(scope="module")
def address(ecr: Any) -> str:
    """Of a repository."""
    return str(ecr.create_repository(repositoryName="team/app")["repository"]["repositoryUri"])


@pytest.fixture
def machine(docker_machine: Machine) -> Machine:
    """With an engine."""
    return docker_machine


@pytest.fixture
def docker_here(tmp_path: Path) -> Iterator[Docker]:
    """docker with an engine of this computer, set up as an engine is that nobody has set up."""
    # The path of a socket has a hundred characters at most, and the engine's containerd adds forty.
    with tempfile.TemporaryDirectory(prefix="rctl-") as short:
        engine = engines.start(Path(short))
        environment = {**os.environ, "DOCKER_HOST": engine.host, "DOCKER_CONFIG": str(tmp_path / "config")}

        def docker(*argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["docker", *argv],
                capture_output=True,
                text=True,
                input=stdin,
                env=environment,
                timeout=60,
                check=False,
            )

        try:
            yield docker
        finally:
            engines.stop(engine)


def login(ecr: Any) -> tuple[str, str]:
    """The registry, as ECR names it, and the password."""
    (row,) = ecr.get_authorization_token()["authorizationData"]
    return row["proxyEndpoint"], base64.b64decode(row["authorizationToken"]).decode().partition(":")[2]


def push_from(machine: Machine, address: str, tag: str, content: str) -> str:
    """Build an image there and push it; what docker said."""
    folder = f"/tmp/{tag}"
    machine.run(
        f"mkdir -p {folder} && cd {folder} && {content} > file && printf 'FROM scratch\\nCOPY file /\\n' > Dockerfile"
        f" && DOCKER_BUILDKIT=1 docker build -q -t {address}:{tag} ."
    )
    done = machine.ssh(f"docker push {address}:{tag}")
    return done.stdout + done.stderr


def test_a_machine_pushes_and_this_computer_pulls(
    ecr: Any, address: str, machine: Machine, docker_here: Docker, tmp_path: Path
) -> None:
    endpoint, password = login(ecr)
    assert "no basic auth credentials" in push_from(machine, address, "refused", "date")

    machine.run(f"printf %s '{password}' | docker login --username AWS --password-stdin {endpoint}")
    assert "digest: sha256:" in push_from(machine, address, "1", f"head -c {LAYER_BYTES} /dev/urandom")
    assert "The repository with name 'nobodys' does not exist" in push_from(
        machine, address.replace("team/app", "nobodys"), "2", "date"
    )

    (image,) = ecr.describe_images(repositoryName="team/app")["imageDetails"]
    assert image["imageTags"] == ["1"]
    assert image["imageSizeInBytes"] > LAYER_BYTES
    pulled_without = docker_here("pull", f"{address}:1")
    assert "no basic auth credentials" in pulled_without.stderr
    logged_in = docker_here("login", "--username", "AWS", "--password-stdin", endpoint, stdin=password)
    assert logged_in.returncode == 0, logged_in.stderr
    pulled = docker_here("pull", f"{address}@{image['imageDigest']}")
    assert pulled.returncode == 0, pulled.stderr
    (about,) = json.loads(docker_here("image", "inspect", f"{address}@{image['imageDigest']}").stdout)
    assert about["Size"] == LAYER_BYTES


def test_a_removed_image_is_not_pulled_by_a_machine(ecr: Any, address: str, machine: Machine) -> None:
    endpoint, password = login(ecr)
    machine.run(f"printf %s '{password}' | docker login --username AWS --password-stdin {endpoint}")
    push_from(machine, address, "gone", "date")
    machine.run(f"docker rmi {address}:gone && docker pull -q {address}:gone && docker rmi {address}:gone")

    ecr.batch_delete_image(repositoryName="team/app", imageIds=[{"imageTag": "gone"}])

    assert "manifest unknown" in machine.ssh(f"docker pull {address}:gone").stderr
