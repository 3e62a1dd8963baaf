"""What a training runs: a script, a command, or what an image starts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runctl.cli.train.options import parse_interpreter, parse_size_mib
from runctl.containers.container_options import ContainerOptions
from runctl.containers.mounts import parse_mount
from runctl.core.errors import NotFound, UsageError
from runctl.runs.train.project_plan import TrainRequest, plan_project
from runctl.runs.train.request import configured_interpreter, starts_service


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / "sub").mkdir(parents=True)
    (tmp_path / "project" / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '1'\n")
    return tmp_path / "project"


def test_a_command_runs_from_the_projects_root_with_the_projects_dependencies(project: Path) -> None:
    request = TrainRequest(
        None, ("python", "-m", "pkg", "--x"), is_command=True, cwd=project / "sub", docker=False
    )
    plan = plan_project(request)
    assert plan.root.path == project
    assert (plan.script, plan.args, plan.is_command) == ("python", ("-m", "pkg", "--x"), True)
    assert plan.dependencies.kind == "pyproject"


def test_a_command_without_words_is_what_the_image_starts(project: Path) -> None:
    plan = plan_project(TrainRequest(None, is_command=True, cwd=project, image="serving:1"))
    assert (plan.script, plan.args) == ("", ())


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (TrainRequest(None), "no script is given"),
        (TrainRequest(Path("train.py"), is_command=True), "contradict"),
        (TrainRequest(None, ("x",), is_command=True, interpreter=("julia",)), "its own program"),
        (TrainRequest(None, is_command=True, docker=False), "this run is on the host"),
        (
            TrainRequest(
                None, ("x",), is_command=True, docker=False, container=ContainerOptions(user="root")
            ),
            "--user",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(project: Path, request_: TrainRequest, text: str) -> None:
    import dataclasses

    with pytest.raises(UsageError, match=text):
        plan_project(dataclasses.replace(request_, cwd=project))


def test_an_interpreter_comes_from_the_flag_or_from_the_configuration() -> None:
    configured = {"JL": "julia --threads 4", ".m": "octave", "x": "'open"}
    assert configured_interpreter(Path("a.jl"), configured) == ("julia", "--threads", "4")
    assert configured_interpreter(Path("a.m"), configured) == ("octave",)
    assert configured_interpreter(Path("a.py"), configured) == ()
    assert configured_interpreter(None, configured) == ()
    assert parse_interpreter("my 'own one'") == ("my", "own one")
    assert parse_interpreter(None) == ()
    with pytest.raises(UsageError, match="quot"):
        parse_interpreter("'open")
    with pytest.raises(UsageError, match="quot"):
        configured_interpreter(Path("a.x"), configured)


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("8g", 8192),
        ("512m", 512),
        ("1.5G", 1536),
        ("2gb", 2048),
        ("4GiB", 4096),
        ("1048576", 1),
        ("2048k", 2),
    ],
)
def test_sizes_are_read_as_docker_reads_them(text: str, mib: int) -> None:
    assert parse_size_mib(text) == mib


@pytest.mark.parametrize("text", ["", "0", "-1g", "lots", "1023k", "8t", "nan", "inf", "g"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shm-size"):
        parse_size_mib(text)


def test_a_service_is_found_in_the_projects_compose_file(project: Path) -> None:
    options = ContainerOptions(compose="trainer")
    with pytest.raises(NotFound, match="no Compose file"):
        plan_project(TrainRequest(None, is_command=True, cwd=project, container=options))
    (project / "docker-compose.yml").write_text("services: {trainer: {image: x}}\n")
    (project / "Dockerfile").write_text("FROM x\n")
    plan = plan_project(TrainRequest(None, is_command=True, cwd=project, container=options))
    assert plan.container is not None
    assert (plan.container.compose, plan.container.compose_file) == ("trainer", "docker-compose.yml")
    assert plan.container.dockerfile is None


def test_options_of_docker_belong_into_the_compose_file(project: Path) -> None:
    (project / "compose.yaml").write_text("services: {trainer: {image: x}}\n")
    options = ContainerOptions(compose="trainer", docker_args=("--privileged",))
    with pytest.raises(UsageError, match="contradict"):
        plan_project(TrainRequest(None, is_command=True, cwd=project, container=options))


def test_a_service_without_a_script_starts_its_own() -> None:
    options = ContainerOptions(compose="trainer")
    assert starts_service(None, (), options)
    assert not starts_service(Path("train.py"), ("x",), options)
    assert not starts_service(None, ("x",), ContainerOptions())
    with pytest.raises(UsageError, match="no script"):
        starts_service(None, ("x",), options)


@pytest.mark.parametrize(
    ("mount", "refused"),
    [
        ("datasets:/opt/ml/input/data/training", False),
        ("datasets:/data", False),
        ("datasets:/opt/ml/model", True),
        ("datasets:/opt/ml", True),
        ("datasets:/opt/ml/input/data", True),
    ],
)
def test_a_contracts_folders_are_its_own_but_for_its_channels(
    project: Path, mount: str, refused: bool
) -> None:
    request = TrainRequest(
        None,
        ("python", "x"),
        is_command=True,
        cwd=project,
        contract="sagemaker",
        mounts=(parse_mount(mount),),
    )
    if refused:
        with pytest.raises(UsageError, match="is the contract's"):
            plan_project(request)
    else:
        assert plan_project(request).mount_requests == (parse_mount(mount),)


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        (
            {"timeout": timedelta(seconds=12)},
            ["the run is ended after 12s (--timeout): a number without a unit is seconds"],
        ),
        (
            {"estimate": timedelta(seconds=24)},
            ["the run is to take 24s (--estimate): a number without a unit is seconds"],
        ),
        ({"timeout": timedelta(hours=12), "estimate": timedelta(minutes=1)}, []),
    ],
)
def test_a_time_below_a_minute_may_lack_its_unit(
    project: Path, changes: dict[str, Any], warnings: list[str]
) -> None:
    (project / "train.py").write_text("print('hello')\n")

    planned = plan_project(TrainRequest(Path("train.py"), cwd=project, **changes))

    assert [each for each in planned.sent.warnings if "unit" in each] == warnings
