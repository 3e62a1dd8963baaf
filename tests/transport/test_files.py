"""A machine's file in pieces: every byte at its place, over each transport, and nothing that was not asked for."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from runctl.agent import package
from runctl.agent.files import protocol
from runctl.core.errors import Conflict, MachineError, NotFound, Unreachable
from runctl.core.files import cache_folder
from runctl.storage.copying import BATCH_BYTES, copy
from runctl.testing.clock import ManualClock
from runctl.transport.agent import AgentClient
from runctl.transport.files import Entry, MachineFiles, Piece, _PieceReader
from runctl.transport.interface import Transport
from runctl.transport.local import LocalTransport

NOT_UTF_8 = tuple(map(os.fsdecode, (b"stra\xdfe", b"link\xff"))) if sys.platform == "linux" else ()
"""Names that Linux has and a Mac's disk refuses."""
BEFORE_1970 = -86_400.0


def test_pieces_of_a_file_are_read(transport: Transport, tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "file").write_bytes(data)
    agent = AgentClient(
        transport,
        agent_file=lambda: package.build(cache_folder() / "agent"),
        state_directory=str(tmp_path / "state"),
    )
    files, found = MachineFiles(agent), bytearray(len(data))

    def put(at: int, piece: bytes) -> None:
        found[at : at + len(piece)] = piece

    size = files.size(str(tmp_path / "file"))
    assert size == len(data)
    files.fetch_file(str(tmp_path / "file"), [(1000, len(data)), (0, 1000)], put)
    assert bytes(found) == data
    assert (files.size(str(tmp_path)), files.size(str(tmp_path / "none"))) == (None, None)
    with pytest.raises(MachineError, match="cannot read"):
        files.fetch_file(str(tmp_path / "none"), [(0, 1)], put)


def machine_files(transport: Transport, folder: Path) -> MachineFiles:
    return MachineFiles(
        AgentClient(
            transport,
            agent_file=lambda: package.build(cache_folder() / "agent"),
            state_directory=str(folder / "state"),
        )
    )


