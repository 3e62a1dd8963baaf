"""``aws train`` with an image that is built here and pulled from ECR, and with one that is built on the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.sandbox.connection import SandboxInfo
from tests.agent import engine as engines
from tests.agent.engine import Engine
from tests.e2e.command_line import CommandLine, until, write_project

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.docker,
    pytest.mark.usefixtures("clean_account"),
]

BASE = "base:py"
SCRIPT = "import pathlib\nprint('mark', pathlib.Path('/mark').read_text().strip(), flush=True)\n"
STEPS = "ARG MARK=none\nRUN echo $MARK > /mark\nCOPY . /workspace\n"


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """This computer's engine."""
    item = engines.start(tmp_path_factory.mktemp("e"), bridge=True)
    try:
        engines.python_image(item, BASE)
        yield item
    finally:
        engines.stop(item)


@pytest.fixture
def project(in_docker_sandbox: SandboxInfo, engine: Engine, tmp_path: Path) -> CommandLine:
    folder = write_project(
        tmp_path / "digits",
        {
            "train.py": SCRIPT,
            "here.dockerfile": f"FROM {BASE}\n{STEPS}",
            "there.dockerfile": f"FROM python:3.11-slim\n{STEPS}",
            ".dockerignore": ".git\n",
        },
    )
    return CommandLine(folder, {"XDG_DATA_HOME": str(tmp_path / "data"), "DOCKER_HOST": engine.host})


@pytest.mark.slow
def test_an_image_is_built_where_the_plan_says_and_once(
    project: CommandLine, in_docker_sandbox: SandboxInfo
) -> None:
    ecr: Any = boto3.client(
        "ecr", endpoint_url=in_docker_sandbox.endpoint_url, region_name=in_docker_sandbox.region
    )
    instance = project("aws", "create", "t3.medium", "--quiet").ok().out.strip()
    here = ("aws", "train", instance, "train.py", "--dockerfile", "here.dockerfile", "--build-on", "local")
    there = (
        "aws",
        "train",
        instance,
        "train.py",
        "--dockerfile",
        "there.dockerfile",
        "--build-arg",
        "MARK=there",
    )

    plan = project(*here, "--dry-run", "--output", "json").ok().json["image"]
    shown = project(*here, "--dry-run").ok().out
    assert ecr.describe_repositories()["repositories"] == []
    first = project(*here, "--build-arg", "MARK=here", "--wait").ok()
    repeated = project(*here, "--build-arg", "MARK=here", "--dry-run", "--output", "json").ok().json["image"]

    assert (plan["where"], plan["there"], plan["platform"]) == ("local", None, "linux/amd64")
    assert "ECR repository runctl/digits" in plan["will_create"][0]
    assert "to be built here, pushed, and pulled by the machine" in shown
    assert "mark here" in first.out
    assert "pulling the image" in first.out
    assert (repeated["there"], repeated["will_create"]) == ("registry", [])

    # A cluster gets the same image, by its digest; what is not in the registry is pushed only after a yes.
    export = ("export", "kubernetes", "train.py", "--dockerfile", "here.dockerfile", "--output", "json")
    exported = project(*export, "--build-arg", "MARK=here").ok().json["image"]
    asked = project(*export, "--build-arg", "MARK=cluster")
    before = [image["imageDigest"] for image in ecr.list_images(repositoryName="runctl/digits")["imageIds"]]
    pushed = project(*export, "--build-arg", "MARK=cluster", "--yes").ok().json["image"]
    after = [image["imageDigest"] for image in ecr.list_images(repositoryName="runctl/digits")["imageIds"]]
    tagged = ecr.describe_images(
        repositoryName="runctl/digits", imageIds=[{"imageTag": repeated["reference"].rpartition(":")[2]}]
    )
    assert (
        exported == f"{repeated['reference'].rpartition(':')[0]}@{tagged['imageDetails'][0]['imageDigest']}"
    )
    assert (asked.code, asked.error["code"]) == (2, "confirmation-needed")
    assert pushed.partition("@")[2] in set(after) - set(before)

    on_machine = project(*there, "--dry-run", "--output", "json").ok().json["image"]
    second = project(*there, "--wait").ok()
    third = project(*there, "--dry-run", "--output", "json").ok().json["image"]
    fourth = project(*there, "--wait").ok()

    assert (on_machine["where"], on_machine["there"]) == ("instance", None)
    assert "no registry is configured" in on_machine["reason"]
    assert on_machine["unpinned"] == ["python:3.11-slim"]
    assert "mark there" in second.out
    assert third["there"] == "machine"
    assert "is on the machine: there is nothing to build" in fourth.out
    # A build without a run, and a run that finds its image.
    built = project(
        *(
            "docker",
            "build",
            "--build-on",
            "instance",
            "--instance",
            instance,
            "--dockerfile",
            "there.dockerfile",
        ),
        *("--build-arg", "MARK=built", "--output", "json"),
    ).ok()
    assert built.json["end_reason"] == "COMPLETED"
    used = project(*there[:-1], "MARK=built", "--dry-run", "--output", "json").ok().json["image"]
    assert (used["reference"], used["there"]) == (built.json["image"], "machine")
    # What the machine's engine has can be listed and removed from here.
    stored = project("docker", "list", "--instance", instance, "--output", "json").ok().json
    assert built.json["image"] in [image["reference"] for image in stored]
    assert {image["where"] for image in stored} == {"instance"}
    pruned = project(
        *("docker", "prune", "--instance", instance, "--keep", "0", "--yes", "--output", "json")
    ).ok()
    assert len(pruned.json["removed"]) == len(stored)
    assert project("docker", "list", "--instance", instance, "--output", "json").ok().json == []
    # Neither token nor secret is left there.
    looked = 'ls -A /var/lib/runctl/entrusted; test ! -e "$HOME/.docker/config.json" && echo "no login"'
    assert project("aws", "exec", instance, "--", "sh", "-c", looked).ok().out == "no login\n"
    for describe_repository in ecr.describe_repositories()["repositories"]:
        ecr.delete_repository(repositoryName=describe_repository["repositoryName"], force=True)


