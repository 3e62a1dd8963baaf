"""What lies outside of a project is not taken for one of its files, whatever names it."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runctl.agent.trees.manifest import contents, fault_in
from runctl.core.errors import ProjectError
from runctl.project.inside import may_be_sent, open_file, read_link
from runctl.project.kept import KeptProjects
from runctl.project.manifest import FileChanged, build_manifest, pack_of, write_pack
from runctl.project.selection import lfs_pointers, select
from tests.project.files import repository, write


def with_a_moved_folder(tmp_path: Path, moved_to: str) -> Path:
    """A repository whose tracked folder ``conf`` has become a link to where it was moved."""
    root = repository(tmp_path / "proj", {"train.py": "", "conf/deep/hosts.yml": "token", "conf/x.py": ""})
    (root / "conf").rename(root / moved_to)
    (root / "conf").symlink_to(moved_to)
    return root


def name_in_index(root: Path, name: str, new: str) -> None:
    """Write another name into git's index, as git itself never would."""
    index = root / ".git" / "index"
    data = index.read_bytes()[:-20].replace(name.encode(), new.encode())
    index.write_bytes(data + hashlib.sha1(data).digest())


def test_a_tracked_file_behind_a_link_out_of_the_project_is_not_sent(tmp_path: Path) -> None:
    root = with_a_moved_folder(tmp_path, "../outside")

    for likely in ((), ("conf/x.py", "conf/deep/hosts.yml")):
        selection = select(root, likely=likely)
        assert set(selection.found) == {"train.py"}
        assert [item.path for item in selection.skipped] == ["conf"]


def test_a_folder_that_became_a_link_inside_the_project_is_sent_as_one(tmp_path: Path) -> None:
    manifest = build_manifest(select(with_a_moved_folder(tmp_path, "configuration")))

    assert set(manifest.entries) == {
        "train.py",
        "conf",
        "configuration/deep/hosts.yml",
        "configuration/x.py",
    }
    assert fault_in(manifest.entries, manifest) == ""


def test_a_repository_behind_a_link_is_not_looked_into(tmp_path: Path) -> None:
    root = repository(tmp_path / "proj", {"train.py": "", "vendor/lib/x": ""})
    (root / "vendor" / "lib" / "x").unlink()
    repository(root / "vendor" / "lib", {"lib.py": ""})
    (root / "vendor").rename(tmp_path / "vendor")
    (root / "vendor").symlink_to(tmp_path / "vendor")

    assert set(select(root).found) == {"train.py"}


@pytest.mark.parametrize(
    "name", ["../secret/notes", "/tmp_secret/notes", ".git/secret/note", ".GIT/secret/note"]
)
def test_a_path_in_the_index_that_git_would_not_add_is_reported(tmp_path: Path, name: str) -> None:
    held = "x" * len(name)
    root = repository(tmp_path / "proj", {"train.py": "", held: ""})
    (root / held).unlink()
    write(tmp_path, {"secret/notes": "s"})
    write(root, {".git/secret/note": "s"})
    name_in_index(root, held, name)

    selection = select(root)

    assert set(selection.found) == {"train.py"}
    assert [item.path for item in selection.skipped] == [name]


@pytest.mark.parametrize("pattern", ["/conf/hosts.yml", "/conf/deep/", "/.git/config", "conf/**"])
def test_a_pattern_brings_nothing_from_outside(tmp_path: Path, pattern: str) -> None:
    root = repository(tmp_path / "proj", {"train.py": ""})
    write(tmp_path / "outside", {"hosts.yml": "token", "deep/x": ""})
    (root / "conf").symlink_to("../outside")

    assert set(select(root, [pattern]).found) == {"train.py"}


def a_folder_that_becomes_a_link(tmp_path: Path) -> Path:
    root = write(tmp_path / "proj", {"conf/hosts": "version https://git-lfs", "train.py": ""})
    write(tmp_path, {"outside/hosts": "version https://git-lfs"})
    return root


def change(root: Path) -> None:
    (root / "conf" / "hosts").unlink()
    (root / "conf").rmdir()
    (root / "conf").symlink_to("../outside")


def test_a_folder_that_became_a_link_since_the_selection_is_gone_from_the_manifest(tmp_path: Path) -> None:
    root = a_folder_that_becomes_a_link(tmp_path)
    selection = select(root)
    change(root)

    assert set(build_manifest(selection).entries) == {"train.py"}


def test_a_folder_that_became_a_link_since_the_manifest_is_not_packed(tmp_path: Path) -> None:
    root = a_folder_that_becomes_a_link(tmp_path)
    entries = build_manifest(select(root)).entries
    change(root)

    with pytest.raises(FileChanged):
        write_pack(root, entries, contents(entries.values()), io.BytesIO())
    with pytest.raises(FileChanged):
        pack_of(root, entries)


def test_a_folder_that_became_a_link_since_the_manifest_is_not_kept(tmp_path: Path) -> None:
    root = a_folder_that_becomes_a_link(tmp_path)
    manifest = build_manifest(select(root))
    change(root)

    assert KeptProjects(tmp_path / "kept").keep(root, manifest).gone == ("conf/hosts",)


def test_git_lfs_pointers_are_not_looked_for_outside(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\n" + "x" * 90
    root = write(tmp_path / "proj", {"conf/hosts": pointer})
    write(tmp_path, {"outside/hosts": pointer})
    selection = select(root)
    assert lfs_pointers(selection) == ("conf/hosts",)
    change(root)

    assert lfs_pointers(selection) == ()


def test_a_file_is_opened_by_no_link(tmp_path: Path) -> None:
    root = write(tmp_path / "proj", {"real/deep/a": "1", "b": "2"})
    (root / "way").symlink_to("real")
    (root / "real" / "leaf").symlink_to("deep/a")

    with open_file(root, "real/deep/a") as deep, open_file(root, "b") as top:
        assert (deep.read(), top.read()) == (b"1", b"2")
    for path in ("way/deep/a", "b/c", "real/none", "real/../b", "../proj/b", str(root / "b")):
        with pytest.raises(FileNotFoundError):
            open_file(root, path)
    with pytest.raises(ProjectError, match="real/leaf cannot be read"):
        open_file(root, "real/leaf")
    assert read_link(root, "real/leaf") == Path("deep/a")
    with pytest.raises(FileNotFoundError):
        read_link(root, "way/leaf")


@pytest.mark.parametrize("put", [os.mkdir, os.mkfifo])
def test_what_took_a_files_place_is_not_opened_for_it(tmp_path: Path, put: Callable[[Path], None]) -> None:
    root = write(tmp_path / "proj", {"conf/hosts": "1", "train.py": ""})
    selection = select(root)
    entries = build_manifest(selection).entries
    (root / "conf" / "hosts").unlink()
    put(root / "conf" / "hosts")
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208

    with pytest.raises(FileNotFoundError):
        open_file(root, "conf/hosts")
    assert set(build_manifest(selection).entries) == {"train.py"}
    with pytest.raises(FileChanged):
        pack_of(root, entries)
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        *((path, True) for path in ("a/b", ".github/x", "a/..b", "\n", "x/.git\n")),
        *((path, False) for path in ("a/../b", "/a", "a//b", "./a", "a/.git/x", ".Git", "")),
    ],
)
def test_a_path_that_may_be_sent_is_below_the_root_and_not_gits_own(path: str, is_one: bool) -> None:
    assert may_be_sent(path) is is_one
