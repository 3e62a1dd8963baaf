from __future__ import annotations

import gzip
import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from runctl.agent.trees.manifest import Manifest
from runctl.core.errors import NotFound
from runctl.project import kept
from runctl.project.caches import write_atomically
from runctl.project.kept import KeptProjects, NotKept
from runctl.project.manifest import build_manifest
from runctl.project.selection import select
from tests.project.machine import Machine


def a_project(root: Path, **files: str) -> Manifest:
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / f"{name}.py").write_text(text)
    return build_manifest(select(root))


def test_a_project_is_sent_as_it_was_kept_though_the_folder_has_changed(tmp_path: Path) -> None:
    root, projects = tmp_path / "p", KeptProjects(tmp_path / "kept")
    manifest = a_project(root, train="one", model="two")
    projects.keep(root, manifest)
    (root / "train.py").write_text("changed")
    (root / "model.py").unlink()

    machine = Machine(tmp_path / "machine")
    projects.send(manifest.digest, "p-1", machine, "i-1")

    assert machine.files("p-1") == {"train.py": b"one", "model.py": b"two"}


def test_what_no_run_needs_any_more_goes_and_what_another_tree_has_stays(tmp_path: Path) -> None:
    root, projects = tmp_path / "p", KeptProjects(tmp_path / "kept")
    first = a_project(root, train="one", model="same")
    projects.keep(root, first)
    second = a_project(root, train="two")
    projects.keep(root, second)

    projects.prune(lambda: {second.digest})

    assert (projects.has(first.digest), projects.has(second.digest)) == (False, True)
    contents = {path.read_text() for path in (tmp_path / "kept" / "contents").glob("*/*")}
    assert contents == {"two", "same"}


def test_a_file_that_is_written_meanwhile_is_kept_as_it_is_then(tmp_path: Path) -> None:
    root, projects = tmp_path / "p", KeptProjects(tmp_path / "kept")
    manifest = a_project(root, train="one", log="first")
    (root / "log.py").write_text("first, second")

    tree = projects.keep(root, manifest)

    assert tree.changed == ("log.py",)
    machine = Machine(tmp_path / "machine")
    projects.send(tree.digest, "p-1", machine, "i-1")
    assert machine.files("p-1") == {"train.py": b"one", "log.py": b"first, second"}
    with pytest.raises(NotFound, match="not kept"):
        projects.check(manifest.digest)


def test_a_file_that_is_gone_meanwhile_is_left_out(tmp_path: Path) -> None:
    root, projects = tmp_path / "p", KeptProjects(tmp_path / "kept")
    manifest = a_project(root, train="one", lock="held", log="first")
    (root / "lock.py").unlink()
    (root / "log.py").write_text("second")

    tree = projects.keep(root, manifest)

    assert (tree.changed, tree.gone) == (("log.py",), ("lock.py",))
    machine = Machine(tmp_path / "machine")
    projects.send(tree.digest, "p-1", machine, "i-1")
    assert machine.files("p-1") == {"train.py": b"one", "log.py": b"second"}


def test_a_project_whose_folder_is_gone_is_not_kept(tmp_path: Path) -> None:
    root = tmp_path / "p"
    manifest = a_project(root, train="one")
    root.rename(tmp_path / "elsewhere")

    with pytest.raises(NotKept, match="No such file"):
        KeptProjects(tmp_path / "kept").keep(root, manifest)


def test_a_project_that_is_too_large_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LARGEST_TREE", 5)
    manifest = a_project(tmp_path / "p", train="123456")

    with pytest.raises(NotKept, match="up to 5 B"):
        KeptProjects(tmp_path / "kept").keep(tmp_path / "p", manifest)


def packing(*contents: bytes) -> bytes:
    header = [[hashlib.sha256(content).hexdigest(), len(content)] for content in contents]
    return gzip.compress(json.dumps(header).encode() + b"\n" + b"".join(contents))


def receive(projects: KeptProjects, text: str, pack: bytes) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    with projects.receiving(text, digest) as file:
        file.write(pack)
    return digest


