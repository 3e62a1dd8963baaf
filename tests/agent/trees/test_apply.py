"""Project trees on the machine: complete, switched at once, and never half of one."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runctl.agent.trees import verbs as trees
from runctl.agent.trees.manifest import Manifest
from runctl.agent.trees.names import TreeError
from runctl.agent.trees.store import KEEP

NAME = "train-0123abcd"
Tree = Mapping[str, Any]
"""Path to content: bytes, bytes in a tuple for an executable, or a symlink's target as text."""


def describe(tree: Tree) -> dict[str, Sequence[Any]]:
    entries: dict[str, Sequence[Any]] = {}
    for path, what in tree.items():
        if isinstance(what, str):
            entries[path] = ["l", what]
        else:
            data = what[0] if isinstance(what, tuple) else what
            entries[path] = ["f", int(isinstance(what, tuple)), len(data), hashlib.sha256(data).hexdigest()]
    return entries


def digest_of(tree: Tree) -> str:
    return Manifest(describe(tree)).digest


def packed(value: Any) -> str:
    return base64.b64encode(gzip.compress(json.dumps(value).encode())).decode()


def request_for(tree: Tree, **more: Any) -> dict[str, Any]:
    return {"project": NAME, "digest": digest_of(tree), "manifest": packed(describe(tree)), **more}


def pack_of(tree: Tree, wanted: Any = "all") -> bytes:
    blobs = {}
    for what in tree.values():
        if not isinstance(what, str):
            data = what[0] if isinstance(what, tuple) else what
            sha = hashlib.sha256(data).hexdigest()
            if wanted == "all" or sha in wanted:
                blobs[sha] = data
    header = json.dumps([[sha, len(data)] for sha, data in blobs.items()]).encode() + b"\n"
    return gzip.compress(header + b"".join(blobs.values()))


def bring(state: Path, tree: Tree) -> dict[str, Any]:
    """Sync it as the command line does: ask what is missing, send that."""
    answer = trees.manifest(request_for(tree), str(state))
    if answer["have"]:
        return {"applied": True}
    pack = io.BytesIO(pack_of(tree, answer["missing"]))
    request = {"project": NAME, "digest": digest_of(tree), "pack_follows": True}
    return trees.apply(request, pack, str(state))


def on_disk(folder: Path) -> dict[str, Any]:
    """What is there, in the form of `Tree`; a folder without files is an error."""
    found: dict[str, Any] = {}
    for place, folders, files in os.walk(folder):
        assert files or folders or Path(place) == folder, f"{place} is empty"
        for name in [*files, *(each for each in folders if (Path(place) / each).is_symlink())]:
            path = Path(place) / name
            key = path.relative_to(folder).as_posix()
            if path.is_symlink():
                found[key] = os.fspath(path.readlink())
            else:
                data = path.read_bytes()
                found[key] = (data,) if path.stat().st_mode & 0o100 else data
    return found


def current(state: Path) -> dict[str, Any]:
    """The current tree, through the link."""
    return on_disk((state / "projects" / NAME / "current").resolve(strict=True))


