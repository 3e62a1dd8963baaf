"""Where a Dockerfile is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.project.dockerfile import SEARCHED, find_dockerfile
from tests.project.files import write


@pytest.mark.parametrize("place", SEARCHED)
def test_a_dockerfile_is_found_at_each_of_the_known_places(tmp_path: Path, place: str) -> None:
    write(tmp_path, {place: "FROM scratch\n"})

    found = find_dockerfile(tmp_path)

    assert found is not None
    assert found.path == place


@pytest.mark.parametrize("count", range(1, len(SEARCHED)))
def test_an_earlier_place_wins_and_the_others_are_named(tmp_path: Path, count: int) -> None:
    write(tmp_path, dict.fromkeys(SEARCHED[-count - 1 :], "FROM scratch\n"))

    found = find_dockerfile(tmp_path)

    assert found is not None
    assert found.path == SEARCHED[-count - 1]
    assert all(other in found.reason for other in SEARCHED[-count:])


def test_a_folder_called_dockerfile_is_none(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").mkdir()

    assert find_dockerfile(tmp_path) is None