@pytest.mark.slow
def test_what_one_machine_has_built_the_next_one_finds_in_ecr(
    in_docker_sandbox: SandboxInfo, tmp_path: Path
) -> None:
    files = {
        "train.py": SCRIPT,
        "Dockerfile": f"FROM python:3.11-slim\n{STEPS}",
        ".dockerignore": ".git\n",
        ".runctl.toml": '[docker]\nregistry = "ecr"\n',
    }
    # There is no engine on this computer.
    variables = {"XDG_DATA_HOME": str(tmp_path / "data"), "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    runctl = CommandLine(write_project(tmp_path / "digits", files), variables)
    ecr: Any = boto3.client(
        "ecr", endpoint_url=in_docker_sandbox.endpoint_url, region_name=in_docker_sandbox.region
    )
    item, two = (runctl("aws", "create", "t3.medium", "--quiet").ok().out.strip() for _ in range(2))
    run = ("train.py", "--build-arg", "MARK=shared")

    plan = runctl("aws", "train", item, *run, "--dry-run").ok().out
    assert ecr.describe_repositories()["repositories"] == []
    first = runctl("aws", "train", item, *run, "--wait").ok()
    repeated = runctl("aws", "train", two, *run, "--dry-run", "--output", "json").ok().json["image"]
    second = runctl("aws", "train", two, *run, "--wait").ok()
    images = runctl("docker", "list", "--output", "json").ok().json

    assert "before the run starts: other machines need not build it" in plan
    assert "creates  ECR repository runctl/digits" in plan
    assert "mark shared" in first.out
    assert (repeated["there"], repeated["published"], repeated["will_create"]) == ("registry", None, [])
    assert "pulling the image" in second.out
    assert "mark shared" in second.out
    assert repeated["reference"] in [image["reference"] for image in images]
    left = "ls -A /var/lib/runctl/entrusted"
    assert runctl("aws", "exec", item, "--", "sh", "-c", left).ok().out == ""
    for repository in ecr.describe_repositories()["repositories"]:
        ecr.delete_repository(repositoryName=repository["repositoryName"], force=True)


@pytest.mark.slow
def test_a_machine_that_nobody_watches_pulls_its_image_by_its_own_role(
    project: CommandLine, in_docker_sandbox: SandboxInfo
) -> None:
    s3: Any = boto3.client(
        "s3", endpoint_url=in_docker_sandbox.endpoint_url, region_name=in_docker_sandbox.region
    )
    s3.create_bucket(Bucket="images-of-mine")
    machine = ("--instance-type", "t3.medium", "--unattended", "--checkpoint-s3", "s3://images-of-mine/runs")
    image = ("--dockerfile", "here.dockerfile", "--build-on", "local", "--build-arg", "MARK=alone")
    launch = ("aws", "launch", "train.py", *machine, *image)

    plan = project(*launch, "--dry-run").ok().out
    assert "pull " in plan
    assert "runctl/digits:" in plan
    run = project(*launch, "--yes", "--quiet").ok().out.strip()

    def ended() -> Any:
        now = project("runs", "show", run, "--output", "json").ok().json
        return now if now["end_reason"] else None

    shown = until(ended, seconds=180, what="the end")
    log = project("runs", "logs", run).out
    assert shown["end_reason"] == "COMPLETED", (shown["message"], log)
    assert "mark alone" in log
    assert "runctl/digits@sha256:" in shown["image"]
