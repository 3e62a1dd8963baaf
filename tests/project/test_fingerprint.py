"""What was touched since the last sync is found, and nothing else is looked into."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.trees.files import canonical
from runctl.agent.trees.files import spliced as spliced_by_the_agent
from runctl.project.manifest import Entry, HashCache, Manifest, build_manifest, spliced
from runctl.project.selection import select
from runctl.project.snapshot import Look, Snapshot, entry_in
from tests.project.files import write

ODD = 'odd"name].py'
SHA = "0123456789abcdef" * 4
entries = st.one_of(
    st.tuples(st.just("l"), st.text(min_size=1)),
    st.tuples(st.just("f"), st.integers(0, 1), st.integers(0, 10**9), st.just(SHA)),
).map(list)


def look(root: Path) -> Look:
    found = Look.at(select(root))
    assert found is not None
    return found


def taken(root: Path, *, age: float = 100) -> Snapshot:
    """A snapshot of files that were written ``age`` seconds ago."""
    at = look(root)
    hashes = HashCache(root.with_suffix(".json"))
    manifest = build_manifest(at.selection, hashes)
    if age > 2:
        # No clock is turned back here: change times cannot be.
        hashes.known = {path: [] for path in manifest.entries}
    snapshot = at.snapshot(manifest, hashes)
    assert snapshot is not None
    return snapshot


def manifest_of(root: Path) -> Manifest:
    return build_manifest(select(root))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "proj", {"train.py": "print(1)", "src/a,b.py": "a", ODD: "odd"})


def test_nothing_is_touched_when_nothing_was(root: Path) -> None:
    assert look(root).touched(taken(root)) == []


def test_a_file_that_was_just_written_counts_as_touched(root: Path) -> None:
    before = taken(root, age=0)

    assert set(look(root).touched(before) or ()) == {"train.py", "src/a,b.py", ODD}


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
    at = look(root)

    touched = at.touched(before)
    renewed = at.renewed(before, touched or ())

    assert touched == [path]
    assert renewed is not None
    snapshot, changed = renewed
    whole = manifest_of(root)
    assert (snapshot.text, snapshot.digest) == (whole.text, whole.digest)
    assert (snapshot.files, snapshot.size_bytes) == (
        len(whole.entries),
        sum(entry[2] for entry in whole.entries.values() if entry[0] == "f"),
    )
    assert changed == {
        path: entry
        for path, entry in whole.entries.items()
        if entry != Manifest.from_text(before.text).entries[path]
    }


@pytest.mark.parametrize("change", ["new", "gone", "moved"])
def test_files_that_come_and_go_make_it_useless(root: Path, change: str) -> None:
    before = taken(root)
    if change == "new":
        write(root, {"new.py": "new"})
    elif change == "gone":
        (root / "train.py").unlink()
    else:
        (root / "train.py").rename(root / "trein.py")

    assert look(root).touched(before) is None


def test_another_project_with_the_same_files_is_not_taken_for_it(root: Path, tmp_path: Path) -> None:
    before = taken(root)
    root.rename(tmp_path / "moved")

    assert look(tmp_path / "moved").touched(before) is None


def test_a_new_link_is_looked_at_again_until_it_is_old(root: Path) -> None:
    (root / "latest").symlink_to("train.py")
    before = taken(root)

    assert look(root).touched(before) == ["latest"]


def test_many_touched_files_are_not_looked_into_one_by_one(root: Path) -> None:
    write(root, {f"many/{n}.py": str(n) for n in range(200)})
    before = taken(root)
    now = time.time()
    for n in range(200):
        os.utime(root / "many" / f"{n}.py", (now, now + n + 1))

    assert look(root).touched(before) is None


def test_it_is_read_back_as_it_was_saved(root: Path, tmp_path: Path) -> None:
    before = taken(root)

    before.save(tmp_path / "cache" / "snapshot")

    assert Snapshot.load(tmp_path / "cache" / "snapshot") == before


def test_a_damaged_one_is_none(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "snapshot"
    taken(root).save(place)
    whole = place.read_bytes()

    for keep in (0, 10, len(whole) - 1):
        place.write_bytes(whole[:keep])
        assert Snapshot.load(place) is None
    place.write_bytes(whole[:-1] + b"?")
    assert Snapshot.load(place) is None


@given(st.dictionaries(st.text(min_size=1), entries, min_size=1), entries, st.data())
def test_a_spliced_text_is_the_text_of_the_whole(
    before: dict[str, Entry], new: Entry, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(sorted(before)))
    text = Manifest(before).text

    assert entry_in(text, path) == before[path]
    after = {**before, path: new}
    assert spliced(text, path, before[path], new) == Manifest(after).text
    assert spliced_by_the_agent(text, before, {path: new}) == canonical(after)
    assert json.loads(text) == before
