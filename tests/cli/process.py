"""runctl as a process of its own, for tests."""

from __future__ import annotations

import os
import subprocess
import sys

START = "from runctl.cli.main import main; main()"
"""What the installed script does."""


def start(*arguments: str) -> list[str]:
    return [sys.executable, "-c", START, *arguments]


def completed(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        start(*arguments),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
        env={**os.environ, **(env or {})},
    )


def modules_after(*arguments: str) -> set[str]:
    """The top-level modules outside the standard library, and ours, that a command line has imported."""
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr))\n"
        f"sys.argv[1:] = {list(arguments)!r}\n{START}"
    )
    # -S leaves out what site-packages' own .pth files import, editable installs' finders for one.
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    return (
        {name.partition(".")[0] for name in done.stderr.split()} - set(sys.stdlib_module_names) - {"__main__"}
    )
