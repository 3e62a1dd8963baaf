"""How long a list of machines at RunPod and Lyceum takes, and the offers of all providers: against the vendors' tools.

The vendors' tools (``pip install lyceum-cli runpod``, outside this environment: they bring much along) are found on
PATH. They are only asked for their help, which needs no account: their list would take longer.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.account import sandbox_account
from benchmarks.measure import Result, Skipped, command, cpu_time, interleaved

RUNCTL = str(Path(sys.executable).parent / "runctl")


def measure() -> Iterator[Result]:
    """Each provider's list against the start of its own tool, then the offers as they are kept for two minutes."""
    tools = {name: shutil.which(name) for name in ("lyceum", "runpod")}
    missing = [name for name, tool in tools.items() if tool is None]
    if missing:
        raise Skipped(f"not on PATH: {', '.join(missing)} (pip install lyceum-cli runpod)")
    with tempfile.TemporaryDirectory(prefix="bench-") as name, sandbox_account(Path(name)) as environment:
        for provider, tool in tools.items():
            yield interleaved(
                f"`runctl {provider} list`, no machine",
                command([RUNCTL, provider, "list", "--output", "json"], **environment),
                f"`{provider} --help`",
                command([str(tool), "--help"]),
                rounds=9,
                target=0.3,
            )
        kept = {**environment, "XDG_CACHE_HOME": f"{name}/cache"}
        offers = command([RUNCTL, "offers", "--provider", "all", "--gpu", "a100"], **kept)
        offers()
        yield cpu_time("`runctl offers --provider all`, kept, CPU time", offers, rounds=9, target=0.15)