def below(folder: Path) -> set[str]:
    """Every file and link, from the folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


SHA = hashlib.sha256(b"evil").hexdigest()


@pytest.mark.parametrize(
    "entries",
    [
        {"../../../escaped": ["f", 0, 4, SHA]},
        {"/tmp/escaped": ["f", 0, 4, SHA]},
        {"a/../../../../escaped": ["f", 0, 4, SHA]},
        {"a": ["l", "../.."], "b": ["f", 0, 4, SHA]},
        {"a": ["l", "b"], "a/escaped": ["f", 0, 4, SHA]},
        {"a": ["f", 0, 4, "/etc/passwd"]},
        {"a": ["f", 0, 4, int("1" * 64)]},
        {"a": ["f", 0, "4", SHA]},
        {"a": ["f"]},
        {"a": SHA},
        {"\ud800": ["f", 0, 4, SHA]},
        [["a", "f", 0, 4, SHA]],
    ],
)
def test_a_description_from_a_store_that_leads_out_of_the_project_is_refused(
    tmp_path: Path, entries: object
) -> None:
    text = json.dumps(entries, separators=(",", ":"))
    projects = KeptProjects(tmp_path / "deep" / "kept")

    with pytest.raises(NotKept, match="cannot be used"):
        receive(projects, text, packing(b"evil"))

    assert below(tmp_path) == set()


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "3"], ids=["too deep", "cut short", "a number"])
def test_a_text_that_is_not_a_description_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(NotKept, match="cannot be used"):
        receive(KeptProjects(tmp_path), text, b"")


def test_what_an_earlier_version_took_unchecked_is_not_laid_out(tmp_path: Path) -> None:
    projects = KeptProjects(tmp_path / "deep" / "kept")
    text = json.dumps({"../../../escaped": ["f", 0, 4, SHA]}, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    for path, data in ((f"trees/{digest}.json", text), (f"contents/{SHA[:2]}/{SHA}", "evil")):
        place = tmp_path / "deep" / "kept" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(data)
    there = below(tmp_path)

    with pytest.raises(NotFound, match="not kept"), projects.packed(digest):
        pass

    assert below(tmp_path) == there


def test_no_more_is_unpacked_than_the_description_says(tmp_path: Path) -> None:
    text = json.dumps({"a": ["f", 0, 4, SHA]}, separators=(",", ":"))
    bomb = gzip.compress(json.dumps([[SHA, 1 << 50]]).encode() + b"\n" + b"\0" * (1 << 20))
    endless = gzip.compress(b"[" + b" " * (64 << 20))
    broken = bytearray(packing(b"evil"))
    broken[12] ^= 0xFF
    twice = packing(b"evil", b"evil")

    for pack in (bomb, endless, bytes(broken), twice):
        with pytest.raises(NotKept, match="cannot be unpacked"):
            receive(KeptProjects(tmp_path), text, pack)

    digest = receive(KeptProjects(tmp_path), text, packing(b"evil"))
    assert below(tmp_path) == {"lock", f"trees/{digest}.json", f"contents/{SHA[:2]}/{SHA}"}


def test_a_project_from_a_store_that_is_too_large_is_not_kept(tmp_path: Path) -> None:
    text = json.dumps({"a": ["f", 0, 1 << 40, SHA]}, separators=(",", ":"))
    with pytest.raises(NotKept, match=r"the project has 1\.0 TiB"):
        receive(KeptProjects(tmp_path), text, b"")


@pytest.mark.parametrize("by", ["keeping", "receiving"])
def test_what_another_command_keeps_at_that_moment_is_not_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    root, projects, machine = tmp_path / "p", KeptProjects(tmp_path / "kept"), Machine(tmp_path / "machine")
    unneeded = a_project(tmp_path / "other", train="other")
    projects.keep(tmp_path / "other", unneeded)
    manifest = a_project(root, train="one")

    def after_another_command_has_pruned(path: Path, data: bytes) -> None:
        if path.suffix == ".json":
            KeptProjects(tmp_path / "kept").prune(set)
        write_atomically(path, data)

    monkeypatch.setattr("runctl.project.kept.write_atomically", after_another_command_has_pruned)
    if by == "keeping":
        projects.keep(root, manifest)
    else:
        elsewhere = KeptProjects(tmp_path / "elsewhere")
        elsewhere.keep(root, manifest)
        with (
            elsewhere.packed(manifest.digest) as (text, packed),
            projects.receiving(text, manifest.digest) as pack,
        ):
            pack.write(packed.read_bytes())
    monkeypatch.undo()

    projects.send(manifest.digest, "p-1", machine, "i-1")
    assert machine.files("p-1") == {"train.py": b"one"}
    projects.prune(lambda: {manifest.digest})
    assert (projects.has(unneeded.digest), projects.has(manifest.digest)) == (False, True)


def test_a_tree_that_no_recipe_names_yet_stays_as_long_as_it_is_held(tmp_path: Path) -> None:
    root, projects = tmp_path / "p", KeptProjects(tmp_path / "kept")
    manifest = a_project(root, train="one")
    asked: list[str] = []

    def needed() -> set[str]:
        asked.append("who needs what")
        return set()

    with projects.holding(), projects.holding():
        projects.keep(root, manifest)
        KeptProjects(tmp_path / "kept").prune(needed)
        assert projects.has(manifest.digest)
    # What is needed is asked by whoever may prune: before, it may become more.
    assert asked == []
    projects.prune(needed)
    assert not projects.has(manifest.digest)


@pytest.mark.parametrize("left", [None, b"", b"on"])
def test_a_tree_that_has_lost_a_file_is_not_kept_until_it_is_kept_again(
    tmp_path: Path, left: bytes | None
) -> None:
    root, projects = tmp_path / "p", KeptProjects(tmp_path / "kept")
    manifest = a_project(root, train="one", model="two")
    projects.keep(root, manifest)
    (damaged,) = [
        path for path in (tmp_path / "kept" / "contents").glob("*/*") if path.read_bytes() == b"one"
    ]
    damaged.unlink()
    if left is not None:
        damaged.write_bytes(left)

    assert not projects.has(manifest.digest)
    assert projects.keep(root, manifest).changed == ()

    assert projects.has(manifest.digest)
    machine = Machine(tmp_path / "machine")
    projects.send(manifest.digest, "p-1", machine, "i-1")
    assert machine.files("p-1") == {"train.py": b"one", "model.py": b"two"}


@pytest.mark.parametrize(("hours", "stays"), [(25, False), (23, True)])
def test_what_a_killed_command_has_left_goes_after_a_day(tmp_path: Path, hours: int, stays: bool) -> None:
    root, projects, folder = tmp_path / "p", KeptProjects(tmp_path / "kept"), tmp_path / "kept"
    manifest = a_project(root, train="one")
    projects.keep(root, manifest)
    left = [folder / "trees" / ".send-x", folder / "trees" / ".pack-x", folder / "contents" / "tmpx"]
    (left[0] / "deep").mkdir(parents=True)
    (left[0] / "deep" / "file").write_text("large")
    for path in left[1:]:
        path.write_text("large")
    for path in (*left, *(folder / "contents").iterdir()):
        os.utime(path, (time.time() - hours * 3600,) * 2)

    projects.prune(lambda: {manifest.digest})

    assert [path.exists() for path in left] == [stays] * 3
    assert projects.has(manifest.digest)
