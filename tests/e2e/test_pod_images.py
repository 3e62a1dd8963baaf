"""A pod is a container of the project's image: built here, pushed to a registry with a login, pulled from there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.containers.client import programs
from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.machines import images
from tests.agent import engine as engines
from tests.agent.engine import Engine
from tests.e2e.command_line import CommandLine, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.slow]

BASE = "base:pod"
SCRIPT = """\
import os, pathlib, shutil
print("mark", pathlib.Path("/mark").read_text().strip(), os.environ["OF_THE_IMAGE"], flush=True)
print("docker", shutil.which("docker"), "key", os.environ.get("RUNPOD_API_KEY"), flush=True)
for process in pathlib.Path("/proc").glob("[0-9]*"):
    for name in ("environ", "cmdline"):
        try:
            print((process / name).read_bytes().replace(b"\\0", b"\\n").decode(errors="replace"), flush=True)
        except OSError:
            pass
"""
DOCKER = """\
#!/bin/sh
printf '%s\\n' "$*" >> {seen}
exec {docker} "$@"
"""
"""A docker of this computer, which writes down how it is called."""
DOCKERFILE = f"FROM {BASE}\nARG MARK=none\nENV OF_THE_IMAGE=there\nRUN echo $MARK > /mark\n"


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """This computer's engine, with an image that has Python and sshd."""
    item = engines.start(tmp_path_factory.mktemp("e"), bridge=True)
    try:
        (image,) = images.store(recipes=[images.POD])
        item.docker(
            "import",
            "--change",
            "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            str(image.layer),
            BASE,
        )
        yield item
    finally:
        engines.stop(item)


@pytest.fixture
def project(in_docker_sandbox: SandboxInfo, engine: Engine, tmp_path: Path) -> CommandLine:
    folder = write_project(
        tmp_path / "digits",
        {
            "train.py": SCRIPT,
            "requirements.txt": "there-is-no-such-package\n",
            "Dockerfile": DOCKERFILE,
            ".dockerignore": ".git\nresults\n",
        },
    )
    path = os.environ["PATH"]
    for number, docker in reversed([*enumerate(programs())]):
        # The one that builds best is taken, and of equal ones the first.
        shim = tmp_path / f"bin-{number}" / "docker"
        shim.parent.mkdir()
        shim.write_text(DOCKER.format(seen=tmp_path / "docker-calls", docker=docker))
        shim.chmod(0o755)
        path = f"{shim.parent}:{path}"
    folders = {f"XDG_{kind}_HOME": str(tmp_path / kind) for kind in ("DATA", "CONFIG", "CACHE", "STATE")}
    return CommandLine(folder, {**folders, "DOCKER_HOST": engine.host, "PATH": path})


def test_a_launch_makes_a_pod_of_the_projects_image_and_has_runpod_keep_the_login(
    project: CommandLine, in_docker_sandbox: SandboxInfo, tmp_path: Path
) -> None:
    launch = (
        "runpod",
        "launch",
        "train.py",
        "--gpu",
        "RTX A5000",
        "--wait",
        "--yes",
        "--build-arg",
        "MARK=mine",
    )
    refused = project(*launch)
    assert refused.code != 0
    assert "nothing says from where it can pull that of Dockerfile" in refused.err
    assert "docker.registry" in refused.err

    (project.cwd / ".runctl.toml").write_text('[docker]\nregistry = "ecr"\n')
    ecr: Any = boto3.client(
        "ecr", endpoint_url=in_docker_sandbox.endpoint_url, region_name=in_docker_sandbox.region
    )
    plan = project(*launch, "--dry-run").ok().out
    assert "Dockerfile, built here and pushed" in plan
    assert not [
        each for each in ecr.describe_repositories()["repositories"] if "digits" in each["repositoryName"]
    ]

    kept = tmp_path / "passwords"
    done = project.another("tests.e2e.recorded_rest", kept, "--verbose", *launch, timeout=600).ok()
    assert "mark mine there" in done.out
    assert "docker None key None" in done.out, "no engine, and no key of the pod's in the run"
    passwords = set(kept.read_text().split())
    assert passwords and all(len(each) > 10 for each in passwords), "RunPod was given the login"
    docker = (tmp_path / "docker-calls").read_text()
    assert "--password-stdin" in docker and "PUBLIC_KEY=" in done.out, "both were looked at"
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != kept]
    written = {str(path.relative_to(tmp_path)): path.read_bytes().decode(errors="replace") for path in files}
    for where, text in {"what it says": done.out + done.err, "docker's arguments": docker, **written}.items():
        assert not [each for each in passwords if each in text], f"the login's password is in {where}"
    again = project(*launch, timeout=600).ok()
    assert "nothing to build, nothing to push" in again.err, done.err + again.err
    assert project("runpod", "list", "--everyone", "--quiet").ok().out == ""
