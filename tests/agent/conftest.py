"""What the agent's tests share."""

from __future__ import annotations

import compileall
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.agent import package
from tests.agent.driver import Agent
from tests.agent.s3_bucket import Bucket, new_bucket
from tests.forked import client


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zipapp, alone in its folder."""
    return package.build(tmp_path_factory.mktemp("zipapp"))


@pytest.fixture(scope="session")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the zipapp and what a machine has of it after its first calls: unpacked, and compiled."""
    folder = tmp_path_factory.mktemp("unpacked")
    shutil.copy(built, folder)
    state = {"RUNCTL_AGENT_STATE": str(tmp_path_factory.mktemp("state"))}
    Agent(folder / built.name, folder, env=state).call("version")
    compileall.compile_dir(next(folder.glob(".agent-*/")), quiet=1)
    return folder


@pytest.fixture(scope="session")
def login_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for the user that runs belong to: what this computer's user has in a profile is not asked each time.

    A login shell finds this Python there, and installers find what they have fetched before.
    """
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o755)
    (home / ".profile").write_text(f'PATH="{sys.base_prefix}/bin:$PATH"\n')
    (home / ".cache").mkdir()
    for name in ("uv", "pip"):
        (home / ".cache" / name).symlink_to(os.environ[f"{name.upper()}_CACHE_DIR"])
    return home


@pytest.fixture
def agent(built: Path, unpacked: Path, login_home: Path, tmp_path: Path) -> Iterator[Agent]:
    """An agent on this machine, with a state directory of its own; its runs end with the test."""
    state = tmp_path / "state"
    state.mkdir()
    # Compiling takes longer than most verbs, and a machine does it once; `test_package` asks how.
    shutil.copytree(unpacked, state / "bin", symlinks=True, copy_function=os.link)
    item = Agent(state / "bin" / built.name, state, login_home=login_home)
    yield item
    item.end_everything()


@pytest.fixture(scope="session")
def s3_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables of a sandbox whose S3 is used: one without machines, which needs neither root nor Docker."""
    from runctl.sandbox import control

    home = tmp_path_factory.mktemp("s3")
    info = client.sandbox(home, kind="folders", docker="off")
    yield info.environment()
    control.stop(home=home)


@pytest.fixture
def bucket(s3_account: dict[str, str], tmp_path: Path) -> Iterator[Bucket]:
    """An empty one of its own."""
    into = tmp_path / "volume"
    into.mkdir()
    found = new_bucket(s3_account, into)
    yield found
    found.client.close()