def copied(state: Path, digest: str | None = None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        trees.copy_tree(str(state), NAME, digest, folder + "/work")
        return on_disk(Path(folder) / "work")


def tree_names(state: Path) -> set[str]:
    return {path.name for path in (state / "projects" / NAME / "trees").iterdir()}


FIRST: Tree = {
    "train.py": b"print(1)\n",
    "run.sh": (b"#!/bin/sh\n",),
    "src/model/net.py": b"net",
    "src/model/copy.py": b"net",
    "latest": "src/model",
    "empty": b"",
}


def test_a_first_apply_makes_the_tree_and_makes_it_current(tmp_path: Path) -> None:
    answer = bring(tmp_path, FIRST)

    assert answer["applied"]
    assert current(tmp_path) == FIRST
    assert (tmp_path / "projects" / NAME / "current").readlink() == Path("trees", digest_of(FIRST))


def test_a_tree_that_is_here_needs_only_its_digest(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)

    answer = trees.manifest({"project": NAME, "digest": digest_of(FIRST)}, str(tmp_path))

    assert answer == {"have": True, "known": True, "missing": []}


def test_an_unknown_digest_is_said_to_be_unknown(tmp_path: Path) -> None:
    answer = trees.manifest({"project": NAME, "digest": digest_of(FIRST)}, str(tmp_path))

    assert answer == {"have": False, "known": False, "missing": "all"}


def test_only_contents_that_are_nowhere_here_are_asked_for(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    second = {**FIRST, "moved.py": b"net", "new.py": b"new"}

    answer = trees.manifest(request_for(second), str(tmp_path))

    assert answer["missing"] == [hashlib.sha256(b"new").hexdigest()]


def test_asking_for_a_tree_that_was_current_before_makes_it_current_again(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    bring(tmp_path, {"train.py": b"2"})

    trees.manifest({"project": NAME, "digest": digest_of(FIRST)}, str(tmp_path))

    assert current(tmp_path) == FIRST


def test_asking_for_the_status_changes_nothing(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    bring(tmp_path, {"train.py": b"2"})
    statuses = [
        trees.manifest({"project": NAME, "digest": digest, "status_only": True}, str(tmp_path))
        for digest in (digest_of(FIRST), digest_of({"train.py": b"2"}), "0" * 64)
    ]

    assert statuses == [
        {"have": True, "current": False},
        {"have": True, "current": True},
        {"have": False, "current": False},
    ]
    assert current(tmp_path) == {"train.py": b"2"}


def test_changes_to_a_known_tree_are_enough(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    second = {key: value for key, value in FIRST.items() if key != "empty"} | {"train.py": b"print(2)\n"}
    changes = {"set": describe({"train.py": b"print(2)\n"}), "remove": ["empty"]}
    request = {
        "project": NAME,
        "digest": digest_of(second),
        "base": digest_of(FIRST),
        "changes": packed(changes),
        "pack_follows": True,
    }

    answer = trees.apply(request, io.BytesIO(pack_of({"train.py": b"print(2)\n"})), str(tmp_path))

    assert answer == {"applied": True, "written": 1, "removed": 1}
    assert current(tmp_path) == second


def test_changes_to_an_unknown_tree_are_answered_with_a_question(tmp_path: Path) -> None:
    request = {
        "project": NAME,
        "digest": digest_of(FIRST),
        "base": "0" * 64,
        "changes": packed({"set": {}, "remove": []}),
    }

    assert trees.apply(request, None, str(tmp_path)) == {"applied": False, "known": False, "missing": "all"}


def test_an_apply_that_brings_too_little_is_told_what_is_missing_and_changes_nothing(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    second = {"train.py": b"one", "other.py": b"two"}

    answer = trees.apply(
        request_for(second, pack_follows=True), io.BytesIO(pack_of({"train.py": b"one"})), str(tmp_path)
    )

    assert answer == {"applied": False, "known": True, "missing": [hashlib.sha256(b"two").hexdigest()]}
    assert current(tmp_path) == FIRST


def test_a_mode_that_changes_in_one_tree_stays_in_the_other(tmp_path: Path) -> None:
    bring(tmp_path, {"run.sh": b"#!/bin/sh\n", "x": b"x"})
    bring(tmp_path, {"run.sh": (b"#!/bin/sh\n",), "x": b"x"})

    assert copied(tmp_path) == {"run.sh": (b"#!/bin/sh\n",), "x": b"x"}
    assert copied(tmp_path, digest_of({"run.sh": b"#!/bin/sh\n", "x": b"x"}))["run.sh"] == b"#!/bin/sh\n"


def test_unchanged_files_share_their_blocks_with_the_tree_before(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    before = (tmp_path / "projects" / NAME / "current" / "train.py").stat().st_ino

    bring(tmp_path, {**FIRST, "new.py": b"new"})

    assert (tmp_path / "projects" / NAME / "current" / "train.py").stat().st_ino == before


@pytest.mark.parametrize(
    "path", ["../evil", "/evil", "a/../../evil", "a//b", "a/./b", "", "a/", "nul\0byte", "a/.."]
)
def test_a_path_that_leaves_the_tree_is_refused(tmp_path: Path, path: str) -> None:
    tree = {"train.py": b"x", path: b"evil"}

    with pytest.raises(TreeError) as caught:
        trees.apply(request_for(tree, pack_follows=True), io.BytesIO(pack_of(tree)), str(tmp_path / "state"))

    assert caught.value.code == "bad-manifest"
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("target", ["/etc", "..", "../x", "a/../../x", "./../x"])
def test_a_symlink_that_leads_out_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(TreeError, match="leads out of the tree"):
        trees.manifest(request_for({"link": target}), str(tmp_path))


def test_nothing_can_be_written_through_a_symlink(tmp_path: Path) -> None:
    tree = {"folder": "elsewhere", "folder/file": b"x"}

    with pytest.raises(TreeError, match="both a file and a folder"):
        trees.manifest(request_for(tree), str(tmp_path))


@pytest.mark.parametrize(
    "entry",
    [
        ["f", 0, -1, "0" * 64],
        ["f", 0, 1, "../../evil"],
        ["f", 7, 1, "0" * 64],
        ["d"],
        [],
        "file",
        ["l", ""],
        ["l", 3],
    ],
)
def test_an_entry_that_says_nothing_known_is_refused(tmp_path: Path, entry: Any) -> None:
    entries = {"a": entry}
    digest = Manifest(entries).digest

    with pytest.raises(TreeError) as caught:
        trees.manifest({"project": NAME, "digest": digest, "manifest": packed(entries)}, str(tmp_path))

    assert caught.value.code == "bad-manifest"


def test_a_manifest_with_another_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="digest"):
        trees.manifest({**request_for(FIRST), "digest": "0" * 64}, str(tmp_path))


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 200, None])
def test_a_project_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: Any) -> None:
    with pytest.raises(TreeError, match="is not a project name"):
        trees.manifest({"project": name, "digest": "0" * 64}, str(tmp_path))


def test_content_that_is_not_what_its_hash_says_leaves_the_old_tree(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    second = {"train.py": b"good"}
    pack = gzip.compress(json.dumps([[hashlib.sha256(b"good").hexdigest(), 4]]).encode() + b"\nevil")

    with pytest.raises(TreeError) as caught:
        trees.apply(request_for(second, pack_follows=True), io.BytesIO(pack), str(tmp_path))

    assert caught.value.code == "bad-pack"
    assert current(tmp_path) == FIRST
    assert tree_names(tmp_path) == {digest_of(FIRST)}


@pytest.mark.parametrize("keep", [0, 5, 40, -200])
def test_a_pack_that_is_cut_short_leaves_the_old_tree(tmp_path: Path, keep: int) -> None:
    bring(tmp_path, FIRST)
    second = {f"{n}.py": os.urandom(200) for n in range(5)}
    pack = pack_of(second)[:keep]

    with pytest.raises(TreeError) as caught:
        trees.apply(request_for(second, pack_follows=True), io.BytesIO(pack), str(tmp_path))

    assert caught.value.code == "bad-pack"
    assert current(tmp_path) == FIRST
    assert tree_names(tmp_path) == {digest_of(FIRST)}


def test_the_newest_trees_stay_and_the_others_go(tmp_path: Path) -> None:
    versions: list[Tree] = [{"train.py": b"%d" % n, "same.py": b"same"} for n in range(6)]
    for tree in versions:
        bring(tmp_path, tree)

    assert tree_names(tmp_path) == {digest_of(tree) for tree in versions[-KEEP:]}
    manifests = {path.name for path in (tmp_path / "projects" / NAME / "manifests").iterdir()}
    assert manifests == {f"{digest_of(tree)}.json" for tree in versions[-KEEP:]}


def test_a_tree_that_somebody_put_files_into_is_not_built_upon(tmp_path: Path) -> None:
    versions: list[Tree] = [{"train.py": b"%d" % n, "pkg/a.py": b"same"} for n in range(KEEP)]
    for tree in versions:
        bring(tmp_path, tree)
    oldest = tmp_path / "projects" / NAME / "trees" / digest_of(versions[0])
    (oldest / "pkg" / "extra.pyc").write_bytes(b"x")
    (oldest / "new.py").write_bytes(b"not ours")
    last: Tree = {"train.py": b"last", "new.py": b"ours"}

    bring(tmp_path, last)

    assert current(tmp_path) == last


def test_what_an_interrupted_apply_left_is_gone_after_the_next(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    left = tmp_path / "projects" / NAME / "trees" / ("f" * 64 + ".partial")
    (left / "sub").mkdir(parents=True)
    (left / "sub" / "file").write_text("half")

    bring(tmp_path, {"train.py": b"2"})

    assert tree_names(tmp_path) == {digest_of(FIRST), digest_of({"train.py": b"2"})}


APPLY = """
import io, sys
from runctl.agent.trees import verbs as trees
import json
request = json.loads(sys.argv[2])
pack = bytes.fromhex(sys.argv[3])
kill_at = int(sys.argv[4])
seen = 0
def hook(event, args):
    global seen
    if event.split(".")[0] in ("os", "open", "shutil", "fcntl") or event == "open":
        seen += 1
        if seen == kill_at:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
import ctypes, gzip, hashlib, shutil, tempfile
sys.addaudithook(hook)
print(trees.apply(request, io.BytesIO(pack), sys.argv[1]))
"""
"""Applies, and kills itself in the middle of the N-th thing that it does to the file system."""


def run_apply(state: Path, tree: Tree, kill_at: int) -> int:
    request = json.dumps(request_for(tree, pack_follows=True))
    done = subprocess.run(
        [sys.executable, "-c", APPLY, str(state), request, pack_of(tree).hex(), str(kill_at)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr.decode()
    return done.returncode


@pytest.mark.parametrize("trees_before", [1, KEEP], ids=["new tree", "tree made from the oldest"])
def test_an_apply_killed_anywhere_leaves_one_whole_tree_current(tmp_path: Path, trees_before: int) -> None:
    for n in range(trees_before - 1):
        bring(tmp_path / "prepared", {"old.py": b"%d" % n, "pkg/mod.py": b"mod"})
    before: Tree = {"train.py": b"before", "pkg/mod.py": b"mod", "link": "pkg"}
    after: Tree = {
        "train.py": b"after",
        "pkg/mod.py": (b"mod",),
        "pkg/sub/new.py": b"new",
        "more.py": b"after",
    }
    prepared = tmp_path / "prepared"
    bring(prepared, before)
    outcomes = set()
    for kill_at in range(1, 400):
        state = tmp_path / str(kill_at)
        subprocess.run(["cp", "-a", prepared, state], check=True)
        code = run_apply(state, after, kill_at)

        served = copied(state)
        assert served in (before, after), f"killed at {kill_at}"
        bring(state, after)
        assert copied(state) == after, f"killed at {kill_at}"
        assert all(len(name) == 64 for name in tree_names(state)), f"killed at {kill_at}"
        if code == 0:
            break
        outcomes.add("before" if served == before else "after")
        shutil.rmtree(state)
    assert outcomes == {"before", "after"}


def test_applies_at_the_same_time_both_succeed(tmp_path: Path) -> None:
    versions: list[Tree] = [{f"{n}-{k}.py": b"%d" % (n * 100 + k) for k in range(50)} for n in range(4)]
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                APPLY,
                str(tmp_path),
                json.dumps(request_for(tree, pack_follows=True)),
                pack_of(tree).hex(),
                "0",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for tree in versions
    ]
    for process in running:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()

    assert current(tmp_path) in versions
    assert len(tree_names(tmp_path)) == KEEP


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "small", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.root
@pytest.mark.linux
def test_a_full_disk_leaves_the_old_tree_and_no_rubbish(small_disk: Path) -> None:
    bring(small_disk, FIRST)

    with pytest.raises(TreeError) as caught:
        bring(small_disk, {**FIRST, "big.bin": b"\0" * 2_000_000})

    assert caught.value.code == "disk-full"
    assert current(small_disk) == FIRST
    assert tree_names(small_disk) == {digest_of(FIRST)}
    bring(small_disk, {"train.py": b"small"})
    assert current(small_disk) == {"train.py": b"small"}


def test_a_copy_can_be_written_to_and_the_tree_stays(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    work = tmp_path / "work"

    digest, files = trees.copy_tree(str(tmp_path), NAME, None, str(work))
    (work / "train.py").write_text("changed")
    (work / "src" / "model" / "new.py").write_text("new")

    assert (digest, files) == (digest_of(FIRST), len(FIRST))
    assert current(tmp_path) == FIRST


def test_a_copy_of_a_project_that_was_never_synced_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TreeError) as caught:
        trees.copy_tree(str(tmp_path), NAME, None, str(tmp_path / "work"))

    assert caught.value.code == "no-tree"
    assert not (tmp_path / "work").exists()


def test_a_copy_into_a_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine").touch()

    with pytest.raises(TreeError) as caught:
        trees.copy_tree(str(tmp_path), NAME, None, str(tmp_path / "work"))

    assert caught.value.code == "not-empty"
    assert (tmp_path / "work" / "mine").exists()


@pytest.mark.parametrize("damage", ["same size", "gone"])
def test_a_tree_that_was_written_to_is_not_run_and_the_next_sync_repairs_it(
    tmp_path: Path, damage: str
) -> None:
    bring(tmp_path, FIRST)
    victim = tmp_path / "projects" / NAME / "current" / "train.py"
    if damage == "gone":
        victim.unlink()
    else:
        victim.chmod(0o644)
        victim.write_bytes(b"print(2)\n")

    with pytest.raises(TreeError) as caught:
        trees.copy_tree(str(tmp_path), NAME, None, str(tmp_path / "work"))

    assert caught.value.code == "tree-damaged"
    assert not (tmp_path / "work").exists()
    bring(tmp_path, FIRST)
    assert copied(tmp_path) == FIRST


def test_a_tree_whose_manifest_was_damaged_is_not_run_and_the_next_sync_repairs_it(tmp_path: Path) -> None:
    bring(tmp_path, FIRST)
    (tmp_path / "projects" / NAME / "manifests" / f"{digest_of(FIRST)}.json").write_bytes(b"\0" * 100)

    with pytest.raises(TreeError) as caught:
        copied(tmp_path)

    assert caught.value.code == "tree-damaged"
    bring(tmp_path, FIRST)
    assert copied(tmp_path) == FIRST


def test_an_error_of_the_file_system_has_our_words(tmp_path: Path) -> None:
    (tmp_path / "projects").write_text("a file where the folder should be")

    with pytest.raises(TreeError) as caught:
        trees.manifest({"project": NAME, "digest": "0" * 64}, str(tmp_path))

    assert caught.value.code == "tree-failed"
    assert caught.value.hint


names = st.sampled_from(["a", "b", "c", "ü", "with space", "line\nbreak", "\udcff"])
contents = st.one_of(
    st.sampled_from([b"", b"one", b"two"]),
    st.sampled_from([(b"one",), (b"run",)]),
    st.sampled_from(["a", "b/c", "gone"]),
)


@st.composite
def project_trees(draw: st.DrawFn) -> dict[str, Any]:
    """Trees over few names, so that files become folders and the other way round."""
    tree: dict[str, Any] = {}
    for parts in draw(st.lists(st.lists(names, min_size=1, max_size=3), min_size=1, max_size=6)):
        path = "/".join(parts)
        is_taken = any(other == path or other.startswith(path + "/") for other in tree)
        is_below = any("/".join(parts[:n]) in tree for n in range(1, len(parts)))
        if not is_taken and not is_below:
            tree[path] = draw(contents)
    return tree


@settings(max_examples=60, deadline=None)
@given(st.lists(project_trees(), min_size=1, max_size=7))
def test_whatever_was_there_before_the_tree_is_what_was_sent(versions: list[Tree]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        for tree in versions:
            bring(state, tree)

            assert current(state) == tree
            assert copied(state) == tree
        assert len(tree_names(state)) <= KEEP
