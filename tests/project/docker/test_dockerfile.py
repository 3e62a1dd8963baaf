"""Where a Dockerfile is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.core.errors import Conflict, NotFound, UsageError
from runctl.project.docker.dockerfile import SEARCHED, DockerfileRequest, choose_dockerfile, find_dockerfile
from runctl.project.files import ProjectFiles
from tests.project.files import repository, write


@pytest.mark.parametrize("place", SEARCHED)
def test_a_dockerfile_is_found_at_each_of_the_known_places(tmp_path: Path, place: str) -> None:
    write(tmp_path, {place: "FROM scratch\n"})

    found = find_dockerfile(ProjectFiles(tmp_path))

    assert found is not None
    assert found.path == place


@pytest.mark.parametrize("count", range(1, len(SEARCHED)))
def test_an_earlier_place_wins_and_the_others_are_named(tmp_path: Path, count: int) -> None:
    write(tmp_path, dict.fromkeys(SEARCHED[-count - 1 :], "FROM scratch\n"))

    found = find_dockerfile(ProjectFiles(tmp_path))

    assert found is not None
    assert found.path == SEARCHED[-count - 1]
    assert all(other in found.reason for other in SEARCHED[-count:])


def test_a_folder_called_dockerfile_is_none(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").mkdir()

    assert find_dockerfile(ProjectFiles(tmp_path)) is None


def test_a_named_dockerfile_comes_before_the_configured_one_and_the_known_places(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    write(root, dict.fromkeys(["Dockerfile", "gpu.dockerfile", "ops/Dockerfile.cpu"], "FROM scratch\n"))

    flag = choose_dockerfile(root, root / "ops", DockerfileRequest(Path("Dockerfile.cpu"), "gpu.dockerfile"))
    config = choose_dockerfile(root, root, DockerfileRequest(None, "gpu.dockerfile"))
    known = choose_dockerfile(root, root, DockerfileRequest(search=True))

    assert flag is not None
    assert (flag.path, flag.found_by) == ("ops/Dockerfile.cpu", "--dockerfile")
    assert config is not None
    assert (config.path, config.found_by) == ("gpu.dockerfile", "config")
    assert known is not None
    assert (known.path, known.found_by) == ("Dockerfile", "known place")


def test_a_named_dockerfile_that_is_not_there_is_an_error_and_no_other_is_taken(tmp_path: Path) -> None:
    root = write(tmp_path.resolve(), {"Dockerfile": "FROM scratch\n"})

    with pytest.raises(NotFound, match="there is no Dockerfil in"):
        choose_dockerfile(root, root, DockerfileRequest(Path("Dockerfil")))
    with pytest.raises(NotFound, match=r"\[docker\] dockerfile_path: there is no gone"):
        choose_dockerfile(root, root, DockerfileRequest(None, "gone"))


def test_a_dockerfile_outside_the_project_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path.resolve() / "project", {"train.py": ""})
    write(tmp_path, {"Dockerfile": "FROM scratch\n"})

    with pytest.raises(UsageError, match="outside the project"):
        choose_dockerfile(root, root, DockerfileRequest(Path("../Dockerfile")))


def test_a_search_honours_the_ignore_rules(tmp_path: Path) -> None:
    root = repository(
        tmp_path.resolve(),
        {
            ".gitignore": "build/\n",
            "build/Dockerfile": "FROM scratch\n",
            "a/b/c/Dockerfile.gpu": "FROM scratch\n",
            "a/Dockerfile.dockerignore": "x\n",
            "docs/dockerfile.md": "x\n",
        },
    )

    found = choose_dockerfile(root, root, DockerfileRequest(search=True))

    assert found is not None
    assert (found.path, found.found_by) == ("a/b/c/Dockerfile.gpu", "--dockerfile-search")


def test_a_search_that_finds_several_lists_them(tmp_path: Path) -> None:
    root = write(tmp_path.resolve(), dict.fromkeys(["a/Dockerfile", "b/x.dockerfile"], "FROM scratch\n"))

    with pytest.raises(Conflict, match=r"2 Dockerfiles: a/Dockerfile, b/x\.dockerfile") as raised:
        choose_dockerfile(root, root, DockerfileRequest(search=True))

    assert raised.value.code == "several-dockerfiles"
    assert raised.value.hint == "choose one: --dockerfile a/Dockerfile"


def test_a_search_that_finds_none_says_so_and_without_one_there_is_no_dockerfile(tmp_path: Path) -> None:
    root = write(tmp_path.resolve(), {"train.py": ""})

    assert choose_dockerfile(root, root, DockerfileRequest()) is None
    with pytest.raises(NotFound):
        choose_dockerfile(root, root, DockerfileRequest(search=True))
