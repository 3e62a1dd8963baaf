"""An apply that is killed, runs beside another or fills the disk: never half of a tree."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.agent.trees.names import KEEP, TreeError
from tests.agent.trees.project import (
    FIRST,
    NAME,
    Tree,
    bring,
    copied,
    current,
    digest_of,
    pack_of,
    request_for,
    small_change,
    tree_names,
)


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
from runctl.agent.trees.small_change import change
small = json.loads(sys.argv[5]) if len(sys.argv) > 5 else None
sys.addaudithook(hook)
if small is None:
    print(trees.apply(request, io.BytesIO(pack), sys.argv[1]))
elif change(request["project"], small[0], bytes.fromhex(small[1]), bytes.fromhex(small[2]), sys.argv[1]) is None:
    sys.exit("it was not made as a small change")
"""
"""Applies, and kills itself in the middle of the N-th thing that it does to the file system."""


def run_apply(state: Path, tree: Tree, kill_at: int, small: tuple[str, bytes, bytes] | None) -> int:
    request = json.dumps(request_for(tree, pack_follows=True))
    more = [json.dumps([small[0], small[1].hex(), small[2].hex()])] if small is not None else []
    done = subprocess.run(
        [sys.executable, "-c", APPLY, str(state), request, pack_of(tree).hex(), str(kill_at), *more],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr.decode()
    return done.returncode


@pytest.mark.parametrize(
    ("trees_before", "is_small"),
    [(1, False), (KEEP, False), (KEEP, True)],
    ids=["new tree", "tree made from the oldest", "small change"],
)
def test_an_apply_killed_anywhere_leaves_one_whole_tree_current(
    tmp_path: Path, trees_before: int, is_small: bool
) -> None:
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
        code = run_apply(state, after, kill_at, small_change(before, after) if is_small else None)

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
