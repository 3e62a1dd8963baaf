"""Projects as runs were given them, kept on this computer: by a run's next attempt the folder may have changed.

Below one folder: ``trees/DIGEST.json`` is a tree's manifest, ``contents/AB/SHA256`` a file. Files that several trees
have are there once, and a project that has not changed costs one look. Nothing here is needed by a run that goes on.

Several commands keep and prune at a time: who keeps a tree holds a shared lock until a recipe names it, and who prunes
needs the lock alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from runctl._dataclasses import dataclass
from runctl.agent.trees.manifest import Entry, Manifest, contents, fault_in
from runctl.core.errors import NotFound, ProjectError
from runctl.core.files import cache_folder, data_folder, make_private_folder
from runctl.core.progress import SILENT, Progress
from runctl.core.text import size
from runctl.project.caches import SentTrees, write_atomically
from runctl.project.delivery import Delivery, Sent
from runctl.project.inside import open_file
from runctl.project.manifest import write_pack
from runctl.project.sync import SyncTarget

LARGEST_TREE = 1 << 30
"""Bytes of files; a larger project is not kept."""
LARGEST_PACK = LARGEST_TREE + (1 << 26)
"""Bytes of what such a project is packed into, in the worst case."""
_CHUNK = 1 << 20
_LEFTOVER = 24 * 3600
"""Seconds after which what is not complete stays so: no command takes that long."""
_DIGEST_LENGTH = 64


class NotKept(ProjectError):
    """A project could not be kept; the message says why."""

    code = "project-not-kept"


@dataclass(frozen=True)
class Kept:
    """A tree that is kept."""

    digest: str
    changed: tuple[str, ...] = ()
    """Files that are not as they were sent: they have changed while the project was kept."""
    gone: tuple[str, ...] = ()
    """Files that were sent and are not kept: they were removed meanwhile."""


class KeptProjects:
    """The trees that are kept in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trees = folder / "trees"
        self._contents = folder / "contents"

    @contextmanager
    def holding(self) -> Iterator[None]:
        """In the block nothing goes that is kept, whether or not a recipe names it yet."""
        # Where no lock can be had nothing can be pruned either.
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                stack.enter_context(self._locked(fcntl.LOCK_SH))
            yield

    def has(self, digest: str) -> bool:
        """Whether the tree can be sent from here."""
        try:
            manifest = self._manifest(digest)
        except NotFound:
            return False
        return all(self._has(*each) for each in contents(manifest.entries.values()).items())

    def keep(self, root: Path, manifest: Manifest) -> Kept:
        """The files of the tree, found below ``root``, are here: those that have changed meanwhile as they are now, as
        a log that is written in the project, and without those that are gone. Raises `NotKept`."""
        with self.holding():
            return self._keep(root, manifest)

    def _keep(self, root: Path, manifest: Manifest) -> Kept:
        if self.has(manifest.digest):
            return Kept(manifest.digest)
        wanted = contents(manifest.entries.values())
        total = sum(wanted.values())
        if total > LARGEST_TREE:
            raise NotKept(
                f"the project has {size(total)}; up to {size(LARGEST_TREE)} are kept for further attempts"
            )
        try:
            make_private_folder(self._trees)
            make_private_folder(self._contents)
            changed: dict[str, Entry] = {}
            gone: list[str] = []
            for path, entry in manifest.entries.items():
                if entry[0] == "f" and not self._has(entry[3], entry[2]):
                    try:
                        file = open_file(root, path)
                    except FileNotFoundError:
                        if not root.is_dir():
                            raise
                        gone.append(path)
                        continue
                    size_bytes, sha = self._take(file)
                    if sha != entry[3]:
                        changed[path] = ["f", entry[1], size_bytes, sha]
            tree = manifest.with_changes(changed, gone) if changed or gone else manifest
            # Last: a tree is kept once its manifest is there.
            write_atomically(self._trees / f"{tree.digest}.json", tree.text.encode("ascii"))
        except (OSError, ProjectError) as error:
            why = error.message if isinstance(error, ProjectError) else error.strerror or error
            raise NotKept(f"the project cannot be kept for further attempts: {why}") from error
        return Kept(tree.digest, tuple(sorted(changed)), tuple(sorted(gone)))

    def send(
        self, digest: str, project: str, target: SyncTarget, machine: str, progress: Progress = SILENT
    ) -> Sent:
        """The tree is the current one of ``project`` on the machine.

        Raises `NotFound` (code ``project-not-kept``), and what `Delivery.deliver` raises.
        """
        manifest = self._manifest(digest)
        with self._laid_out(manifest) as root, target.trees(project, digest) as session:
            status = session.status()
            if status["have"] and status["current"]:
                return Sent()
            sent = Delivery(root, project, manifest, session, progress).deliver(None)
        sent_trees = SentTrees(cache_folder() / "sent", machine, project)
        sent_trees.keep(sent_trees.stage(manifest))
        return sent

    @contextmanager
    def packed(self, digest: str) -> Iterator[tuple[str, Path]]:
        """The tree's manifest, and a file with all of its contents as `write_pack` packs them, gone afterwards.

        Raises `NotFound` (code ``project-not-kept``).
        """
        manifest = self._manifest(digest)
        with (
            self._laid_out(manifest) as root,
            tempfile.NamedTemporaryFile(dir=self._trees, prefix=".pack-") as file,
        ):
            sink: Any = file
            write_pack(root, manifest.entries, contents(manifest.entries.values()), sink)
            file.flush()
            yield manifest.text, Path(file.name)

    @contextmanager
    def receiving(self, text: str, digest: str) -> Iterator[IO[bytes]]:
        """The tree is kept, by its manifest ``text`` and the pack that the block has written.

        Both come from a store, which others can write to as well: no path of it leads out of the tree, and no more is
        unpacked than the manifest says. Raises `NotKept`.
        """
        manifest = _checked(text, digest)
        wanted = contents(manifest.entries.values())
        total = sum(wanted.values())
        if total > LARGEST_TREE:
            raise NotKept(f"the project has {size(total)}; up to {size(LARGEST_TREE)} are kept")
        with self.holding():
            yield from self._receiving(manifest, wanted)

    def _receiving(self, manifest: Manifest, wanted: Mapping[str, int]) -> Iterator[IO[bytes]]:
        make_private_folder(self._trees)
        make_private_folder(self._contents)
        with tempfile.TemporaryFile(dir=self._contents) as pack:
            yield pack
            pack.seek(0)
            try:
                with gzip.GzipFile(fileobj=pack, mode="rb") as stream:
                    for sha, length in _packed(stream, wanted):
                        self._receive(stream, length, sha)
            except (OSError, EOFError, ValueError, TypeError, RecursionError, zlib.error) as error:
                raise NotKept(f"the project cannot be unpacked: {error}") from error
        missing = [sha for sha, size_bytes in wanted.items() if not self._has(sha, size_bytes)]
        if missing:
            raise NotKept(f"the project's pack lacks {len(missing)} of its files")
        write_atomically(self._trees / f"{manifest.digest}.json", manifest.text.encode("ascii"))

    def _receive(self, stream: gzip.GzipFile, length: int, sha: str) -> None:
        """The content that comes next in the stream is here. Raises `ValueError` where it is another one."""
        partial, *found = self._copied(stream, length)
        if found != [length, sha]:
            partial.unlink()
            raise ValueError(f"{sha} has another checksum")
        self._place(partial, sha)

    def prune(self, needed: Callable[[], Collection[str]]) -> None:
        """Trees that are not ``needed`` are gone, with the files that only they had; while somebody keeps one, none.

        Who is needed is asked once nobody can keep another.
        """
        with contextlib.suppress(OSError), self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
            self._prune(needed())

    def _prune(self, needed: Collection[str]) -> None:
        self._remove_leftovers()
        with contextlib.suppress(OSError):
            trees = list(self._trees.glob("*.json"))
            unneeded = [path for path in trees if path.stem not in needed]
            if not unneeded:
                return
            for path in unneeded:
                path.unlink(missing_ok=True)
            kept: set[str] = set()
            for path in trees:
                if path.stem in needed:
                    kept |= contents(Manifest(text=path.read_text("ascii")).entries.values()).keys()
            for path in self._contents.glob("*/*"):
                if path.name not in kept and len(path.name) == _DIGEST_LENGTH:
                    path.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """What a killed command has left is gone: files half written, and folders to send from."""
        for path in (*self._trees.glob(".*"), *self._contents.glob("*")):
            with contextlib.suppress(OSError):
                found = path.lstat()
                is_folder = stat.S_ISDIR(found.st_mode)
                if (is_folder and path.parent == self._contents) or found.st_mtime > time.time() - _LEFTOVER:
                    continue
                if is_folder:
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()

    @contextmanager
    def _locked(self, mode: int) -> Iterator[None]:
        """Raises `OSError`, and with ``LOCK_NB`` its `BlockingIOError`."""
        make_private_folder(self._folder)
        with (self._folder / "lock").open("ab") as file:
            fcntl.flock(file, mode)
            yield

    def _content(self, sha: str) -> Path:
        return self._contents / sha[:2] / sha

    def _has(self, sha: str, size_bytes: int) -> bool:
        """Whether the file is here, and whole: a power cut leaves short ones."""
        try:
            return self._content(sha).stat().st_size == size_bytes
        except OSError:
            return False

    def _take(self, source: BinaryIO) -> tuple[int, str]:
        """The file as it is now is here, and closed; its size and its hash."""
        with source as file:
            # No more than there is at first: a file that grows as fast as it is copied has no end.
            partial, size_bytes, sha = self._copied(file, os.fstat(file.fileno()).st_size)
        self._place(partial, sha)
        return size_bytes, sha

    def _copied(self, source: IO[bytes] | gzip.GzipFile, left: int) -> tuple[Path, int, str]:
        """A new file with up to ``left`` bytes; how many there were, and their SHA-256."""
        descriptor, name = tempfile.mkstemp(dir=self._contents)
        digest, size_bytes = hashlib.sha256(), 0
        try:
            with open(descriptor, "wb") as copy:  # noqa: PTH123
                while data := source.read(min(_CHUNK, left)):
                    digest.update(data)
                    copy.write(data)
                    size_bytes += len(data)
                    left -= len(data)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name), size_bytes, digest.hexdigest()

    def _place(self, partial: Path, sha: str) -> None:
        target = self._content(sha)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        partial.replace(target)

    def check(self, digest: str) -> None:
        """Raises `NotFound` where the tree is not kept."""
        self._manifest(digest)

    def _manifest(self, digest: str) -> Manifest:
        try:
            return _checked((self._trees / f"{digest}.json").read_text("ascii"), digest)
        except (OSError, UnicodeDecodeError, NotKept) as error:
            raise NotFound(
                "the project's files of this run are not kept on this computer",
                hint="start a new run from its checkpoints: runctl PROVIDER train … --resume-from RUN",
                code="project-not-kept",
            ) from error

    @contextmanager
    def _laid_out(self, manifest: Manifest) -> Iterator[Path]:
        """The files at their paths, in a folder that is gone afterwards."""
        root = Path(tempfile.mkdtemp(prefix=".send-", dir=self._trees))
        try:
            for path, entry in manifest.entries.items():
                if entry[0] != "f":
                    continue
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                # What it holds is checked when it is packed.
                os.link(self._content(entry[3]), root / path)
            yield root
        except FileNotFoundError as error:
            raise NotFound(
                "some of the project's files of this run are not kept on this computer any more",
                hint="start a new run from its checkpoints: runctl PROVIDER train … --resume-from RUN",
                code="project-not-kept",
            ) from error
        finally:
            shutil.rmtree(root, ignore_errors=True)


