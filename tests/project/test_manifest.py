"""What exactly a project is at this moment."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import time
from pathlib import Path

import pytest

from runctl.agent.trees.manifest import Manifest, contents
from runctl.core.errors import ProjectError
from runctl.project import manifest as module
from runctl.project.manifest import FileChanged, HashCache, build_manifest, write_pack
from runctl.project.selection import select
from tests.project.files import write


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def build(root: Path, cache: Path | None = None) -> Manifest:
    known = HashCache.load(cache) if cache else None
    manifest = build_manifest(select(root), known)
    if known is not None:
        known.save()
    return manifest


def settle(cache: Path, root: Path) -> None:
    """Build until the files are old enough for their hashes to be remembered."""
    deadline = time.monotonic() + 20
    while len(HashCache.load(cache).known) < len(build(root, cache).entries):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_it_says_path_mode_size_and_hash_and_where_links_point(tmp_path: Path) -> None:
    write(tmp_path, {"src/train.py": "print(1)", "run.sh": "#!/bin/sh"})
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("src")
    (tmp_path / "absolute").symlink_to(tmp_path / "src" / "train.py")

    assert build(tmp_path).entries == {
        "src/train.py": ["f", 0, 8, sha(b"print(1)")],
        "run.sh": ["f", 1, 9, sha(b"#!/bin/sh")],
        "link": ["l", "src"],
        "absolute": ["l", "src/train.py"],
    }


def test_the_digest_depends_on_the_content_and_not_on_order_or_times(tmp_path: Path) -> None:
    write(tmp_path / "a", {"x": "1", "y/z": "2"})
    write(tmp_path / "b", {"y/z": "2"})
    write(tmp_path / "b", {"x": "1"})
    os.utime(tmp_path / "b" / "x", (1, 1))

    assert build(tmp_path / "a").digest == build(tmp_path / "b").digest


@pytest.mark.parametrize("change", ["content", "mode", "name", "kind"])
def test_the_digest_changes_with(tmp_path: Path, change: str) -> None:
    write(tmp_path, {"x": "y", "y": ""})
    before = build(tmp_path).digest
    file = tmp_path / "x"
    if change == "content":
        file.write_text("z")
    elif change == "mode":
        file.chmod(0o755)
    elif change == "name":
        file.rename(tmp_path / "renamed")
    else:
        file.unlink()
        file.symlink_to("y")

    assert build(tmp_path).digest != before


def test_files_that_were_not_touched_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = write(tmp_path / "proj", {"a": "1", "b/c": "2"}), tmp_path / "cache.json"
    settle(cache, root)
    first = build(root, cache)
    read: list[str] = []
    monkeypatch.setattr(module, "_hash", lambda root, path: read.append(path))

    assert build(root, cache).digest == first.digest
    assert read == []


def test_a_file_that_was_just_written_is_not_trusted(tmp_path: Path) -> None:
    root, cache = write(tmp_path / "proj", {"a": "1"}), tmp_path / "cache.json"

    build(root, cache)

    assert HashCache.load(cache).known == {}


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_change_of_the_same_size_is_seen(tmp_path: Path, keep_time: bool) -> None:
    root, cache = write(tmp_path / "proj", {"a": "old"}), tmp_path / "cache.json"
    settle(cache, root)
    times = (root / "a").stat()

    (root / "a").write_text("new")
    if keep_time:
        os.utime(root / "a", ns=(times.st_atime_ns, times.st_mtime_ns))

    assert build(root, cache).entries["a"][3] == sha(b"new")


def test_a_mode_that_changes_is_seen_with_a_warm_cache(tmp_path: Path) -> None:
    root, cache = write(tmp_path / "proj", {"a": "old"}), tmp_path / "cache.json"
    settle(cache, root)

    (root / "a").chmod(0o755)

    assert build(root, cache).entries["a"][1] == 1


def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    root, cache = write(tmp_path / "proj", {"a": "1", "b": "2"}), tmp_path / "cache.json"
    settle(cache, root)

    (root / "b").unlink()
    build(root, cache)

    assert set(HashCache.load(cache).known) == {"a"}


@pytest.mark.parametrize(
    "rubbish", [b"", b"{", b"[]", b'{"version": 0, "files": {}}', b'{"version": 1}', b"\xff"]
)
def test_a_cache_that_cannot_be_read_is_an_empty_one(tmp_path: Path, rubbish: bytes) -> None:
    root, cache = write(tmp_path / "proj", {"a": "1"}), tmp_path / "cache.json"
    cache.write_bytes(rubbish)

    assert build(root, cache).entries["a"][3] == sha(b"1")


def test_a_cache_that_cannot_be_written_is_not_missed(tmp_path: Path) -> None:
    root = write(tmp_path / "proj", {"a": "1"})
    (tmp_path / "file").touch()
    cache = HashCache(tmp_path / "file" / "cache.json", {"gone": [1, 1, 1, 1, "x"]})

    manifest = build_manifest(select(root), cache)
    cache.save()

    assert set(manifest.entries) == {"a"}


def test_a_file_that_vanished_since_the_selection_is_not_in_it(tmp_path: Path) -> None:
    write(tmp_path, {"a": "1", "b": "2"})
    selection = select(tmp_path)
    (tmp_path / "b").unlink()

    assert set(build_manifest(selection).entries) == {"a"}


def test_a_file_that_changed_since_the_selection_is_described_as_it_is_now(tmp_path: Path) -> None:
    write(tmp_path, {"a": "1"})
    selection = select(tmp_path)
    write(tmp_path, {"a": "longer"})

    assert build_manifest(selection).entries["a"] == ["f", 0, 6, sha(b"longer")]


def test_a_file_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path, {"proj/a": "1", "secret": "s"})
    selection = select(tmp_path / "proj")
    (tmp_path / "proj" / "a").unlink()
    (tmp_path / "proj" / "a").symlink_to("../secret")

    with pytest.raises(ProjectError, match="a cannot be read"):
        build_manifest(selection)


def test_a_file_that_is_written_to_all_the_time_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"log.txt": "x" * 1000})
    selection = select(tmp_path)

    class Meanwhile:
        """Whoever computes a hash finds that somebody has written."""

        def update(self, data: bytes) -> None:
            with (tmp_path / "log.txt").open("ab") as log:
                log.write(b"more")

    monkeypatch.setattr(hashlib, "sha256", Meanwhile)
    with pytest.raises(FileChanged, match=r"log\.txt is being written to"):
        build_manifest(selection)


def test_a_pack_has_each_wanted_content_once(tmp_path: Path) -> None:
    write(tmp_path, {"a": "same", "b": "same", "c": "other", "d": "unwanted"})
    sink = io.BytesIO()

    count = write_pack(tmp_path, build(tmp_path).entries, {sha(b"same"), sha(b"other")}, sink)

    header, _, rest = gzip.decompress(sink.getvalue()).partition(b"\n")
    assert count == 2
    assert json.loads(header) == [[sha(b"same"), 4], [sha(b"other"), 5]]
    assert rest == b"sameother"


@pytest.mark.parametrize("change", ["other", "longer than before", "", None])
def test_what_changed_after_it_was_described_does_not_go_into_a_pack(
    tmp_path: Path, change: str | None
) -> None:
    write(tmp_path, {"a": "first"})
    manifest = build(tmp_path)
    if change is None:
        (tmp_path / "a").unlink()
    else:
        write(tmp_path, {"a": change})
    if change == "longer than before":
        change = "first and more"

    with pytest.raises(FileChanged):
        write_pack(tmp_path, manifest.entries, contents(manifest.entries.values()), io.BytesIO())


def test_the_same_contents_make_the_same_pack(tmp_path: Path) -> None:
    write(tmp_path, {"a": "1", "b": "2"})
    manifest = build(tmp_path)
    packs = []
    for _ in range(2):
        sink = io.BytesIO()
        write_pack(tmp_path, manifest.entries, contents(manifest.entries.values()), sink)
        packs.append(sink.getvalue())

    assert packs[0] == packs[1]
