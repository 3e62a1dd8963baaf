"""A small change to the current tree: made without a manifest, and only where nothing stands in the way."""

from __future__ import annotations

import fcntl
import os
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runctl.agent.trees.changes import decode_changes, encode_changes, read_changes
from runctl.agent.trees.names import KEEP, TreeError
from runctl.agent.trees.small_change import change
from tests.agent.trees.project import (
    NAME,
    Tree,
    bring,
    copied,
    current,
    describe,
    digest_of,
    make,
    small_change,
    tree_names,
)
from tests.agent.trees.test_apply import project_trees

BEFORE: list[Tree] = [
    {"train.py": b"%d" % n, "pkg/mod.py": b"mod", "pkg/old/x.py": b"x", "link": "pkg"} for n in range(KEEP)
]
AFTER: Tree = {"train.py": b"after", "pkg/mod.py": (b"mod",), "new/deep/y.py": b"y", "link": "new"}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for tree in BEFORE:
        bring(tmp_path, tree)
    return tmp_path


def manifests(state: Path, kind: str) -> int:
    return len(list((state / "projects" / NAME / "manifests").glob(f"*{kind}")))


def test_a_change_is_made_of_the_oldest_tree_and_writes_no_manifest(state: Path) -> None:
    assert make(state, BEFORE[-1], AFTER) == {"written": 3, "removed": 1}

    assert current(state) == copied(state) == AFTER
    assert tree_names(state) == {digest_of(tree) for tree in (*BEFORE[1:], AFTER)}
    assert not (state / "projects" / NAME / "manifests" / f"{digest_of(AFTER)}.json").exists()


def test_a_file_that_changed_in_between_comes_from_the_current_tree(state: Path) -> None:
    first: Tree = {**BEFORE[-1], "other.py": b"other"}
    assert make(state, BEFORE[-1], first)
    second: Tree = {**first, "more.py": b"more"}
    assert make(state, first, second) == {"written": 1, "removed": 0}

    trees = state / "projects" / NAME / "trees"
    assert current(state) == second
    assert (trees / digest_of(second) / "other.py").samefile(trees / digest_of(first) / "other.py")


def test_many_changes_leave_as_few_records_as_one(state: Path) -> None:
    small = 0
    tree = BEFORE[-1]
    for n in range(150):
        now = {**tree, f"{n % 7}.py": b"now %d" % n}
        if make(state, tree, now):
            small += 1
        else:
            bring(state, now)
        tree = now

    assert current(state) == copied(state) == tree
    assert small > 140
    assert manifests(state, ".changes") <= 70
    assert manifests(state, ".json") <= KEEP + 1


@settings(max_examples=80, deadline=None)
@given(st.lists(project_trees(), min_size=KEEP + 1, max_size=8))
def test_whatever_the_changes_were_the_tree_is_what_was_sent(versions: list[Tree]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        before: Tree = {}
        for tree in versions:
            if make(state, before, tree) is None:
                bring(state, tree)

            assert current(state) == copied(state) == tree
            before = tree
        assert len(tree_names(state)) <= KEEP


@given(project_trees(), project_trees())
def test_a_record_says_what_it_was_made_of(before: Tree, after: Tree) -> None:
    old, new = describe(before), describe(after)
    differences = {path: (old.get(path), new.get(path)) for path in {**old, **new}}

    assert decode_changes(encode_changes("0" * 64, differences)) == ("0" * 64, differences)


@pytest.mark.parametrize("record", [b"", b"x", b"0" * 64 + b"\0a\0", b"0" * 64 + b"\0a\0\0f x y z"])
def test_what_is_no_record_is_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_changes(record)


@pytest.mark.parametrize("number", [0, 5, 65, 100, -1])
def test_a_damaged_record_counts_as_none(state: Path, number: int) -> None:
    path = state / "projects" / NAME / "manifests" / f"{digest_of(BEFORE[-1])}.changes"
    data = bytearray(path.read_bytes())
    data[number] ^= 1
    path.write_bytes(data)

    assert read_changes(str(path)) is None
    assert make(state, BEFORE[-1], AFTER) is None
    bring(state, AFTER)
    assert current(state) == AFTER


def nothing_has_changed(state: Path) -> bool:
    return tree_names(state) == {digest_of(tree) for tree in BEFORE} and current(state) == BEFORE[-1]


@pytest.mark.parametrize("path", ["../out", "/out", "a//b", "a/./b", "", "a/.."])
def test_a_path_that_leaves_the_tree_changes_nothing(state: Path, path: str) -> None:
    record = encode_changes(digest_of(BEFORE[-1]), {path: (None, describe({"x": b"x"})["x"])})

    assert change(NAME, "1" * 64, record, zlib.compress(b"x"), str(state)) is None
    assert nothing_has_changed(state)


def test_nothing_is_written_through_a_symlink(state: Path) -> None:
    assert make(state, BEFORE[-1], {**BEFORE[-1], "link/out.py": b"x"}) is None

    assert current(state) == BEFORE[-1]


def test_a_symlink_that_leads_out_changes_nothing(state: Path) -> None:
    assert make(state, BEFORE[-1], {**BEFORE[-1], "bad": "../../etc"}) is None
    assert nothing_has_changed(state)


def test_a_content_that_is_not_what_its_hash_says_is_not_taken(state: Path) -> None:
    digest, record, pack = small_change(BEFORE[-1], AFTER)
    other = zlib.compress(zlib.decompress(pack)[::-1])

    assert change(NAME, digest, record, other, str(state)) is None
    assert change(NAME, digest, record, pack[:-4], str(state)) is None
    assert current(state) == BEFORE[-1]
    bring(state, AFTER)
    assert current(state) == AFTER


def test_a_record_that_leads_to_another_digest_is_not_run_and_the_next_sync_repairs_it(state: Path) -> None:
    _, record, pack = small_change(BEFORE[-1], AFTER)
    assert change(NAME, "1" * 64, record, pack, str(state))

    with pytest.raises(TreeError) as caught:
        copied(state)

    assert caught.value.code == "tree-damaged"
    bring(state, AFTER)
    assert current(state) == copied(state) == AFTER


def test_a_tree_that_is_not_the_current_one_is_not_built_upon(state: Path) -> None:
    assert make(state, BEFORE[0], AFTER) is None
    assert nothing_has_changed(state)


def test_a_changed_file_of_the_current_tree_is_not_shared(state: Path) -> None:
    first: Tree = {**BEFORE[-1], "other.py": b"other"}
    make(state, BEFORE[-1], first)
    file = state / "projects" / NAME / "current" / "other.py"
    file.chmod(0o644)
    file.write_bytes(b"OTHER")

    second: Tree = {**first, "more.py": b"more"}
    assert make(state, first, second) is None
    bring(state, second)
    assert current(state) == second


def test_a_tree_that_is_being_copied_is_waited_for_by_the_other_way(state: Path) -> None:
    lock = os.open(state / "projects" / NAME / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_SH)

    assert make(state, BEFORE[-1], AFTER) is None
    os.close(lock)
    assert make(state, BEFORE[-1], AFTER) is not None


def test_what_an_interrupted_change_left_is_put_in_order_by_the_other_way(state: Path) -> None:
    (state / "projects" / NAME / "trees" / ("f" * 64 + ".partial")).mkdir()

    assert make(state, BEFORE[-1], AFTER) is None
    bring(state, AFTER)
    assert make(state, AFTER, {**AFTER, "x.py": b"x"}) is not None
