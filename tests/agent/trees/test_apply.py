"""Project trees on the machine: complete, current at once, and whatever was there before."""

from __future__ import annotations

import hashlib
import io
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runctl.agent.trees import verbs as trees
from runctl.agent.trees.names import KEEP
from tests.agent.trees.project import (
    FIRST,
    NAME,
    Tree,
    bring,
    copied,
    current,
    describe,
    digest_of,
    pack_of,
    packed,
    request_for,
    tree_names,
)


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


def test_the_newest_trees_stay_and_the_others_go(tmp_path: Path) -> None:
    versions: list[Tree] = [{"train.py": b"%d" % n, "same.py": b"same"} for n in range(6)]
    for tree in versions:
        bring(tmp_path, tree)

    assert tree_names(tmp_path) == {digest_of(tree) for tree in versions[-KEEP:]}
    manifests = {path.name for path in (tmp_path / "projects" / NAME / "manifests").iterdir()}
    assert manifests == {
        f"{digest_of(tree)}.{kind}" for tree in versions[-KEEP:] for kind in ("json", "changes")
    }


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
