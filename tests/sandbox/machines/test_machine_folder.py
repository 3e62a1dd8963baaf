"""What is read of a machine's disk on this computer."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from runctl.sandbox.machines.machine_folder import own_text

KEYS = Path("home/user/.ssh/authorized_keys")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """With a home, beside a folder of this computer's that has the same files."""
    for folder in ("disk", "computer"):
        (tmp_path / folder / KEYS.parent).mkdir(parents=True)
    (tmp_path / "computer" / KEYS).write_text("secret")
    return tmp_path / "disk"


def test_a_file_is_read(disk: Path) -> None:
    (disk / KEYS).write_bytes(b"a key\xff")

    assert own_text(disk, KEYS) == "a key\ufffd"


def test_where_there_is_no_file_there_is_no_text(disk: Path) -> None:
    assert own_text(disk, KEYS) == ""
    assert own_text(disk, KEYS / "below") == ""
    (disk / KEYS).mkdir()
    assert own_text(disk, KEYS) == ""


@pytest.mark.parametrize("linked", [KEYS, *KEYS.parents[:-1]])
def test_no_link_is_followed_to_this_computer(disk: Path, linked: Path) -> None:
    if linked == KEYS:
        (disk / linked).symlink_to(disk.parent / "computer" / linked)
    else:
        (disk / linked).rename(disk / "before")
        (disk / linked).symlink_to(disk.parent / "computer" / linked)
    assert (disk / KEYS).read_text() == "secret"

    assert own_text(disk, KEYS) == ""


@pytest.mark.root
@pytest.mark.linux
def test_what_a_machine_has_deleted_is_not_there(disk: Path) -> None:
    os.mknod(disk / KEYS, stat.S_IFCHR, os.makedev(0, 0))

    assert own_text(disk, KEYS) == ""
