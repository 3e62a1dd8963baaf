"""How long a run takes to be written for a cluster."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.account import sandbox_account
from benchmarks.measure import Result, command

ROUNDS = 9
BIN = Path(sys.executable).parent


def measure() -> Iterator[Result]:
    """``export kubernetes`` with a volume and GPUs, both looked up in an account."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, sandbox_account(Path(name)) as environment:
        folders = {f"XDG_{kind}_HOME": f"{name}/{kind}" for kind in ("DATA", "CONFIG", "STATE", "CACHE")}
        (Path(name) / "train.py").write_text("")
        there = ["env", "--chdir", name, str(BIN / "runctl")]
        made = [*there, "aws", "ebs", "create", "--name", "datasets", "--size", "1"]
        command(made, **environment, **folders)()
        options = ["--image", "digits:1", "--gpu", "A100:1", "--spot", "--ebs-mount", "datasets:/data"]
        argv = [*there, "export", "kubernetes", "train.py", *options]
        export = command(argv, **environment, **folders)
        took = []
        for _ in range(ROUNDS + 1):
            started = time.perf_counter()
            export()
            took.append(time.perf_counter() - started)
        yield Result("`runctl export kubernetes`, a volume and GPUs", median(took[1:]), "", None, ROUNDS, 1.0)
