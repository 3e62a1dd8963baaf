"""An image gets its name, which says what it was made from, only once that is known to be so."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path

import pytest

from runctl.containers.build_record import BuildRecords
from runctl.containers.building import ImageBuilder
from runctl.containers.client import Builder, DockerClient
from runctl.containers.image_inputs import ImageInputs
from runctl.containers.image_plan import ImagePlan
from runctl.core.errors import ProjectError

DIGEST = "sha256:" + "1" * 64
DOCKER = f"""#!{sys.executable}
import json, pathlib, sys
words, here = sys.argv[1:], pathlib.Path(__file__).parent
def names(change=lambda known: known):
    file = here / "names"
    known = set(json.loads(file.read_text())) if file.exists() else set()
    file.write_text(json.dumps(sorted(change(known))))
    return known
def after(word):
    return [words[i + 1] for i, w in enumerate(words) if w == word]
if words[:2] == ["image", "inspect"]:
    sys.exit(words[-1] not in names())
elif words[:2] == ["image", "tag"]:
    if words[2] not in names():
        sys.exit("no such image")
    names(lambda known: known | {{words[3]}})
elif words[:2] == ["image", "rm"]:
    names(lambda known: known - {{words[-1]}})
elif words[:3] == ["buildx", "imagetools", "create"]:
    if "--prefer-index=false" in words and (here / "old").exists():
        sys.exit("unknown flag: --prefer-index")
    names(lambda known: known | {{after("--tag")[0] + " is " + words[-1]}})
elif words[:2] == ["buildx", "build"]:
    names(lambda known: known | set(after("--tag")))
    for file in after("--metadata-file"):
        pathlib.Path(file).write_text(json.dumps({{"containerimage.digest": "{DIGEST}"}}))
else:
    sys.exit("not expected: " + repr(words))
"""
"""A docker program that knows which names it has given; ``NAME is SOURCE`` are those of the registry."""


class Place:
    """A project, and a docker program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "docker"
        program.write_text(DOCKER)
        program.chmod(0o755)
        inputs = ImageInputs("Dockerfile", "FROM a\n", {})
        self.plan = ImagePlan(folder, "digits", inputs, "host/path")
        self.program = str(program)
        self.records = folder / "records"
        self.seen_unchecked: set[str] = set()

    def names(self) -> set[str]:
        file = self.folder / "names"
        return set(json.loads(file.read_text())) if file.exists() else set()

    def build(self, found: str | BaseException | None = None, *, keeps_images: bool = True) -> None:
        """Build; the comparison finds this digest, by default the right one."""

        def now() -> str:
            self.seen_unchecked = self.names()
            if isinstance(found, BaseException):
                raise found
            return found or self.plan.inputs.digest

        client = DockerClient(self.program, Builder.BUILDX, "linux/amd64", keeps_images=keeps_images)
        builder = ImageBuilder(client, BuildRecords(self.records))
        builder.build(self.plan, push=not keeps_images, now=now)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """One of its own."""
    return Place(tmp_path)


def test_an_image_that_was_checked_has_its_names_and_no_other(place: Place) -> None:
    place.build()

    assert place.seen_unchecked == {place.plan.unchecked}
    assert place.names() == {place.plan.local, place.plan.remote}


@pytest.mark.parametrize("keeps_images", [True, False])
def test_an_image_whose_files_changed_under_the_build_gets_no_name(place: Place, keeps_images: bool) -> None:
    with pytest.raises(ProjectError) as raised:
        place.build("another", keeps_images=keeps_images)

    assert raised.value.code == "file-changed"
    assert place.names() == set()


@pytest.mark.parametrize("keeps_images", [True, False])
def test_a_command_that_ends_before_the_comparison_leaves_no_name(place: Place, keeps_images: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        place.build(KeyboardInterrupt(), keeps_images=keeps_images)

    assert place.names() == set()


@pytest.mark.parametrize("is_old", [True, False])
def test_what_a_builder_in_a_container_pushed_gets_its_tag_after_the_comparison(
    place: Place, is_old: bool
) -> None:
    if is_old:
        (place.folder / "old").touch()

    place.build(keeps_images=False)

    assert place.seen_unchecked == set()
    assert place.names() == {f"{place.plan.remote} is host/path@{DIGEST}"}


def test_an_image_is_built_although_nothing_can_be_remembered_of_it(place: Place) -> None:
    (place.folder / "file").touch()
    place.records = place.folder / "file" / "records"

    place.build()

    assert place.names() == {place.plan.local, place.plan.remote}


@pytest.mark.parametrize("folder", ["records", "file/records"])
def test_a_second_build_of_a_project_waits_for_the_first(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    records = BuildRecords(tmp_path / folder)
    another = records._open_lock(tmp_path)
    try:
        with records.alone(tmp_path), pytest.raises(BlockingIOError):
            fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(another)
