"""What a tree may not hold is refused, and the tree before stays."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.trees import verbs as trees
from runctl.agent.trees.manifest import Manifest
from runctl.agent.trees.names import TreeError
from tests.agent.trees.project import (
    FIRST,
    NAME,
    bring,
    current,
    digest_of,
    pack_of,
    packed,
    request_for,
    tree_names,
)


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


def test_an_error_of_the_file_system_has_our_words(tmp_path: Path) -> None:
    (tmp_path / "projects").write_text("a file where the folder should be")

    with pytest.raises(TreeError) as caught:
        trees.manifest({"project": NAME, "digest": "0" * 64}, str(tmp_path))

    assert caught.value.code == "tree-failed"
    assert caught.value.hint
