"""The project's Compose file: services, and variables of its surroundings."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.errors import NotFound, ProjectError
from runctl.project.docker import compose_file as module
from runctl.project.docker.compose_file import (
    check_env_files,
    check_service,
    choose_variables,
    read_compose_file,
    read_variables_file,
)

FILE = """\
x-common: &common
  environment:
    - TOKEN
    - SET=here
    - FROM=${HOST_NAME:-${FALLBACK}}
services:
  trainer:
    <<: *common
    image: "repo:${TAG}"
    command: ["sh", "-c", "echo $$NOT_THIS ${LR-0.5} $STEPS ${DEBUG:+x} ${MUST:?say it}"]
    build: {context: ., args: {WHEEL: , FIXED: "1"}}
    volumes: ["${PWD}:/workspace", !override "x:/y"]
    env_file: [.env, {path: ./more.env, required: false}, conf/a.env]
  store:
    extends: {file: parts/base.yml, service: base}
include:
  - parts/extra.yml
secrets:
  key: {environment: KEY}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "compose.yaml").write_text(FILE)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/base.yml").write_text("services: {base: {image: '$BASE', env_file: ../b.env}}")
    (tmp_path / "parts/extra.yml").write_text(
        "services: {cache: {image: x}}\ninclude: [../compose.yaml, gone.yml]"
    )
    return tmp_path


def test_its_services_are_known_with_those_that_it_includes(project: Path) -> None:
    file = read_compose_file(project, "compose.yaml")
    assert file.services == ("trainer", "store", "cache")
    check_service(file, "cache")
    with pytest.raises(NotFound, match="no service 'trianer'; it has trainer, store, cache") as caught:
        check_service(file, "trianer")
    assert "trainer" in (caught.value.hint or "")


def test_what_it_takes_from_its_surroundings_is_found_wherever_it_stands(project: Path) -> None:
    file = read_compose_file(project, "compose.yaml")
    assert file.variables == {
        "BASE": False,
        "DEBUG": True,
        "FALLBACK": False,
        "HOST_NAME": True,
        "KEY": False,
        "LR": True,
        "MUST": False,
        "PWD": False,
        "STEPS": False,
        "TAG": False,
        "TOKEN": True,
        "WHEEL": True,
    }


def test_the_nearest_value_is_taken_and_nothing_that_was_not_asked_for(project: Path) -> None:
    file = read_compose_file(project, "compose.yaml")
    chosen = choose_variables(
        file,
        {"LR": "1"},
        {"LR": "2", "STEPS": "2", "PWD": "/home/me", "AWS_SECRET_ACCESS_KEY": "s"},
        {"LR": "3", "STEPS": "3", "TAG": "3", "OTHER": "3", "BASE": "b", "KEY": "k", "MUST": "m"},
    )
    assert chosen.values == {"LR": "1", "STEPS": "2", "TAG": "3", "BASE": "b", "KEY": "k", "MUST": "m"}
    assert (chosen.sources["LR"], chosen.sources["STEPS"], chosen.sources["TAG"]) == (
        "--env",
        "this shell",
        ".env",
    )
    assert chosen.missing == ("FALLBACK",)
    assert "values" not in repr(chosen)


def test_its_own_variables_file_is_read_as_compose_reads_it(project: Path) -> None:
    assert read_variables_file(project) == {}
    (project / ".env").write_text("# why\nexport A=1 # said\nB='x y'\nC=\"a\\nb\"\nD=${A}2\nE\nF=\n")
    assert read_variables_file(project) == {"A": "1", "B": "x y", "C": "a\nb", "D": "12", "F": ""}


def test_a_file_of_variables_that_stays_at_home_is_told_before_anything_is_sent(project: Path) -> None:
    file = read_compose_file(project, "compose.yaml")
    assert file.env_files == (".env", "conf/a.env", "b.env")
    check_env_files(file, project, [])
    (project / ".env").touch()
    check_env_files(file, project, [".env"])
    with pytest.raises(ProjectError, match=r"reads \.env \(env_file\), which is not sent") as caught:
        check_env_files(file, project, ["compose.yaml"])
    assert caught.value.hint == "send it: --include-pattern .env"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: [", "not valid YAML"),
        ("- a", "has no services"),
        (b"\xff", "cannot be read"),
        ("a: !!python/name:os.x", "not valid YAML"),
    ],
)
def test_what_is_no_compose_file_says_so(tmp_path: Path, text: str | bytes, said: str) -> None:
    (tmp_path / "compose.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ProjectError, match=said):
        read_compose_file(tmp_path, "compose.yaml")


def laughs(first: str, level: str, levels: int = 40) -> str:
    """Each level has the one before twice."""
    lines = [f"x-0: &a0 {first}"]
    lines += [
        f"x-{number}: &a{number} " + level.replace("*", f"*a{number - 1}") for number in range(1, levels)
    ]
    return "\n".join([*lines, "services: {train: {image: '${TAG}'}}"])


@pytest.mark.parametrize(
    "text",
    [
        laughs("['${LAUGH}']", "[*, *]"),
        laughs("{k: '${LAUGH}'}", "{<<: [*, *]}"),
        "x-0: &a ['${LAUGH}', *a]\nservices: {train: {image: '${TAG}'}}",
    ],
    ids=["lists", "merges", "itself"],
)
def test_what_aliases_repeat_is_read_once(tmp_path: Path, text: str) -> None:
    (tmp_path / "compose.yaml").write_text(text)

    found = read_compose_file(tmp_path, "compose.yaml")

    assert (set(found.variables), found.services) == ({"LAUGH", "TAG"}, ("train",))


def test_a_merge_counts_as_before_where_it_is_given_twice(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "x-a: &a {image: '${A}'}\nx-b: &b {image: '${B}'}\nservices: {train: {<<: [*a, *b, *a]}}"
    )

    assert module._load(tmp_path / "compose.yaml", "compose.yaml")["services"]["train"] == {"image": "${A}"}


def test_a_file_that_is_nested_too_deeply_is_an_error_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("[" * 5_000)

    with pytest.raises(ProjectError, match=r"compose\.yaml is nested too deeply"):
        read_compose_file(tmp_path, "compose.yaml")
