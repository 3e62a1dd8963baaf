"""The agent's verbs as processes that are forked from one which has imported the agent: see `tests.forking`.

Most tests ask what a verb does. How one starts is asked by ``tests/agent/test_package.py``, and by everything that
reaches a machine; what a verb itself starts, a supervisor first of all, is the archive's own program.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.forking import Program

OTHERS = (
    *("supervising.logs", "supervising.stop", "trees.verbs", "trees.session", "files.protocol", "encoding"),
    *("attempt.attempt", "errors"),
)
"""What verbs import beside their own modules."""


def unpacked(archive: Path) -> Path:
    """Where an archive is unpacked once it has been called."""
    return archive.with_name(f".{archive.name}")


def run(
    archive: Path, argv: Sequence[str], *, env: Mapping[str, str], stdin: bytes, timeout: float
) -> tuple[int, bytes, bytes]:
    """Carry a verb out to its end: its exit code (as `subprocess` has it), stdout and stderr."""
    # The name of an archive and of what it is unpacked into is a digest of their content.
    verbs = _verbs(archive.name)
    request = {"archive": str(archive), "argv": list(argv)}
    return verbs.run(request, cwd=Path.cwd(), env=env, stdin=stdin, timeout=timeout)


@functools.cache
def _verbs(name: str) -> Program:
    from runctl.agent import package

    expected = f"agent-{package.digest()[:16]}.pyz"
    assert name == expected, f"{name} is not the agent of these sources, which is {expected}"
    return Program(__name__)


def load() -> None:
    """The agent as the sources have it."""
    from runctl.agent.__main__ import VERBS

    for name in (*OTHERS, *(module for module, _ in VERBS.values())):
        importlib.import_module(f"runctl.agent.{name}")


def main(request: Any) -> int:
    """What the archive does."""
    from runctl.agent.__main__ import main as program

    archive = request["archive"]
    # By this it finds the archive, to start itself again.
    entry = ModuleType("__main__")
    entry.__file__ = os.path.join(archive, "__main__.py")  # noqa: PTH118 - a path into a file
    sys.modules["__main__"] = entry
    sys.path[0] = str(unpacked(Path(archive)))
    sys.argv = [archive, *request["argv"]]
    return program()
