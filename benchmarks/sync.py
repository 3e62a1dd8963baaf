"""Sending a project of 10,000 files: against rsync and scp, all over one ssh connection that is open already."""

from __future__ import annotations

import itertools
import random
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import agent_over_ssh, missing
from benchmarks.measure import Result, Skipped, command, interleaved
from benchmarks.sshd import Server, sshd

FILES = 10_000
FOLDERS = 100


def measure() -> Iterator[Result]:
    """First, unchanged, one file changed."""
    if reason := missing("git", "rsync", "scp"):
        raise Skipped(reason)
    # ssh's control socket is in it, and a socket's path has to be short.
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with sshd(folder) as server:
            project = make_project(folder)
            contest = Contest(folder, project, server)
            for peer in ("rsync", "scp"):
                yield contest.first(peer)
                yield contest.unchanged(peer)
                yield contest.one_changed(peer)


@dataclass
class Contest:
    """One project, and folders of the same computer that it is sent to."""

    folder: Path
    project: Path
    server: Server
    targets: Iterator[int] = field(default_factory=itertools.count)
    changes: Iterator[int] = field(default_factory=itertools.count)

    def first(self, peer: str) -> Result:
        """To a machine that has nothing of it; the agent is there."""
        return self._contest(
            f"sync, {FILES:,} files, first", peer, fresh=True, target=1.5 if peer == "rsync" else 0.3
        )

    def unchanged(self, peer: str) -> Result:
        """Again, and nothing has changed."""
        return self._contest(
            f"sync, {FILES:,} files, nothing changed", peer, target=0.5 if peer == "rsync" else None
        )

    def one_changed(self, peer: str) -> Result:
        """Again, and one file has."""
        target = 0.5 if peer == "rsync" else None
        result = self._contest(f"sync, {FILES:,} files, one changed", peer, change=True, target=target)
        reached = self.folder / f"{peer}-copy" / "0" / "0.py"
        if reached.read_text() != (self.project / "0" / "0.py").read_text():
            raise RuntimeError(f"{peer} did not bring the change over")
        return result

    def _contest(
        self, what: str, peer: str, *, fresh: bool = False, change: bool = False, target: float | None = None
    ) -> Result:
        from runctl.project.sync import SyncResult, sync

        state = self.folder / "state"
        cache = self.folder / "cache"
        copy = self.folder / f"{peer}-copy"
        client = agent_over_ssh(self.server, self.folder, state)
        last: list[SyncResult] = []

        def before() -> None:
            nonlocal state, cache, copy, client
            if fresh:
                number = next(self.targets)
                state, cache, copy = (self.folder / f"{kind}-{number}" for kind in ("state", "cache", "copy"))
                client = agent_over_ssh(self.server, self.folder, state)
            client.version()
            if change:
                # Another size each time: rsync takes a file of the same size and second for the same.
                (self.project / "0" / "0.py").write_text("VALUE = 0\n" * (1 + next(self.changes)))

        def ours() -> None:
            last[:] = [sync(self.project, client, "benchmark", cache=cache)]

        result = interleaved(
            what,
            ours,
            peer,
            lambda: self._copy(peer, copy),
            rounds=5 if peer == "rsync" else 3,
            before=before,
            target=target,
        )
        expected = {"first": FILES, "nothing changed": 0, "one changed": 1}[what.rpartition(", ")[2]]
        if last[0].files_sent != expected:
            raise RuntimeError(f"{what}: {last[0].files_sent} files went over, not {expected}")
        return result

    def _copy(self, peer: str, target: Path) -> None:
        there = f"{self.server.user}@127.0.0.1:{target}"
        if peer == "rsync":
            shell = " ".join(self.server.ssh())
            command(
                ["rsync", "-a", "--delete", "--exclude=/.git", "-e", shell, f"{self.project}/", f"{there}/"]
            )()
        else:
            # scp puts the folder into one that exists, so what it is given is the folder's content.
            target.mkdir(exist_ok=True)
            content = [str(path) for path in self.project.iterdir() if path.name != ".git"]
            command(
                [
                    "scp",
                    "-q",
                    "-r",
                    *self.server.options(),
                    "-P",
                    str(self.server.port),
                    *content,
                    f"{there}/",
                ]
            )()


def make_project(folder: Path) -> Path:
    """Ten thousand committed source files of about a kilobyte, no two alike."""
    project = folder / "project"
    chance = random.Random(0)
    for number in range(FILES):
        path = project / str(number % FOLDERS) / f"{number // FOLDERS}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (f"VALUE_{line} = {chance.getrandbits(64)}" for line in range(30))
        path.write_text("\n".join(lines) + "\n")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", "-C", str(project)]
    for arguments in (
        ["init", "--quiet", f"--separate-git-dir={folder / 'git'}"],
        ["add", "."],
        ["commit", "--quiet", "--message", "x"],
    ):
        subprocess.run([*git, *arguments], check=True, stdin=subprocess.DEVNULL)
    return project
