"""An image gets its name, which says what it was made from, only once that is known to be so."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from runctl.containers.build_record import BuildRecords
from runctl.containers.building import Built, ImageBuilder
from runctl.containers.client import Builder, DockerClient
from runctl.containers.image_inputs import ImageInputs
from runctl.containers.image_plan import INPUTS_LABEL, ImagePlan
from runctl.core.errors import ProjectError

DIGEST = "sha256:" + "1" * 64
DOCKER = f"""#!{sys.executable}
import json, pathlib, sys
words, here = sys.argv[1:], pathlib.Path(__file__).parent
file = here / "names"
names = json.loads(file.read_text()) if file.exists() else {{}}
def after(word):
    return [words[i + 1] for i, w in enumerate(words) if w == word]
if words[:2] == ["image", "inspect"]:
    sys.exit(words[-1] not in names)
elif words[:2] == ["image", "tag"]:
    if words[2] not in names:
        sys.exit("No such image: " + words[2])
    names[words[3]] = names[words[2]]
elif words[:2] == ["image", "rm"]:
    if (here / "away").exists():
        sys.exit("Cannot connect to the Docker daemon")
    if names.pop(words[-1], None) is None:
        sys.exit("No such image: " + words[-1])
elif words[:3] == ["buildx", "imagetools", "create"]:
    if "--prefer-index=false" in words and (here / "old").exists():
        sys.exit("unknown flag: --prefer-index")
    pushed = [name for name in names if name == words[-1]] or sys.exit("not found: " + words[-1])
    names[after("--tag")[0]] = names.pop(pushed[0])
elif words[:2] == ["buildx", "build"]:
    image = dict(label.split("=", 1) for label in after("--label"))["{INPUTS_LABEL}"]
    for output in after("--output"):
        options = dict(each.split("=", 1) for each in output.split(","))
        if options["type"] == "image" and options.get("push") == options.get("push-by-digest") == "true":
            names[options["name"] + "@{DIGEST}"] = image
    if "--load" in words:
        names.update(dict.fromkeys(after("--tag"), image))
    for written in after("--metadata-file"):
        pathlib.Path(written).write_text(json.dumps({{"containerimage.digest": "{DIGEST}"}}))
    if (here / "fails").exists():
        sys.exit("no")
else:
    sys.exit("not expected: " + repr(words))
file.write_text(json.dumps(names))
"""
"""A docker program that knows which image each name has, in the engine and in the registry: what it was built of."""


class Place:
    """A project, and a docker program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "docker"
        program.write_text(DOCKER)
        program.chmod(0o755)
        self.plan = plan_of(folder, "FROM a\n")
        self.program = str(program)
        self.records = folder / "records"
        self.seen_unchecked: set[str] = set()

    def names(self) -> dict[str, str]:
        file = self.folder / "names"
        known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        return known

    def build(self, found: str | BaseException | None = None, *, keeps_images: bool = True) -> None:
        """Build; the comparison finds this digest, by default the right one."""

        def now() -> str:
            self.seen_unchecked = set(self.names())
            if isinstance(found, BaseException):
                raise found
            return found or self.plan.inputs.digest

        client = DockerClient(self.program, Builder.BUILDX, "linux/amd64", keeps_images=keeps_images)
        builder = ImageBuilder(client, BuildRecords(self.records), new_build=lambda: "1")
        builder.build(self.plan, push=not keeps_images, now=now)

    @property
    def both_names(self) -> dict[str, str]:
        """What the engine has after a build."""
        return dict.fromkeys((self.plan.local, str(self.plan.remote)), self.plan.inputs.digest)


def plan_of(folder: Path, dockerfile: str) -> ImagePlan:
    return ImagePlan(folder, "digits", ImageInputs("Dockerfile", dockerfile, {}), "host/path")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """One of its own."""
    return Place(tmp_path)


def test_an_image_that_was_checked_has_its_names_and_no_other(place: Place) -> None:
    place.build()

    assert place.seen_unchecked == {place.plan.unchecked("1")}
    assert place.names() == place.both_names


@pytest.mark.parametrize("keeps_images", [True, False])
def test_an_image_whose_files_changed_under_the_build_gets_no_name(place: Place, keeps_images: bool) -> None:
    with pytest.raises(ProjectError) as raised:
        place.build("another", keeps_images=keeps_images)

    assert raised.value.code == "file-changed"
    assert set(place.names()) <= {f"host/path@{DIGEST}"}


@pytest.mark.parametrize("keeps_images", [True, False])
def test_a_command_that_ends_before_the_comparison_leaves_no_name(place: Place, keeps_images: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        place.build(KeyboardInterrupt(), keeps_images=keeps_images)

    assert set(place.names()) <= {f"host/path@{DIGEST}"}


@pytest.mark.parametrize("is_old", [True, False])
def test_what_a_builder_in_a_container_pushed_gets_its_tag_after_the_comparison(
    place: Place, is_old: bool
) -> None:
    if is_old:
        (place.folder / "old").touch()

    place.build(keeps_images=False)

    assert place.seen_unchecked == {f"host/path@{DIGEST}"}
    assert place.names() == {place.plan.remote: place.plan.inputs.digest}


def test_an_image_is_built_although_nothing_can_be_remembered_of_it(place: Place) -> None:
    (place.folder / "file").touch()
    place.records = place.folder / "file" / "records"

    place.build()

    assert place.names() == place.both_names


def test_two_builds_of_a_folder_in_one_engine_each_name_their_own_image(place: Place) -> None:
    """As in two containers that have the engine's socket, and records of their own."""
    client = DockerClient(place.program, Builder.BUILDX, "linux/amd64")
    other = plan_of(place.folder, "FROM b\n")
    is_built, may_end = Event(), Event()

    def others_check() -> str:
        is_built.set()
        assert may_end.wait(30)
        return other.inputs.digest

    others: list[Future[Built]] = []
    with ThreadPoolExecutor(1) as pool:

        def check() -> str:
            another = ImageBuilder(client, BuildRecords(place.folder / "another"))
            others.append(pool.submit(another.build, other, now=others_check))
            assert is_built.wait(30)
            return place.plan.inputs.digest

        try:
            ImageBuilder(client, BuildRecords(place.records)).build(place.plan, now=check)
        finally:
            may_end.set()
    assert others[0].result().built

    assert place.names() == place.both_names | dict.fromkeys((other.local, other.remote), other.inputs.digest)


def test_what_a_killed_build_leaves_is_removed_by_the_next(place: Place) -> None:
    (place.folder / "away").touch()
    with pytest.raises(KeyboardInterrupt):
        place.build(KeyboardInterrupt())
    assert set(place.names()) == {place.plan.unchecked("1")}
    (place.folder / "away").unlink()
    place.plan = plan_of(place.folder, "FROM b\n")

    client = DockerClient(place.program, Builder.BUILDX, "linux/amd64")
    ImageBuilder(client, BuildRecords(place.records)).build(place.plan)

    assert place.names() == place.both_names
    assert BuildRecords(place.records).unfinished(place.plan.root) is None


def test_a_build_that_fails_leaves_nothing_to_remove(place: Place) -> None:
    (place.folder / "fails").touch()

    with pytest.raises(ProjectError):
        place.build()

    assert place.names() == {}
    assert BuildRecords(place.records).unfinished(place.plan.root) is None


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
