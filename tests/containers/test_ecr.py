"""``docker build-push``, ``list`` and ``prune`` with ECR: the repository, the token, and what is left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.containers.client import choose, examine, programs
from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.agent.engine import Engine
from tests.e2e.command_line import CommandLine

pytestmark = [pytest.mark.namespaces, pytest.mark.root, pytest.mark.docker]


@pytest.fixture
def ecr(in_sandbox: SandboxInfo) -> Iterator[Any]:
    """The API; every repository is gone afterwards."""
    client = boto3.client("ecr", endpoint_url=in_sandbox.endpoint_url, region_name=in_sandbox.region)
    yield client
    for describe_repository in client.describe_repositories()["repositories"]:
        client.delete_repository(repositoryName=describe_repository["repositoryName"], force=True)


@pytest.fixture
def runctl(project: Path, engine: Engine, ecr: Any, tmp_path: Path) -> CommandLine:
    """With a docker configuration of the user's own, whose keychain is not there: whoever used it would fail."""
    users = tmp_path / "users-docker"
    users.mkdir()
    (users / "config.json").write_text('{"credsStore": "not-there", "auths": {"ghcr.io": {}}}')
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {"DOCKER_HOST": engine.host, "DOCKER_CONFIG": str(users), "TMPDIR": str(temporary)}
    return CommandLine(project, env)


def json_of(runctl: CommandLine, *argv: object) -> Any:
    return runctl("docker", *argv, "--output", "json").ok().json


