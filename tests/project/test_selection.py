"""Which files of a project go to a machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runctl.core.errors import ProjectError
from runctl.project.selection import lfs_pointers, select
from tests.project.files import AsNobody, Make, git, repository, write


def chosen(root: Path, *include_patterns: str) -> set[str]:
    return set(select(root, include_patterns).found)


def test_git_selects_what_is_tracked_and_what_is_new_and_not_ignored(tmp_path: Path) -> None:
    repository(tmp_path, {"train.py": "", ".gitignore": "*.log\n", "x.log": "", ".github/ci.yml": ""})
    write(tmp_path, {"new.py": ""})

    selection = select(tmp_path)

    assert set(selection.found) == {"train.py", ".gitignore", ".github/ci.yml", "new.py"}
    assert selection.selected_by == "git"


def test_what_is_expected_changes_nothing_in_what_is_found(tmp_path: Path) -> None:
    repository(tmp_path, {"train.py": "", "old.py": "", ".gitignore": "*.log\n", "x.log": ""})
    (tmp_path / "old.py").unlink()
    write(tmp_path, {"new.py": "", "folder/x.py": ""})
    expected = ("train.py", "old.py", "x.log", "train.py/gone", "folder", "n" * 300, "new.py")

    assert select(tmp_path, likely=expected).found == select(tmp_path).found


def test_a_tracked_file_that_was_deleted_is_not_sent(tmp_path: Path) -> None:
    repository(tmp_path, {"train.py": "", "old.py": "", "gone/x.py": ""})
    (tmp_path / "old.py").unlink()
    shutil.rmtree(tmp_path / "gone")

    assert chosen(tmp_path) == {"train.py"}


def test_a_file_that_is_tracked_although_ignored_is_sent(tmp_path: Path) -> None:
    repository(tmp_path, {"train.py": ""})
    write(tmp_path, {"data/tiny.csv": "1", "data/big.csv": "2", ".gitignore": "data/\n"})
    git(tmp_path, "add", "-f", "data/tiny.csv")

    assert "data/tiny.csv" in chosen(tmp_path)
    assert "data/big.csv" not in chosen(tmp_path)


def test_an_unfinished_merge_lists_a_file_once(tmp_path: Path) -> None:
    repository(tmp_path, {"train.py": "base"})
    git(tmp_path, "checkout", "-q", "-b", "other")
    write(tmp_path, {"train.py": "theirs"})
    git(tmp_path, "commit", "-qam", "theirs")
    git(tmp_path, "checkout", "-q", "-")
    write(tmp_path, {"train.py": "ours"})
    git(tmp_path, "commit", "-qam", "ours")
    merge = subprocess.run(["git", "-C", str(tmp_path), "merge", "other"], capture_output=True, check=False)
    assert merge.returncode != 0

    assert list(select(tmp_path).found) == ["train.py"]


def test_a_submodules_files_belong_to_the_project(tmp_path: Path) -> None:
    repository(tmp_path / "lib", {"lib.py": "", "deep/x.py": ""})
    root = repository(tmp_path / "proj", {"train.py": ""})
    git(root, "submodule", "add", "-q", str(tmp_path / "lib"), "vendor/lib")
    write(root, {"vendor/lib/new.py": ""})

    assert chosen(root) >= {"train.py", "vendor/lib/lib.py", "vendor/lib/deep/x.py", "vendor/lib/new.py"}


def test_a_submodule_that_is_not_checked_out_is_reported(tmp_path: Path) -> None:
    repository(tmp_path / "lib", {"lib.py": ""})
    root = repository(tmp_path / "proj", {"train.py": ""})
    git(root, "submodule", "add", "-q", str(tmp_path / "lib"), "lib")
    git(root, "commit", "-qm", "with")
    git(root, "submodule", "deinit", "-q", "-f", "lib")

    skipped = select(root).skipped

    assert [item.path for item in skipped] == ["lib"]
    assert "not checked out" in skipped[0].reason


def test_a_repository_inside_the_project_is_looked_into(tmp_path: Path) -> None:
    repository(tmp_path, {"train.py": ""})
    repository(tmp_path / "nested", {"inner.py": "", ".gitignore": "*.tmp\n", "x.tmp": ""})

    assert chosen(tmp_path) == {"train.py", "nested/inner.py", "nested/.gitignore"}


def test_the_variables_that_git_sets_for_hooks_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = repository(tmp_path / "other", {"other.py": ""})
    root = repository(tmp_path / "proj", {"train.py": ""})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))

    assert chosen(root) == {"train.py"}


def test_where_git_is_not_installed_the_rules_select_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path / "proj", {"train.py": "", ".gitignore": "*.log\n", "x.log": ""})
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))

    selection = select(tmp_path / "proj")

    assert set(selection.found) == {"train.py", ".gitignore"}
    assert selection.selected_by == "ignore rules (git is not installed)"


def test_a_repository_that_git_cannot_read_is_selected_by_the_rules(tmp_path: Path) -> None:
    write(tmp_path, {".git/HEAD": "nonsense", "train.py": ""})

    selection = select(tmp_path)

    assert set(selection.found) == {"train.py"}
    assert selection.selected_by.startswith("ignore rules (git: ")


def test_ignore_files_in_folders_count_and_the_nearest_decides(tmp_path: Path, make: Make) -> None:
    make(
        tmp_path,
        {
            ".gitignore": "*.log\n/build/\n",
            "a/.gitignore": "!keep.log\nlocal\n",
            "a/keep.log": "",
            "a/drop.log": "",
            "a/local": "",
            "b/local": "",
            "build/x": "",
            "b/build/x": "",
        },
    )

    assert chosen(tmp_path) == {".gitignore", "a/.gitignore", "a/keep.log", "b/local", "b/build/x"}


def test_what_nobody_wants_is_left_out_without_being_told(tmp_path: Path, make: Make) -> None:
    make(tmp_path, {"train.py": ""})
    write(
        tmp_path,
        {
            ".venv/lib/x.py": "",
            "pkg/__pycache__/x.pyc": "",
            "node_modules/m/index.js": "",
            ".mypy_cache/x": "",
            "environment/pyvenv.cfg": "",
            "environment/lib/torch.py": "",
        },
    )

    assert chosen(tmp_path) == {"train.py"}


def test_runctlignore_takes_out_more_tracked_files_too(tmp_path: Path, make: Make) -> None:
    make(
        tmp_path,
        {"train.py": "", "docs/a.md": "", "docs/keep.md": "", ".runctlignore": "docs/*\n!docs/keep.md\n"},
    )

    assert chosen(tmp_path) == {"train.py", "docs/keep.md", ".runctlignore"}


def test_an_include_pattern_brings_back_what_is_ignored(tmp_path: Path, make: Make) -> None:
    make(
        tmp_path,
        {
            "train.py": "",
            ".gitignore": "data/\n*.bin\n",
            ".runctlignore": "notes.md\n",
            "data/small.csv": "",
            "data/big.csv": "",
            "a/b/w.bin": "",
            "notes.md": "",
        },
    )
    plain = {"train.py", ".gitignore", ".runctlignore"}

    assert chosen(tmp_path) == plain
    assert chosen(tmp_path, "data/small.csv") == plain | {"data/small.csv"}
    assert chosen(tmp_path, "data/") == plain | {"data/small.csv", "data/big.csv"}
    assert chosen(tmp_path, "*.bin", "/notes.md") == plain | {"a/b/w.bin", "notes.md"}


def test_an_include_pattern_cannot_bring_in_git_itself(tmp_path: Path) -> None:
    repository(tmp_path, {"train.py": ""})

    assert not any(path.startswith(".git/") for path in chosen(tmp_path, "*", ".git/"))


def test_an_include_pattern_that_excludes_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": ""})

    with pytest.raises(ProjectError, match="cannot start with !"):
        select(tmp_path, ["!x"])


def test_secrets_stay_at_home_and_are_reported(tmp_path: Path, make: Make) -> None:
    make(tmp_path, {"train.py": "", ".env": "", "conf/server.pem": "", ".env.example": "", ".aws/config": ""})

    selection = select(tmp_path)

    assert set(selection.found) == {"train.py", ".env.example"}
    assert {item.path for item in selection.refused} == {".env", "conf/server.pem", ".aws/config"}


@pytest.mark.parametrize(
    ("pattern", "sent"),
    [
        (".env", True),
        ("conf/.env", True),
        ("conf/.e*", True),
        ("*", False),
        ("conf/", False),
        ("conf/*", False),
        ("**", False),
    ],
)
def test_a_secret_is_sent_only_if_a_pattern_means_it(tmp_path: Path, pattern: str, sent: bool) -> None:
    write(tmp_path, {"train.py": "", "conf/.env": "", "conf/other": ""})

    assert ("conf/.env" in chosen(tmp_path, pattern)) is sent


def test_a_secret_folder_is_sent_if_it_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", ".aws/config": ""})

    assert ".aws/config" in chosen(tmp_path, ".aws/")


def test_links_inside_are_kept_and_links_out_are_reported(tmp_path: Path, make: Make) -> None:
    root = make(tmp_path / "proj", {"src/a.py": ""})
    (root / "inside").symlink_to("src")
    (root / "src" / "up").symlink_to("../src/a.py")
    (root / "absolute").symlink_to(root / "src" / "a.py")
    (root / "dangling").symlink_to("not/there/yet")
    (root / "out").symlink_to("../../elsewhere")
    (root / "etc").symlink_to("/etc")
    (root / "itself").symlink_to("itself")

    selection = select(root)

    assert set(selection.found) == {"src/a.py", "inside", "src/up", "absolute", "dangling"}
    assert {item.path for item in selection.skipped} == {"out", "etc", "itself"}


def test_a_link_that_leaves_by_way_of_another_link_is_reported(tmp_path: Path) -> None:
    root = write(tmp_path / "proj", {"a/b/file": ""})
    (root / "a" / "b" / "top").symlink_to("../..")
    (root / "sly").symlink_to("a/b/top/../secret")

    assert "sly" in {item.path for item in select(root).skipped}


def test_sockets_and_pipes_are_reported(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": ""})
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)
        try:
            listener.bind("sock")
        finally:
            os.chdir(here)

        skipped = {item.path: item.reason for item in select(tmp_path).skipped}

    assert skipped == {"pipe": "a pipe", "sock": "a socket"}


@pytest.mark.parametrize(
    "name", [b"with space", b"line\nbreak", "ümlaut".encode(), b"\xff\xfe", b"-dash", b'qu"ote']
)
@pytest.mark.linux
def test_any_name_that_the_disk_takes_is_selected(tmp_path: Path, make: Make, name: bytes) -> None:
    make(tmp_path, {"train.py": ""})
    with open(os.fsencode(tmp_path) + b"/" + name, "wb"):  # noqa: PTH123
        pass

    assert chosen(tmp_path) == {"train.py", os.fsdecode(name)}


def test_a_broken_rule_is_an_error_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "", ".runctlignore": "ok\n!\n"})

    with pytest.raises(ProjectError, match=r"\.runctlignore:2: '!' is not a pattern"):
        select(tmp_path)


parts = st.sampled_from(["a", "b", "c.log", "d e", "build"])


paths = st.lists(parts, min_size=1, max_size=3).map("/".join)


rules = st.sampled_from(
    [
        "*.log",
        "!c.log",
        "build/",
        "/build",
        "a/b",
        "a/*",
        "!a/b",
        "**/b",
        "a/**",
        "d\\ e",
        "b",
        "!b/",
        "# no",
        "",
    ]
)


@settings(max_examples=25, deadline=None)
@example(["a/b/c", "a/c"], ["a/**", "!a/b"], {"a/b": ["!c"]})
@example(["b/a", "a/b"], ["b", "!b/"], {})
@given(
    st.lists(paths, min_size=1, max_size=8),
    st.lists(rules, max_size=4),
    st.dictionaries(st.sampled_from(["a", "a/b", "build"]), st.lists(rules, max_size=3), max_size=2),
)
def test_the_rules_select_what_git_would(
    files: list[str], top: list[str], nested: dict[str, list[str]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "proj"
        ignores = {".gitignore": top} | {f"{place}/.gitignore": lines for place, lines in nested.items()}
        for path in [*ignores, *files]:
            if (
                all(not (root / parent).is_file() for parent in Path(path).parents)
                and not (root / path).exists()
            ):
                write(root, {path: "\n".join(ignores.get(path, []))})
        write(root, {"train.py": ""})
        by_rules = select(root, ["train.py"])
        git(root, "init", "-q")

        by_git = select(root, ["train.py"])

        assert by_rules.selected_by != by_git.selected_by == "git"
        assert set(by_rules.found) == set(by_git.found)


def test_a_tracked_file_that_became_a_folder_is_no_submodule(tmp_path: Path) -> None:
    repository(tmp_path, {"f": "1", "train.py": ""})
    (tmp_path / "l").symlink_to("f")
    git(tmp_path, "add", "-A")
    for name in ("f", "l"):
        (tmp_path / name).unlink()
    write(tmp_path, {"f/y": "2", "l/deep/z": "3"})

    selection = select(tmp_path)

    assert set(selection.found) == {"f/y", "l/deep/z", "train.py"}
    assert selection.skipped == ()


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{7:064d}\nsize 123456789\n"


def test_a_git_lfs_pointer_is_told_from_a_file(make: Make, tmp_path: Path) -> None:
    make(
        tmp_path,
        {"model.pt": POINTER, "deep/w.bin": POINTER, "train.py": "x" * len(POINTER), "a.txt": POINTER[:50]},
    )

    assert sorted(lfs_pointers(select(tmp_path))) == ["deep/w.bin", "model.pt"]


@pytest.mark.parametrize("kind", ["git", "rules"])
def test_a_folder_that_cannot_be_read_is_left_out_and_named(
    tmp_path: Path, kind: str, as_nobody: AsNobody
) -> None:
    (repository if kind == "git" else write)(tmp_path, {"a.py": "", "closed/x": ""})
    (tmp_path / "closed").chmod(0)
    if kind == "git":
        git(tmp_path, "rm", "-q", "--cached", "closed/x")

    said = as_nobody(
        "from pathlib import Path; from runctl.project.sent import choose_sent; import sys;"
        "sent = choose_sent(Path(sys.argv[1]), (), None, ()); s = sent.selection;"
        "print(sorted(s.found), [(one.path, one.reason) for one in s.skipped], sent.left_out)",
        tmp_path,
    )

    assert said == "['a.py'] [('closed', 'it cannot be read: Permission denied')] ()"
