"""Nothing in the folder of a stranger is executed by looking at it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from runctl.project.git import GitFailed, git_state, no_filters, run_git
from runctl.project.selection import select
from tests.project.files import git, repository


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a file when it is run; `sprung` asks for that."""
    program = tmp_path / "trap"
    program.write_text(f"#!/bin/sh\necho sprung >> {shlex.quote(str(tmp_path / 'sprung'))}\ncat\n")
    program.chmod(0o755)
    return program


def sprung(trap: Path) -> bool:
    return (trap.parent / "sprung").exists()


PROGRAMS = (
    "core.fsmonitor",
    "core.sshCommand",
    "core.pager",
    "core.askPass",
    "core.editor",
    "diff.external",
    "filter.x.clean",
    "filter.x.smudge",
    "filter.x.process",
    "diff.x.textconv",
    "gpg.program",
    "remote.origin.uploadpack",
    "alias.ls-files",
)
HOOKS = ("post-index-change", "fsmonitor-watchman", "pre-auto-gc", "reference-transaction", "post-checkout")


def set_traps(root: Path, trap: Path) -> None:
    """Everything in a repository's own folder that names a program names the trap; also by way of an include."""
    settings = root / ".git" / "more"
    for name in PROGRAMS:
        command = f"!{trap}" if name.startswith("alias") else str(trap)
        subprocess.run(["git", "config", "-f", str(settings), name, command], check=True)
    git(root, "config", "include.path", "more")
    for name in HOOKS:
        (root / ".git" / "hooks").mkdir(exist_ok=True)
        (root / ".git" / "hooks" / name).symlink_to(trap)


def test_a_selection_runs_no_program_that_the_repository_names(tmp_path: Path, trap: Path) -> None:
    root = repository(tmp_path / "p", {"train.py": "", ".gitattributes": "* filter=x diff=x\n"})
    repository(root / "sub", {"inner.py": ""})
    set_traps(root, trap)
    set_traps(root / "sub", trap)
    (root / "train.py").write_text("changed")

    found = select(root).found

    assert {"train.py", "sub/inner.py"} <= found.keys()
    assert not sprung(trap)


def test_the_trap_works_where_nobody_looks_after_it(tmp_path: Path, trap: Path) -> None:
    root = repository(tmp_path / "p", {"train.py": ""})
    set_traps(root, trap)

    git(root, "status")

    assert sprung(trap)


def test_a_comparison_runs_no_filter(tmp_path: Path, trap: Path) -> None:
    root = repository(tmp_path / "p", {"train.py": "", ".gitattributes": "* filter=x diff=x\n"})
    set_traps(root, trap)
    (root / "train.py").write_text("changed")

    changed = run_git(root, *no_filters(root), "status", "--porcelain", "-z")

    assert changed == b" M train.py\0"
    assert not sprung(trap)


def test_a_partial_clone_fetches_nothing(tmp_path: Path, trap: Path) -> None:
    root = repository(tmp_path / "p", {"a/train.py": "", "b/x.py": ""})
    git(root, "sparse-checkout", "set", "--cone", "--sparse-index", "a")
    tree = run_git(root, "rev-parse", "HEAD:b").decode().strip()
    git(root, "config", "extensions.partialClone", "origin")
    git(root, "config", "core.repositoryFormatVersion", "1")
    git(root, "config", "remote.origin.url", f"ext::{trap}")
    git(root, "config", "protocol.ext.allow", "always")
    (root / ".git" / "objects" / tree[:2] / tree[2:]).unlink()

    select(root)

    assert not sprung(trap)


def test_a_filter_that_cannot_be_switched_off_is_not_run(tmp_path: Path, trap: Path) -> None:
    root = repository(tmp_path / "p", {"train.py": "", ".gitattributes": "* filter=a=b\n"})
    git(root, "config", "filter.a=b.clean", str(trap))
    (root / "train.py").write_text("changed")

    assert git_state(root) is None
    with pytest.raises(GitFailed, match=re.escape("filter.a=b.clean")):
        no_filters(root)

    assert not sprung(trap)


def test_variables_of_a_hook_do_not_lead_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = repository(tmp_path / "p", {"train.py": ""})
    other = repository(tmp_path / "q", {"other.py": ""})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))

    assert set(select(root).found) == {"train.py"}