def tree(folder: Path) -> dict[str, tuple[str, int, bytes]]:
    """Every file, folder and link below a folder, with its mode and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name, mode = path.relative_to(folder).as_posix(), path.lstat().st_mode & 0o777
        if path.is_symlink():
            found[name] = ("link", 0, os.fsencode(path.readlink()))
        else:
            found[name] = ("folder", mode, b"") if path.is_dir() else ("file", mode, path.read_bytes())
    return found


@pytest.mark.parametrize("towards", ["the machine", "this computer"])
def test_a_folder_is_copied_with_its_modes_and_links_and_a_second_time_nothing_is_sent(
    transport: Transport, tmp_path: Path, towards: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "deep/target"
    (source / "a/b").mkdir(parents=True)
    (source / "a/b/big").write_bytes(os.urandom(BATCH_BYTES + 12345))
    (source / "a/run.sh").write_text("#!/bin/sh\n")
    (source / "a/run.sh").chmod(0o750)
    (source / "ünï *").write_text("x")
    (source / "empty").touch()
    (source / "a/inside").symlink_to("../empty")
    os.utime(source / "a/run.sh", (BEFORE_1970, BEFORE_1970))
    for name in NOT_UTF_8:
        (source / name).symlink_to("empty") if name.startswith("link") else (source / name).write_text(
            name[:1]
        )
    machine, here = machine_files(transport, tmp_path), machine_files(LocalTransport(), tmp_path / "here")
    item, other = (here, machine) if towards == "the machine" else (machine, here)

    first = copy(item, str(source), other, str(target))
    kept = (target / "a/b/big").stat().st_mtime_ns
    second = copy(item, str(source), other, str(target))

    assert tree(target) == tree(source)
    files = 4 + sum(not name.startswith("link") for name in NOT_UTF_8)
    assert (first.files, first.sent_files) == (files, files)
    assert (second.files, second.sent_bytes) == (files, 0)
    assert (target / "a/run.sh").stat().st_mtime == BEFORE_1970
    assert (target / "a/b/big").stat().st_mtime_ns == kept == (source / "a/b/big").stat().st_mtime_ns


class Breaking(MachineFiles):
    """Loses its connection after so many answers; below 0, before any."""

    def __init__(self, files: MachineFiles, breaks: int) -> None:
        super().__init__(files._agent)
        self.breaks, self.stored = breaks, 0

    def store(self, root: str, pieces: Sequence[Piece], data: BinaryIO) -> None:
        if self.breaks < 0:
            raise Unreachable("there is no connection")
        super().store(root, pieces, data)
        self.stored += sum(piece.length for piece in pieces)
        if self.breaks:
            self.breaks -= 1
            raise Unreachable("the connection broke")


def test_a_broken_copy_goes_on_where_it_was(tmp_path: Path) -> None:
    here = machine_files(LocalTransport(), tmp_path)
    size = 3 * BATCH_BYTES + 7
    (tmp_path / "file").write_bytes(os.urandom(size))
    (tmp_path / "folder").mkdir()

    with pytest.raises(Unreachable) as caught:
        copy(here, str(tmp_path / "file"), Breaking(here, -1), str(tmp_path / "gone"), clock=ManualClock())
    assert "to continue" in caught.value.hint
    assert not (tmp_path / "gone").exists()
    target = Breaking(here, 2)
    done = copy(here, str(tmp_path / "file"), target, str(tmp_path / "folder"), clock=ManualClock())

    assert (tmp_path / "folder/file").read_bytes() == (tmp_path / "file").read_bytes()
    assert target.stored == size
    assert done.target == str(tmp_path / "folder/file")


class Writing(MachineFiles):
    """A folder in which something happens before each listing is answered, or before each file is given."""

    def __init__(self, files: MachineFiles, happens: Callable[[int], None]) -> None:
        super().__init__(files._agent)
        self.happens, self.times = happens, 0

    def fetch(
        self, root: str, pieces: Sequence[Piece], on_bytes: Callable[[Piece, int, bytes], None]
    ) -> None:
        self.times += 1
        self.happens(self.times)
        super().fetch(root, pieces, on_bytes)


def test_a_script_that_goes_on_writing_keeps_nothing_else_from_being_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in ("checkpoint-500", "checkpoint-1000", "growing", "last.pt", "log"):
        (source / name).write_text("x" * 100)

    def happens(times: int) -> None:
        (source / "checkpoint-500").unlink(missing_ok=True)
        if times == 1:
            (source / "log").write_text("shorter")
        (source / "growing").write_text(f"{times:4d}")

    here = machine_files(LocalTransport(), tmp_path)
    done = copy(Writing(here, happens), str(source), here, str(target), clock=ManualClock())

    assert (done.skipped, done.changed) == ((), ("growing",))
    assert {path.name for path in target.iterdir() if not path.name.startswith(".")} == {
        *("checkpoint-1000", "last.pt", "log")
    }
    assert (target / "log").read_text() == "shorter"
    assert done.files == 3


def test_what_cannot_be_read_is_no_change(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("x")
    (source / "b").write_text("x")
    here = machine_files(LocalTransport(), tmp_path)

    class Refusing(MachineFiles):
        def fetch(
            self, root: str, pieces: Sequence[Piece], on_bytes: Callable[[Piece, int, bytes], None]
        ) -> None:
            # A file of its own is asked for by its own path, with nothing below it.
            if any(piece.path in {"b", ""} for piece in pieces):
                raise MachineError("cannot read b: Input/output error", code="cannot-read")
            super().fetch(root, pieces, on_bytes)

    with pytest.raises(MachineError, match="cannot read b"):
        copy(Refusing(here._agent), str(source), here, str(tmp_path / "target"), clock=ManualClock())
    with pytest.raises(MachineError, match="cannot read b"):
        copy(Refusing(here._agent), str(source / "b"), here, str(tmp_path / "b"), clock=ManualClock())
    assert (tmp_path / "target/a").read_text() == "x"


@pytest.mark.parametrize("gone", ["file", "folder"])
def test_what_is_gone_while_a_folder_is_looked_at_was_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    (tmp_path / "a/folder").mkdir(parents=True)
    for name in ("file", "folder/in it", "kept"):
        (tmp_path / "a" / name).write_text("x")
    entry = protocol._found

    def found(each: os.DirEntry[str], *rest: Any) -> Iterator[list[Any]]:
        if each.name == gone:
            shutil.rmtree(each.path) if gone == "folder" else Path(each.path).unlink()
        return entry(each, *rest)

    monkeypatch.setattr(protocol, "_found", found)

    listed = protocol.files({"path": str(tmp_path / "a"), "hash": True})

    assert listed["kind"] == "folder"
    assert gone not in [each[0] for each in listed["entries"]]
    assert "kept" in [each[0] for each in listed["entries"]]


def test_what_would_write_elsewhere_is_refused_or_left_out(tmp_path: Path) -> None:
    here = machine_files(LocalTransport(), tmp_path)
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "out").symlink_to("/etc")
    (source / "up").symlink_to("../../x")
    os.mkfifo(source / "pipe")
    (source / "d").mkdir()
    (source / "d/file").write_text("x")
    assert set(copy(here, str(source), here, str(target)).skipped) == {"out", "up", "pipe"}

    (tmp_path / "elsewhere").mkdir()
    (target / "d/file").unlink()
    (target / "d").rmdir()
    (target / "d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MachineError, match="a link is in the way"):
        copy(here, str(source), here, str(target))
    assert list((tmp_path / "elsewhere").iterdir()) == []
    with pytest.raises(MachineError, match="leads out"):
        here.finish(str(target), [], [Entry("a/l", "l", 0, 0, 0, "../../x")])
    with pytest.raises(MachineError, match="not a path below"):
        here.store(str(target), [Piece("../x", 0, 0)], io.BytesIO())
    with pytest.raises(Conflict, match="is a file"):
        copy(here, str(source), here, str(source / "d/file"))
    with pytest.raises(NotFound, match="there is no"):
        copy(here, str(tmp_path / "none"), here, str(target))


def test_a_file_that_arrives_damaged_takes_no_place(tmp_path: Path) -> None:
    here = machine_files(LocalTransport(), tmp_path)
    piece = Piece("file", 0, 3, 3, hashlib.sha256(b"abc").hexdigest())
    with pytest.raises(MachineError, match="damaged"):
        here.store(str(tmp_path / "t"), [piece], io.BytesIO(b"abd"))
    assert list((tmp_path / "t").iterdir()) == []
    here.store(str(tmp_path / "t"), [piece], io.BytesIO(b"abc"))
    assert (tmp_path / "t/file").read_bytes() == b"abc"


@pytest.mark.parametrize(
    "stream",
    [
        b'{"length":11}\n',
        b'{"length":-1}\n',
        b'{"done":true}\n',
        b"x\n",
        b"[" * 70_000,
        b'{"length":1}\nx{"length":1}\n',
    ],
)
def test_what_was_not_asked_for_is_the_machines_error(stream: bytes) -> None:
    with pytest.raises(MachineError):
        _PieceReader([Piece("", 0, 10)], lambda piece, at, data: None).feed(stream)
