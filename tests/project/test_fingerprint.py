"""What was touched since the last sync is found, and nothing else is looked into."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runctl.agent.trees.manifest import Manifest
from runctl.project.fingerprint import Changes, FileStats, Fingerprint
from runctl.project.manifest import HashCache, build_manifest
from runctl.project.selection import select
from tests.project.files import write

ODD = 'odd"name].py'


def stats(root: Path) -> FileStats:
    found = FileStats.of(select(root))
    assert found is not None
    return found


def taken(root: Path, *, age: float = 100) -> Fingerprint:
    """A fingerprint of files that were written ``age`` seconds ago."""
    at = stats(root)
    hashes = HashCache(root.with_suffix(".json"))
    manifest = build_manifest(at.selection, hashes)
    if age > 2:
        # No clock is turned back here: change times cannot be.
        hashes.known = {path: [] for path in manifest.entries}
    fingerprint = at.fingerprint(manifest, hashes)
    assert fingerprint is not None
    return fingerprint


def manifest_of(root: Path) -> Manifest:
    return build_manifest(select(root))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "proj", {"train.py": "print(1)", "src/a,b.py": "a", ODD: "odd"})


def test_nothing_is_touched_when_nothing_was(root: Path) -> None:
    assert stats(root).changes_since(taken(root)) == Changes()


def test_a_file_that_was_just_written_counts_as_touched(root: Path) -> None:
    before = taken(root, age=0)

    changes = stats(root).changes_since(before)

    assert changes is not None
    assert set(changes.touched) == {"train.py", "src/a,b.py", ODD}


def rewrite(path: Path) -> None:
    facts = path.stat()
    path.write_text(path.read_text()[::-1])
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def replace_(path: Path) -> None:
    path.with_name("other").write_text("other")
    path.with_name("other").replace(path)


def become_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("train.py")


CHANGES: list[Callable[[Path], object]] = [
    rewrite,
    replace_,
    lambda path: path.write_text("longer than it was"),
    lambda path: path.chmod(0o755),
]


@pytest.mark.parametrize(
    ("change", "path"),
    [*((change, path) for change in CHANGES for path in ("train.py", ODD)), (become_a_link, ODD)],
)
def test_what_was_touched_is_described_anew_as_if_all_were(
    root: Path, change: Callable[[Path], object], path: str
) -> None:
    before = taken(root)
    change(root / path)
    at = stats(root)

    changes = at.changes_since(before)
    assert changes == Changes((path,))
    updated = at.updated(before, changes)

    assert updated is not None
    fingerprint, _, changed = updated
    whole = manifest_of(root)
    assert (fingerprint.text, fingerprint.digest) == (whole.text, whole.digest)
    assert (fingerprint.files, fingerprint.size_bytes) == (
        len(whole.entries),
        sum(entry[2] for entry in whole.entries.values() if entry[0] == "f"),
    )
    assert changed == {
        path: entry for path, entry in whole.entries.items() if entry != before.manifest.entries[path]
    }


@pytest.mark.parametrize("change", ["new", "gone", "moved", "replaced by a folder"])
def test_files_that_come_and_go_are_in_the_new_manifest(root: Path, change: str) -> None:
    before = taken(root)
    if change == "new":
        write(root, {"new.py": "new"})
    elif change == "gone":
        (root / "train.py").unlink()
    elif change == "moved":
        (root / "train.py").rename(root / "trein.py")
    else:
        (root / "train.py").unlink()
        write(root, {"train.py/inside": "x"})
    at = stats(root)

    changes = at.changes_since(before)
    assert changes is not None
    updated = at.updated(before, changes)

    assert updated is not None
    fingerprint, _, changed = updated
    whole = manifest_of(root)
    assert (fingerprint.text, fingerprint.digest) == (whole.text, whole.digest)
    assert fingerprint.files == len(whole.entries)
    assert fingerprint.size_bytes == sum(entry[2] for entry in whole.entries.values())
    assert set(changed) == whole.entries.keys() - before.manifest.entries.keys()
    assert set(changes.removed) == before.manifest.entries.keys() - whole.entries.keys()
    assert at.changes_since(fingerprint) is not None


def test_another_project_with_the_same_files_is_not_taken_for_it(root: Path, tmp_path: Path) -> None:
    before = taken(root)
    root.rename(tmp_path / "moved")

    assert stats(tmp_path / "moved").changes_since(before) is None


def test_a_new_link_counts_as_touched_until_it_is_old(root: Path) -> None:
    (root / "latest").symlink_to("train.py")
    before = taken(root)

    assert stats(root).changes_since(before) == Changes(("latest",))


def test_many_touched_files_are_not_read_one_by_one(root: Path) -> None:
    write(root, {f"many/{n}.py": str(n) for n in range(200)})
    before = taken(root)
    now = time.time()
    for n in range(200):
        os.utime(root / "many" / f"{n}.py", (now, now + n + 1))

    assert stats(root).changes_since(before) is None


def test_it_is_read_back_as_it_was_saved(root: Path, tmp_path: Path) -> None:
    before = taken(root)

    before.save(tmp_path / "cache" / "fingerprint")

    assert Fingerprint.load(tmp_path / "cache" / "fingerprint") == before


def test_a_damaged_one_is_none(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "fingerprint"
    taken(root).save(path)
    whole = path.read_bytes()

    for keep in (0, 10, len(whole) - 1):
        path.write_bytes(whole[:keep])
        assert Fingerprint.load(path) is None
    path.write_bytes(whole[:-1] + b"?")
    assert Fingerprint.load(path) is None
