"""Projects that git selects, and projects that the rules do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.files import AsNobody, Make, repository, write


@pytest.fixture(params=[repository, write], ids=["git", "ignore rules"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a project that git selects, and one that the rules do."""
    created: Make = request.param
    return created


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[AsNobody]:
    """Runs a piece of Python as a user to whom modes mean something."""

    def run(program: str, folder: Path) -> str:
        if os.getuid() != 0:
            done = subprocess.run(
                [sys.executable, "-c", program, folder], check=True, capture_output=True, text=True
            )
            return done.stdout.strip()
        for item in (folder, *folder.rglob("*")):
            os.lchown(item, 65534, 65534)
        for above in folder.parents:
            if above.stat().st_uid == 0 and above != above.parent and above.parent != Path("/"):
                above.chmod(above.stat().st_mode | 0o011)
        # Interpreter and sources may lie below a home folder that others do not see: they are read before.
        prepared = "import os, sys, subprocess, pathspec, runctl.project.selection; os.setuid(65534);"
        prepared += "os.environ['HOME'] = '/';"
        done = subprocess.run(
            [sys.executable, "-c", prepared + program, folder], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    yield run
    for item in tmp_path.rglob("*"):
        if not item.is_symlink():
            item.chmod(0o755)