def _checked(text: str, digest: str) -> Manifest:
    """The tree's manifest. Raises `NotKept` for another text, and for one by which something could be written outside
    of a tree's folder."""
    manifest = Manifest(text=text)
    try:
        fault = "" if manifest.digest == digest else "its checksum is another one"
        fault = fault or fault_in(manifest.entries, manifest)
    except (ValueError, RecursionError) as error:
        fault = str(error)
    if fault:
        raise NotKept(f"the description of the project cannot be used: {fault}")
    return manifest


def _packed(stream: gzip.GzipFile, wanted: Mapping[str, int]) -> list[tuple[str, int]]:
    """The SHA-256 and size of each content that follows. Raises `ValueError` for what the manifest does not have."""
    # With the quotes, brackets and commas, and a size of up to 20 digits.
    longest = len(wanted) * (_DIGEST_LENGTH + 26) + 16
    header = [(sha, length) for sha, length in json.loads(stream.readline(longest))]
    if len(header) > len(wanted) or any(wanted.get(sha) != length for sha, length in header):
        raise ValueError("its pack has other files than its description")
    return header


def kept_projects() -> KeptProjects:
    """Those of this user."""
    return KeptProjects(data_folder() / "projects")


def sent_manifest(machine: str, project: str, digest: str) -> Manifest | None:
    """What the machine was sent, where that is still known here."""
    return SentTrees(cache_folder() / "sent", machine, project).read(digest)
