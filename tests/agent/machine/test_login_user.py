"""The agent as an ordinary user with passwordless sudo, as on a cloud provider's image."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runctl.agent.end_reason import EndReason
from tests.agent.driver import Agent

pytestmark = [
    pytest.mark.linux,
    pytest.mark.root,
    pytest.mark.namespaces,
    pytest.mark.skipif(shutil.which("sudo") is None, reason="not installed: sudo"),
]

USER, UID = "trainer", 54321


@dataclass
class Login:
    """A mount namespace in which such a user exists."""

    agent: Agent
    folder: Path


@pytest.fixture(params=["sudo", "no sudo"])
def right(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def namespace(folder: Path, *, sudo: bool) -> subprocess.Popen[str]:
    """The user is in this namespace's passwd and sudoers, not in the machine's."""
    for name in ("passwd", "group", "shadow"):
        shutil.copy(f"/etc/{name}", folder / name)
    with (folder / "passwd").open("a") as file:
        file.write(f"{USER}:x:{UID}:{UID}::{folder}/home:/bin/sh\n")
    with (folder / "group").open("a") as file:
        file.write(f"{USER}:x:{UID}:\n")
    with (folder / "shadow").open("a") as file:
        file.write(f"{USER}:*:19000:0:99999:7:::\n")
    (folder / "home").mkdir()
    os.chown(folder / "home", UID, UID)
    (folder / "sudoers.d").mkdir(mode=0o750)
    if sudo:
        (folder / "sudoers.d" / USER).write_text(f"{USER} ALL=(ALL) NOPASSWD:ALL\n")
        (folder / "sudoers.d" / USER).chmod(0o440)
    script = folder / "login.sh"
    mounts = "".join(
        f"mount --bind {folder}/{n} /etc/{n}\n" for n in ("passwd", "group", "shadow", "sudoers.d")
    )
    script.write_text(f"set -e\n{mounts}echo ready\nexec sleep infinity\n")
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", str(script)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    return holder


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the user can reach: pytest's folders are root's alone, and each pytest that starts makes them so."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.fixture
def logged_in(built: Path, folder: Path, right: str) -> Iterator[Login]:
    holder = namespace(folder, sudo=right == "sudo")
    state = folder / "state"
    (state / "bin").mkdir(parents=True)
    shutil.copy(built, state / "bin")
    for path in (state, state / "bin", state / "bin" / built.name):
        os.chown(path, UID, UID)
    enter = ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", f"--setuid={UID}", f"--setgid={UID}", "--"]
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    agent = Agent(state / "bin" / built.name, state, python=python, prefix=tuple(enter))
    agent.env = {
        "HOME": f"{folder}/home",
        "USER": USER,
        "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    yield Login(agent, folder)
    agent.end_everything()
    holder.kill()
    holder.wait()
    assert holder.stdout is not None
    holder.stdout.close()


def test_the_script_runs_as_the_login_user(logged_in: Login) -> None:
    agent = logged_in.agent
    agent.sync(
        {
            "train.py": "import os, pwd\nprint(os.getuid(), os.getgid(), os.environ['HOME'], os.environ['USER'])\n"
        }
    )
    agent.start("r", "train.py")
    assert agent.ended("r").reason is EndReason.COMPLETED, agent.log("r")
    assert agent.output("r") == [f"{UID} {UID} {logged_in.folder}/home {USER}"]


def test_a_mount_at_another_path_needs_sudo_and_the_script_is_not_root_all_the_same(
    logged_in: Login, right: str
) -> None:
    agent, data = logged_in.agent, logged_in.folder / "data"
    data.mkdir()
    (data / "in").write_text("in")
    os.chown(data, UID, UID)
    target = f"/runctl-test-{os.getpid()}"
    agent.sync(
        {
            "train.py": (
                f"import os\nprint(os.getresuid(), os.getresgid(), open('{target}/in').read())\n"
                f"open('{target}/out', 'w').write('out')\n"
            )
        }
    )
    mounts = [{"source": str(data), "target": target}]
    if right == "no sudo":
        error = agent.refused("r", "train.py", mounts=mounts)
        assert error["code"] == "cannot-mount"
        assert "sudo" in error["message"]
        return
    agent.start("r", "train.py", mounts=mounts)
    assert agent.ended("r").reason is EndReason.COMPLETED, agent.log("r")
    assert agent.output("r") == [f"({UID}, {UID}, {UID}) ({UID}, {UID}, {UID}) in"]
    assert (data / "out").stat().st_uid == UID
    assert not Path(target).exists()


def test_disks_need_sudo(logged_in: Login, right: str) -> None:
    error = logged_in.agent.call(
        "attach", {"volume_id": "vol-0123456789abcdef0", "mount_point": "/mnt/x", "wait_seconds": 0.1}
    ).error
    assert error["code"] == ("no-device" if right == "sudo" else "needs-root")


def test_version_says_who_the_agent_is_and_what_it_may(logged_in: Login, right: str) -> None:
    agent = logged_in.agent
    assert agent.call("version").ok["root_available"] is (right == "sudo")
    assert agent.call("version").ok["user"] == USER
