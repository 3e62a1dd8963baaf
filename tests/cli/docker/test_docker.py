"""``docker detect`` as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.command_line import CommandLine, write_project

DOCKERFILE = "FROM python:3.11-slim AS base\nFROM base\nCOPY . /workspace\n"


@pytest.fixture
def runctl(tmp_path: Path) -> CommandLine:
    return CommandLine(write_project(tmp_path / "project", {"Dockerfile": DOCKERFILE, "train.py": ""}))


def test_detect_shows_which_dockerfile_and_why(runctl: CommandLine) -> None:
    found = runctl("docker", "detect", "--output", "json").ok().json

    assert found == {
        "dockerfile": "Dockerfile",
        "found_by": "known place",
        "reason": "the project has Dockerfile",
        "not_used": [],
        "context": str(runctl.cwd.resolve()),
        "ignore_file": None,
        "stages": [
            {"target": "base", "base": "python:3.11-slim"},
            {"target": "1", "base": "base"},
        ],
        "unpinned_bases": ["python:3.11-slim"],
    }
    assert "the project has Dockerfile" in runctl("docker", "detect").ok().out
    assert runctl("docker", "detect", "--quiet").ok().out == "Dockerfile\n"


def test_detect_follows_the_flag_the_configuration_and_the_search(runctl: CommandLine) -> None:
    for name in ("a/Dockerfile.gpu", "b/Dockerfile.cpu"):
        (runctl.cwd / name).parent.mkdir()
        (runctl.cwd / name).write_text(DOCKERFILE)
    (runctl.cwd / "Dockerfile").unlink()

    none = runctl("docker", "detect", "--output", "json")
    several = runctl("docker", "detect", "--dockerfile-search", "--output", "json")
    flag = runctl("docker", "detect", "--dockerfile", "a/Dockerfile.gpu", "--output", "json").ok()
    (runctl.cwd / ".runctl.toml").write_text('[docker]\ndockerfile_path = "b/Dockerfile.cpu"\n')
    config = runctl("docker", "detect", "--output", "json").ok()

    assert (none.code, none.error["code"]) == (5, "no-dockerfile")
    assert (several.code, several.error["code"]) == (1, "several-dockerfiles")
    assert "a/Dockerfile.gpu, b/Dockerfile.cpu" in several.error["message"]
    assert (flag.json["dockerfile"], flag.json["found_by"]) == ("a/Dockerfile.gpu", "--dockerfile")
    assert (config.json["dockerfile"], config.json["found_by"]) == ("b/Dockerfile.cpu", "config")


def test_train_takes_the_dockerfile_by_name_or_by_search(runctl: CommandLine) -> None:
    (runctl.cwd / "Dockerfile").rename(runctl.cwd / "my.dockerfile")

    plain = runctl("local", "train", "train.py", "--dry-run", "--output", "json").ok().json
    named = runctl("local", "train", "train.py", "--dockerfile", "my.dockerfile", "--dry-run").ok()
    searched = runctl("local", "train", "train.py", "--dockerfile-search", "--dry-run").ok()
    contradiction = runctl(
        *("local", "train", "train.py", "--dockerfile", "my.dockerfile", "--no-docker", "--dry-run")
    )

    assert plain["container"] is None
    assert "my.dockerfile" in named.out
    assert "--dockerfile-search found my.dockerfile" in searched.out
    assert contradiction.code == 2


def test_detect_outside_a_project_says_so(tmp_path: Path) -> None:
    done = CommandLine(tmp_path)("docker", "detect", "--output", "json")

    assert (done.code, done.error["code"]) == (1, "no-project")


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("list", "--registry ecr, or --instance INSTANCE"),
        ("prune", "--registry ecr, or --instance INSTANCE"),
        ("build", "runctl docker build --build-on instance --instance INSTANCE"),
    ],
)
def test_without_an_engine_the_hint_names_what_this_command_can_do(
    runctl: CommandLine, tmp_path: Path, text: str, way: str
) -> None:
    lonely = CommandLine(runctl.cwd, {"PATH": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    refused = lonely("docker", text)
    assert refused.code == 1
    assert way in refused.err


def test_a_push_without_an_engine_offers_no_option_that_it_does_not_have(
    runctl: CommandLine, tmp_path: Path
) -> None:
    refused = CommandLine(runctl.cwd, {"PATH": str(tmp_path)})("docker", "push", "--registry", "ghcr.io/a/b")
    assert refused.code == 1
    assert "--build-on" not in refused.err


def test_detect_says_which_stage_has_no_name(runctl: CommandLine) -> None:
    assert "base, from python:3.11-slim; stage 1, from base" in runctl("docker", "detect").ok().out
