"""Docker called through sudo: it is root's, and the login user may not signal it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from runctl.agent.containers.container_code import _has_anything
from runctl.agent.containers.container_folder import _read
from runctl.agent.machine import docker, processes
from runctl.agent.machine.docker import Engine

SUDO = Engine(True, by_sudo=True)
Writes = Callable[[str], Path]


@pytest.fixture
def docker_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writes:
    """A program called docker, by what it does in Python after it has noted its number in the returned file."""
    noted = tmp_path / "pid"

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    def make(does: str) -> Path:
        program = tmp_path / "docker"
        note = f"import os, signal, sys, time\nopen({str(noted)!r}, 'w').write(str(os.getpid()))\n"
        program.write_text(f"#!{sys.executable}\n{note}{does}\n")
        program.chmod(0o755)
        return noted

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    # As the kernel refuses what is another user's; `kill`, a program, stands for what root does.
    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(docker, "as_root", lambda argv, _env: list(argv))
    monkeypatch.setattr(processes, "as_root", list)
    monkeypatch.setattr(processes, "root_available", lambda: True)
    return make


def a_tar(folder: Path) -> Path:
    path = folder / "tar"
    with tarfile.open(path, "w") as archive:
        for name in ("workspace", "workspace/data"):
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        entry = tarfile.TarInfo("workspace/data/big")
        entry.size = 1 << 20
        archive.addfile(entry, io.BytesIO(bytes(1 << 20)))
    return path


def is_gone(noted: Path) -> bool:
    return processes.process(int(noted.read_text())) is None


def test_more_than_is_read_of_an_images_folder_is_no_error(tmp_path: Path, docker_that: Writes) -> None:
    noted = docker_that(f"sys.stdout.buffer.write(open({str(a_tar(tmp_path))!r}, 'rb').read())")

    assert _has_anything(SUDO, "c", "/workspace")
    assert is_gone(noted)
    with SUDO.reading("cp", "c:/workspace", "-") as source:
        # It is the user's already.
        assert _read(source, io.BytesIO(), (0, 0), PurePosixPath("/workspace"), ()) is None
    assert is_gone(noted)


def test_what_does_not_end_when_nobody_reads_it_is_ended_by_root(
    docker_that: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "PIPE_SECONDS", 0.1)
    noted = docker_that("sys.stdout.write('x')\nsys.stdout.flush()\ntime.sleep(1000)")

    with SUDO.reading("cp", "c:/workspace", "-") as source:
        assert source.read(1) == b"x"

    assert is_gone(noted)


def test_an_engine_that_does_not_answer_in_time_is_told_as_that(docker_that: Writes) -> None:
    noted = docker_that("time.sleep(1000)")

    done = SUDO.call("version", timeout=1.0)

    assert (done.returncode, done.stderr) == (124, b"the Docker engine does not answer")
    assert not noted.exists() or is_gone(noted)


def test_what_a_program_is_given_and_says_arrives(docker_that: Writes) -> None:
    docker_that("sys.stdout.write(sys.stdin.read())\nsys.exit(3)")

    done = docker.run_within(["docker"], 60.0, b"password")

    assert (done.returncode, done.stdout, done.stderr) == (3, b"password", b"")
    with pytest.raises(subprocess.TimeoutExpired):
        docker.run_within(["sleep", "1000"], 0.1)