def test_a_repository_is_made_once_and_nothing_is_pushed_twice(
    runctl: CommandLine, ecr: Any, tmp_path: Path
) -> None:
    plan = json_of(runctl, "build-push", "--dry-run")
    assert ecr.describe_repositories()["repositories"] == []

    first = json_of(runctl, "build-push")
    second = json_of(runctl, "build-push")
    repeated = json_of(runctl, "build-push", "--dry-run")

    (created,) = ecr.describe_repositories()["repositories"]
    tags = {
        item["Key"]: item["Value"]
        for item in ecr.list_tags_for_resource(resourceArn=created["repositoryArn"])["tags"]
    }
    policy = json.loads(ecr.get_lifecycle_policy(repositoryName="runctl/digits")["lifecyclePolicyText"])
    assert plan["reference"] == first["reference"] == f"{created['repositoryUri']}:{first['tag']}"
    assert "ECR repository runctl/digits" in plan["will_create"][0]
    assert (tags["runctl:managed"], tags["runctl:project"]) == ("true", "digits")
    assert created["imageScanningConfiguration"] == {"scanOnPush": True}
    assert policy["rules"][-1]["selection"]["countNumber"] == 10
    assert first["push"]["pushed"] is True
    assert (second["built"], second["found_in"], second["push"]["pushed"]) == (False, "registry", False)
    assert (repeated["there_already"], repeated["will_create"]) == ("registry", [])
    # The user's docker configuration is as it was, and the token is nowhere.
    users = tmp_path / "users-docker"
    assert [file.name for file in users.iterdir()] == ["config.json"]
    assert "not-there" in (users / "config.json").read_text()
    assert "127.0.0.1" not in (users / "config.json").read_text()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_number_of_images_that_stay_is_configured(
    runctl: CommandLine, ecr: Any, in_sandbox: SandboxInfo, project: Path
) -> None:
    (project / ".runctl.toml").write_text('[docker]\nregistry = "ecr"\nkeep_images = 1\n')
    for number in range(3):
        (project / "train.py").write_text(f"print('ecr {number}')\n")
        json_of(runctl, "build-push")

    Faults(in_sandbox).expire_images()
    left = [item for item in json_of(runctl, "list") if item["where"] == "registry"]
    plan = json_of(runctl, "prune", "--keep", 0, "--dry-run")
    done = json_of(runctl, "prune", "--keep", 0, "--yes")
    after = [entry for entry in json_of(runctl, "list") if entry["where"] == "registry"]

    def versions(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [image for image in images if not any("cache" in tag for tag in image["tags"])]

    # The first is a cache, too, and stays; of the others the newest does.
    assert len(versions(left)) == 1
    assert {candidate["reference"] for candidate in plan["removed"]} == {
        element["reference"] for element in done["removed"]
    }
    assert versions(after) == []
    assert {tag for each in after for tag in each["tags"]} >= {"cache", "cache-deps"}


def test_a_repository_of_somebody_else_is_not_touched(runctl: CommandLine, ecr: Any) -> None:
    created = ecr.create_repository(repositoryName="runctl/digits")["repository"]

    refused = runctl("docker", "build-push", "--output", "json")
    named = json_of(runctl, "build", "--registry", created["repositoryUri"])
    listed = json_of(runctl, "list", "--registry", "ecr")

    assert (refused.code, refused.error["code"]) == (1, "not-ours")
    assert created["repositoryUri"] in refused.error["hint"]
    assert named["reference"] == f"runctl/digits:{named['tag']}"
    assert ecr.list_images(repositoryName="runctl/digits")["imageIds"] == []
    assert not any(item["where"] == "registry" for item in listed)


def test_a_token_that_is_not_taken_is_named_and_nothing_is_created(
    runctl: CommandLine, ecr: Any, in_sandbox: SandboxInfo
) -> None:
    faults = Faults(in_sandbox)
    faults.ecr_token_seconds(0)
    try:
        done = runctl("docker", "build-push", "--output", "json")
        faults.clear()
        faults.deny("ecr:CreateRepository")
        denied = runctl("docker", "build-push", "--output", "json")
    finally:
        faults.clear()

    assert (done.code, done.error["code"]) == (4, "registry-login"), f"{done}"
    assert (denied.code, denied.error["code"]) == (4, "permission"), f"{denied}"
    assert "CreateRepository" in denied.error["message"]
    assert ecr.describe_repositories()["repositories"] == []


def test_a_registry_that_wants_a_login_says_so(runctl: CommandLine, ecr: Any) -> None:
    created = ecr.create_repository(repositoryName="somebodys/own")["repository"]

    done = runctl("docker", "build-push", "--registry", created["repositoryUri"], "--output", "json")

    assert (done.code, done.error["code"]) == (4, "registry-login"), f"{done}"
    assert done.error["hint"] == f"docker login {created['repositoryUri'].partition('/')[0]}"


def test_no_password_is_on_a_command_line_or_in_a_file_that_others_may_read(
    runctl: CommandLine, tmp_path: Path
) -> None:
    told, modes, typed = tmp_path / "told", tmp_path / "modes", tmp_path / "typed"
    program = tmp_path / "bin/docker"
    best = choose([item for each in programs() if (item := examine(each)) is not None])
    assert best is not None
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
echo "$*" >> "{told}"
case " $* " in
    *" login "*) tee "{typed}" | "{best.program}" "$@" ;;
    *) "{best.program}" "$@" ;;
esac
code=$?
if [ "$1" = --config ]; then stat -c %a "$2" "$2/config.json" >> "{modes}"; fi
exit $code
"""
    )
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    process = replace(runctl, env={**runctl.env, "PATH": path}).start("docker", "build-push")
    seen = set()
    while process.poll() is None:
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                seen.add(file.read_bytes())
    process.communicate()
    assert process.returncode == 0

    password = typed.read_bytes().strip()
    assert len(password) > 20
    assert not [line for line in seen if password in line]
    assert password not in told.read_bytes()
    logins = [line.split() for line in told.read_text().splitlines() if " login " in line]
    assert logins
    argv = [line[line.index("login") + 1 :] for line in logins]
    assert all(line[:3] == ["--username", "AWS", "--password-stdin"] for line in argv), argv
    assert all(len(line) == 4 and ":" in line[3] for line in argv), argv
    assert set(modes.read_text().split()) <= {"600", "700"}
    assert not list(Path(runctl.env["TMPDIR"]).iterdir())
