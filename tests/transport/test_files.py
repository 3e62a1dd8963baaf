"""A machine's file in pieces: every byte at its place, over each transport, and nothing that was not asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.agent import package
from runctl.core.errors import MachineError
from runctl.transport.agent import AgentClient
from runctl.transport.files import MachineFiles, _PieceReader
from runctl.transport.interface import Transport


def test_pieces_of_a_file_are_read(transport: Transport, tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "file").write_bytes(data)
    agent = AgentClient(
        transport,
        agent_file=lambda: package.build(tmp_path / "cache"),
        state_directory=str(tmp_path / "state"),
    )
    files, found = MachineFiles(agent), bytearray(len(data))

    def put(at: int, piece: bytes) -> None:
        found[at : at + len(piece)] = piece

    size = files.size(str(tmp_path / "file"))
    assert size == len(data)
    files.fetch(str(tmp_path / "file"), [(1000, len(data)), (0, 1000)], put)
    assert bytes(found) == data
    assert (files.size(str(tmp_path)), files.size(str(tmp_path / "none"))) == (None, None)
    with pytest.raises(MachineError, match="cannot read"):
        files.fetch(str(tmp_path / "none"), [(0, 1)], put)


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
        _PieceReader([(0, 10)], lambda at, data: None).feed(stream)
