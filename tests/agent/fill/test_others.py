"""What a volume has besides what it was filled with."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.agent.cloud.s3 import Object
from runctl.agent.fill.objects import Wanted, listing_digest
from runctl.agent.fill.others import other_path

FILLED = Wanted(
    {path: Object(path, 1, "etag") for path in ("a.bin", "deep/er/b.bin")},
    ("empty/marked",),
)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """As it is after it was filled: with ext4's own folder, and the program's."""
    for folder in ("deep/er", "empty/marked", "lost+found", ".runctl/partial"):
        (tmp_path / folder).mkdir(parents=True)
    for file in (*FILLED.files, ".runctl/lock", ".runctl/prewarm.jsonl"):
        (tmp_path / file).write_bytes(b"x")
    return tmp_path


def test_nothing_else_is_on_a_volume_that_was_filled(volume: Path) -> None:
    assert other_path(volume, FILLED) is None


@pytest.mark.parametrize(
    "path", ["labels.csv", "deep/c.bin", "deep/er/more/d.bin", "lost+found.txt", ".runctl/run.log", "deep/.x"]
)
def test_a_file_of_anybody_else_is_found_wherever_it_is(volume: Path, path: str) -> None:
    (volume / path).parent.mkdir(exist_ok=True)
    (volume / path).write_bytes(b"mine")

    assert path.startswith(other_path(volume, FILLED) or "/")


@pytest.mark.parametrize(("name", "target"), [("labels", "deep"), ("a.bin", "b.bin"), ("deep", "moved")])
def test_a_link_is_not_the_folder_that_it_leads_to(volume: Path, name: str, target: str) -> None:
    if (volume / name).exists():
        (volume / name).rename(volume / target)
    (volume / name).symlink_to(target)

    assert other_path(volume, FILLED) in {name, target}


def test_an_empty_folder_that_nobody_filled_is_something_else(volume: Path) -> None:
    (volume / "out").mkdir()

    assert other_path(volume, FILLED) == "out"


def test_what_cannot_be_looked_into_is_something_else(volume: Path) -> None:
    assert other_path(volume / "gone", FILLED) == "."


@pytest.mark.parametrize(
    "changed",
    [
        Wanted({"a.bin": FILLED.files["a.bin"]}, FILLED.folders),
        Wanted({**FILLED.files, "c.bin": Object("c.bin", 1, "etag")}, FILLED.folders),
        Wanted({**FILLED.files, "a.bin": Object("a.bin", 2, "etag")}, FILLED.folders),
        Wanted({**FILLED.files, "a.bin": Object("a.bin", 1, "other")}, FILLED.folders),
        Wanted(FILLED.files, ()),
    ],
    ids=["one less", "one more", "larger", "other content", "a folder less"],
)
def test_whatever_changes_in_s3_changes_the_digest_of_its_listing(changed: Wanted) -> None:
    assert listing_digest(changed) != listing_digest(FILLED)


def test_the_order_of_a_listing_and_what_is_above_the_folder_do_not_matter() -> None:
    moved = {path: Object(f"elsewhere/{path}", 1, "etag") for path in reversed(FILLED.files)}

    assert listing_digest(Wanted(moved, FILLED.folders * 2)) == listing_digest(FILLED)
