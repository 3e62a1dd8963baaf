"""How long the command line takes to say something that needs nothing, or one answer: against AWS's own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.account import sandbox_account
from benchmarks.measure import Result, Skipped, command, cpu_time, interleaved

BIN = Path(sys.executable).parent


def measure() -> Iterator[Result]:
    """``--version``, ``--help``, the runs of a user who has none, and the instances of an account that has none."""
    aws = BIN / "aws"
    if not aws.exists():
        raise Skipped("the AWS command line is not in the environment")
    for option, peer_option in (("--version", "--version"), ("--help", "--version")):
        yield interleaved(
            f"`runctl {option}`",
            command([str(BIN / "runctl"), option]),
            f"`aws {peer_option}`",
            command([str(aws), peer_option]),
            rounds=15,
            target=0.3,
        )
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        # No run is known: what is measured is the command.
        folders = {f"XDG_{kind}_HOME": f"{name}/{kind}" for kind in ("DATA", "CONFIG", "STATE", "CACHE")}
        yield cpu_time(
            "`runctl runs list`, no run, CPU time",
            command([str(BIN / "runctl"), "runs", "list"], **folders),
            rounds=15,
            target=0.1,
        )
    with tempfile.TemporaryDirectory(prefix="bench-") as name, sandbox_account(Path(name)) as environment:
        yield interleaved(
            "`runctl aws list`, no instance",
            command([str(BIN / "runctl"), "aws", "list", "--output", "json"], **environment),
            "`aws ec2 describe-instances`",
            command([str(aws), "ec2", "describe-instances", "--output", "json"], **environment),
            rounds=15,
            target=0.6,
        )
