"""What is written below a machine's root from outside stays there, whatever links the machine has made."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runctl.sandbox.machines import (
    disk_face,
    docker_engine,
    first_process,
    own_kernel,
    own_paths,
    systemd_init,
)
from runctl.sandbox.machines.docker_engine import Engine

NAMES = ("a", "b", "c")
RELATIVE = st.lists(st.sampled_from([*NAMES, "..", "."]), min_size=1, max_size=5).map("/".join)
PATHS = st.tuples(st.sampled_from(["", "/", "//"]), RELATIVE).map("".join)
PLACES = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(PLACES, st.one_of(st.none(), st.just(""), PATHS), max_size=12)
"""By place: a folder, a file, or a link's target."""
CHAIN = {"a/a": None, **{f"a/{n}": f"/a/{n - 1}" for n in range(1, 60)}, "a/0": "a"}

IN_A_CHROOT = """
import json, os, sys
outside = os.open("/", os.O_RDONLY)
for line in sys.stdin:
    root, paths = json.loads(line)
    os.chroot(root)
    os.chdir("/")
    found = {}
    for path in paths:
        try:
            os.stat(path)
            found[path] = os.path.realpath(path)
        except OSError as error:
            found[path] = error.errno
    os.fchdir(outside)
    os.chroot(".")
    print(json.dumps(found), flush=True)
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[Callable[[Path, list[str]], dict[str, str | int]]]:
    """By path, what a process in a root finds: where it is, or the number of the error."""
    command = [sys.executable, "-IS", "-c", IN_A_CHROOT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        def ask(root: Path, paths: list[str]) -> dict[str, str | int]:
            print(json.dumps([str(root), paths]), file=asked, flush=True)
            answer: dict[str, str | int] = json.loads(answers.readline())
            return answer

        yield ask


def planted(root: Path, tree: dict[str, str | None]) -> Path:
    """``root`` has of the tree what has a place in it."""
    for place, target in sorted(tree.items(), key=lambda each: (each[0].count("/"), each[0])):
        path = root
        for part in place.split("/")[:-1]:
            path /= part
            if not os.path.lexists(path):
                path.mkdir()
            if path.is_symlink() or not path.is_dir():
                break
        else:
            path /= place.split("/")[-1]
            if os.path.lexists(path):
                continue
            if target is None:
                path.mkdir()
            elif target:
                path.symlink_to(target)
            else:
                path.touch()
    return root


def links_below(root: Path, path: Path) -> list[Path]:
    return [each for each in (path, *path.parents) if each.is_relative_to(root) and each.is_symlink()]


@given(tree=TREES, path=PATHS, follow_last=st.booleans())
@example(tree={"a": "/../../b"}, path="../a/../../c", follow_last=True)
def test_every_path_lies_below_the_root(tree: dict[str, str | None], path: str, follow_last: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = planted(Path(folder), tree)
        try:
            found = own_paths.resolve(root, path, follow_last=follow_last)
        except OSError as error:
            assert error.errno == errno.ELOOP
            return

        assert found.is_relative_to(root)
        assert ".." not in found.relative_to(root).parts
        assert [each for each in links_below(root, found) if follow_last or each != found] == []


@pytest.mark.root
@pytest.mark.linux
@given(tree=TREES, paths=st.lists(PATHS, min_size=5, max_size=20))
@example(tree=CHAIN, paths=["a/38", "a/39", "a/40", "a/41", "a/a"])
def test_a_path_is_what_a_process_with_that_root_finds(
    kernel: Callable[[Path, list[str]], dict[str, str | int]], tree: dict[str, str | None], paths: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = planted(Path(folder), tree)

        for path, answer in kernel(root, paths).items():
            if isinstance(answer, str):
                assert own_paths.resolve(root, path) == Path(f"{root}{answer}")
            elif answer == errno.ELOOP:
                with pytest.raises(OSError, match="Too many levels of symbolic links"):
                    own_paths.resolve(root, path)


def test_a_link_in_the_last_place_can_be_left(tmp_path: Path) -> None:
    planted(tmp_path, {"a": "/b", "b": None, "b/c": "/elsewhere"})

    assert own_paths.resolve(tmp_path, "/a/c", follow_last=False) == tmp_path / "b/c"


def snapshot(folder: Path) -> dict[str, object]:
    """All that can be seen of it."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None,
        )
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("systemd", [False, True])
@pytest.mark.parametrize("below", ["files", "folders", "parents"])
def test_what_a_machine_needs_is_put_into_it_through_its_own_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, systemd: bool, below: str
) -> None:
    """The links lead to places that this computer has as well, with files of the same names."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    library = docker_engine.LIBRARY.lstrip("/")
    folders = {
        "files": [],
        "folders": [
            *(
                "usr/local/sbin",
                "usr/local/bin",
                "usr/sbin",
                "usr/bin",
                "var/lib/docker",
                "etc/systemd/system",
            ),
            *("etc/systemd/journald.conf.d", "etc/systemd/system.conf.d", "etc/docker", "root/.docker"),
            *("run", "dev", "proc", "sys", "srv/share", library),
        ],
        "parents": ["usr", "var", "etc", "root", "srv", "run", "dev", "proc", "sys"],
    }[below]
    files = [
        *("etc/group", "etc/docker/daemon.json", "root/.docker/config.json", "usr/bin/docker"),
        *("usr/local/bin/docker", "usr/bin/systemctl", "usr/sbin/service", "usr/sbin/shutdown"),
        *("usr/local/sbin/shutdown", "usr/local/sbin/cloud-init", "usr/bin/python3"),
        *("etc/systemd/system/ssh.service", "etc/systemd/system/docker.service"),
        *("etc/systemd/system/default.target", "etc/systemd/journald.conf.d/50-runctl-sandbox.conf"),
        *(f"{library}/engine.json", f"{library}/__main__.py", f"{library}/runctl/__init__.py"),
        *(
            f"{library}/runctl/sandbox/machines/systemd.py",
            "var/lib/docker/image",
            "srv/share/x",
            "sys/block/sda",
        ),
    ]
    for here in (outside, Path(f"{root}{outside}")):
        for name in [
            *folders,
            *(f"sys/{each}" for each in disk_face._FOLDERS),
            "sys/fs/cgroup",
            "proc/sys/net",
        ]:
            (here / name).mkdir(parents=True, exist_ok=True)
        for name in files:
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_text("root:x:0:\n")
    for name in folders or files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(outside / name)
    if below == "files":
        (root / "sys/fs/cgroup").mkdir(parents=True)
    if not os.path.lexists(root / "etc/group") and not (root / "etc").is_symlink():
        (root / "etc/group").write_text("root:x:0:\n")
    mounted: list[Path] = []

    def mount(*arguments: str) -> None:
        mounted.append(Path(arguments[-1]))

    monkeypatch.setattr(first_process, "mount", mount)
    monkeypatch.setattr(docker_engine, "_mount", mount)
    monkeypatch.setattr(first_process, "NODES", ())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    monkeypatch.setattr(sys, "_base_executable", "/usr/bin/python3")
    before = snapshot(outside)
    engine = Engine("i-0abc", str(tmp_path / "data"), 1400, "ec2-user")
    share = tmp_path / "shared"

    first_process.build_root(
        root,
        {
            "image": None,
            "upper": "",
            "work": "",
            "hostname": "here",
            "systemd": systemd,
            "shares": [(str(share), "/srv/share")],
        },
    )
    docker_engine.prepare(root, engine, systemd=systemd)
    first_process.install_switches(root, systemd=systemd)
    systemd_init.install(
        root, cloud_init=["x"], up="/up", environment={}, hub=["x"], dockerd=["dockerd"] if systemd else None
    )
    own_kernel.shield(root, mount)

    assert snapshot(outside) == before
    assert [path for path in mounted if not path.is_relative_to(root) or links_below(root, path)] == []
    inside = own_paths.resolve(root, "etc/group")
    assert inside.read_text() == "root:x:0:\ndocker:x:990:ec2-user\n"
    assert own_paths.resolve(root, "usr/local/sbin/cloud-init").read_text() == first_process.CLOUD_INIT
    assert own_paths.resolve(root, docker_engine.DATA_ROOT) in mounted
    assert own_paths.resolve(root, "srv/share") in mounted
