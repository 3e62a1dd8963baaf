"""How long the command line takes to say something that needs nothing: against the AWS command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Result, Skipped, command, interleaved

BIN = Path(sys.executable).parent


def measure() -> Iterator[Result]:
    """``--version`` and ``--help``."""
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
