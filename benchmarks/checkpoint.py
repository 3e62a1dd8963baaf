"""A checkpoint into an object store and back: against ``aws s3 sync`` and s5cmd, with the sandbox's S3."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.account import sandbox_account
from benchmarks.measure import Result, command, interleaved
from benchmarks.prewarm import s5cmd_program

BUCKET = "benchmark"
FILES, SIZE = 200, (2 << 30) // 200
ROUNDS = 2
WHAT = f"checkpoint of 2 GiB in {FILES} files"
STORE = f"s3://{BUCKET}/runs"
PUBLISH = """\
import os, pathlib, sys, time
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints.publisher import Publisher
from runctl.agent.checkpoints.stores import open_store
url, run, folder = sys.argv[1:]
store = open_store(StoreSpec(url), run, os.environ)
publisher = Publisher(store, pathlib.Path(folder), run, 1)
if not publisher.publish_new(time.time()):
    sys.exit("nothing was published")
print("published", flush=True)
for _ in sys.stdin:
    if publisher.publish_new(time.time()):
        sys.exit("it was published once more")
    print("unchanged", flush=True)
"""
RESTORE = """\
import os, pathlib, sys
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints.restoring import restore
from runctl.agent.checkpoints.stores import open_store
url, run, folder = sys.argv[1:]
if restore(open_store(StoreSpec(url), run, os.environ), pathlib.Path(folder), print) is None:
    sys.exit("nothing was restored")
"""


def measure() -> Iterator[Result]:
    """Published, looked at again unchanged, and restored; every writer's data is on the disk at the end."""
    s5cmd = s5cmd_program()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        write_checkpoint(folder / "checkpoints" / "step-1")
        with sandbox_account(folder / "sandbox") as environment:
            contest = Contest(environment, folder, s5cmd)
            contest.client.create_bucket(Bucket=BUCKET)
            peers = [("aws s3 sync", contest.aws)] + ([("s5cmd", contest.s5)] if s5cmd else [])
            for peer, copy in peers:
                yield interleaved(
                    f"{WHAT}, published",
                    contest.publish,
                    peer,
                    lambda copy=copy: copy(str(contest.saved), contest.target),  # type: ignore[misc]
                    rounds=ROUNDS,
                    before=contest.clear,
                    target=1.0,
                )
            yield contest.unchanged()
            contest.clear()
            contest.publish()
            contest.aws(str(contest.saved), contest.target)
            for peer, copy in peers:
                yield interleaved(
                    f"{WHAT}, restored",
                    contest.restore,
                    peer,
                    lambda copy=copy: contest.fetched(copy),  # type: ignore[misc]
                    rounds=ROUNDS,
                    before=contest.clear_folder,
                    target=1.0,
                )


def write_checkpoint(folder: Path) -> None:
    """As a training would have saved it a while ago."""
    folder.mkdir(parents=True)
    for number in range(FILES):
        path = folder / f"shard-{number:03}.bin"
        path.write_bytes(os.urandom(SIZE))
        os.utime(path, (time.time() - 60, time.time() - 60))


@dataclass
class Contest:
    """One checkpoint, a bucket, and a folder to restore into."""

    environment: dict[str, str]
    folder: Path
    s5cmd: str | None
    target: str = f"s3://{BUCKET}/copied"

    @property
    def saved(self) -> Path:
        """The checkpoint."""
        return self.folder / "checkpoints" / "step-1"

    @property
    def into(self) -> Path:
        """Where it is restored."""
        return self.folder / "restored"

    @property
    def client(self) -> Any:
        """boto3's."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            region_name=self.environment["AWS_REGION"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )

    def clear(self) -> None:
        """The bucket is empty."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for found in page.get("Contents", ()):
                self.client.delete_object(Bucket=BUCKET, Key=found["Key"])

    def clear_folder(self) -> None:
        """What was restored before is gone."""
        shutil.rmtree(self.into, ignore_errors=True)
        self.into.mkdir()
        command(["sync", "-f", str(self.into)])()

    def publish(self) -> None:
        """By a publisher as it starts with a run."""
        argv = [sys.executable, "-c", PUBLISH, STORE, "run-1", str(self.saved.parent)]
        command(argv, **self.environment)()

    def restore(self) -> None:
        """As the next attempt's machine does it."""
        argv = [sys.executable, "-c", RESTORE, STORE, "run-1", str(self.into)]
        command(argv, **self.environment)()
        self._check()

    def fetched(self, copy: Callable[[str, str], None]) -> None:
        """The same by a peer."""
        copy(self.target, str(self.into / "step-1"))
        self._check()

    def _check(self) -> None:
        command(["sync", "-f", str(self.into)])()
        size = sum(path.stat().st_size for path in self.into.rglob("*.bin"))
        if size != FILES * SIZE:
            raise RuntimeError(f"{size:,} bytes were restored, not {FILES * SIZE:,}")

    def aws(self, source: str, target: str) -> None:
        """The AWS command line, as it is set up by default."""
        program = str(Path(sys.executable).with_name("aws"))
        command([program, "s3", "sync", "--only-show-errors", source, target], **self.environment)()

    def s5(self, source: str, target: str) -> None:
        """s5cmd, as it is set up by default."""
        options = ["--endpoint-url", self.environment["AWS_ENDPOINT_URL"], "--log", "error"]
        source = f"{source}/*" if source.startswith("s3://") else f"{source}/"
        command([str(self.s5cmd), *options, "cp", source, f"{target}/"], **self.environment)()

    def unchanged(self) -> Result:
        """The publisher of a run looks once more; the peer is asked to copy what it has copied."""
        self.clear()
        self.aws(str(self.saved), self.target)
        with self._publisher() as look:
            return interleaved(
                f"{WHAT}, unchanged",
                look,
                "aws s3 sync",
                lambda: self.aws(str(self.saved), self.target),
                rounds=5,
                target=0.1,
            )

    @contextlib.contextmanager
    def _publisher(self) -> Iterator[Callable[[], None]]:
        argv = [sys.executable, "-c", PUBLISH, STORE, "run-1", str(self.saved.parent)]
        with subprocess.Popen(
            argv,
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            commands, answers = process.stdin, process.stdout

            def expect(word: str) -> None:
                if (said := answers.readline().strip()) != word:
                    raise RuntimeError(f"the publisher said {said!r}, not {word!r}")

            def look() -> None:
                commands.write("\n")
                commands.flush()
                expect("unchanged")

            expect("published")
            yield look
            commands.close()
