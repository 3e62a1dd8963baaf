"""The project's folder of an image, rewritten for the run's user."""

from __future__ import annotations

import io
import tarfile
from pathlib import PurePosixPath

import pytest

from runctl.agent.containers.container_folder import numeric, rewrite, written

OWNER = (1000, 1001)
FOLDER = PurePosixPath("/workspace")


def image_folder(*entries: tuple[str, bytes | None, int], uid: int = 0) -> tarfile.TarFile:
    """As ``docker cp`` gives it: ``None`` for a folder."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data, mode in entries:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            entry.mode, entry.uid, entry.size = mode, uid, len(data or b"")
            archive.addfile(entry, io.BytesIO(data or b""))
    sink.seek(0)
    return tarfile.open(fileobj=sink, mode="r|")


ENTRIES = (
    ("workspace", None, 0o755),
    ("workspace/a", None, 0o555),
    ("workspace/a/x.py", b"code", 0o444),
    ("workspace/data", None, 0o755),
    ("workspace/data/big", b"12345678", 0o644),
    ("workspace/run", b"!", 0o4755),
)


def rewritten(sink: io.BytesIO) -> dict[str, int]:
    sink.seek(0)
    with tarfile.open(fileobj=sink) as archive:
        assert {(entry.uid, entry.gid) for entry in archive} == {OWNER}
        return {item.name: item.mode for item in archive}


def test_everything_is_the_users_and_nothing_runs_with_more_rights() -> None:
    sink = io.BytesIO()
    assert rewrite(image_folder(*ENTRIES), sink, OWNER, FOLDER) is True
    assert rewritten(sink) == {
        "workspace": 0o755,
        "workspace/a": 0o755,
        "workspace/a/x.py": 0o644,
        "workspace/data": 0o755,
        "workspace/data/big": 0o644,
        "workspace/run": 0o755,
    }


def test_what_is_mounted_is_left_alone() -> None:
    sink = io.BytesIO()
    rewrite(image_folder(*ENTRIES), sink, OWNER, FOLDER, ["/workspace/data"])
    assert not any(name.startswith("workspace/data") for name in rewritten(sink))


def test_of_a_large_folder_only_the_folders_are_rewritten() -> None:
    sink = io.BytesIO()
    assert rewrite(image_folder(*ENTRIES), sink, OWNER, FOLDER, rewritten_bytes=8) is False
    assert list(rewritten(sink)) == ["workspace", "workspace/a", "workspace/data"]


def test_of_a_very_large_one_those_that_were_seen() -> None:
    sink = io.BytesIO()
    assert rewrite(image_folder(*ENTRIES), sink, OWNER, FOLDER, read_bytes=3) is False
    assert list(rewritten(sink)) == ["workspace", "workspace/a"]


def test_there_is_nothing_to_do_where_the_folder_is_the_users_or_no_folder() -> None:
    owned = tarfile.TarInfo("workspace")
    owned.type, (owned.uid, owned.gid) = tarfile.DIRTYPE, OWNER
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        archive.addfile(owned)
    sink.seek(0)
    with tarfile.open(fileobj=sink, mode="r|") as archive:
        assert rewrite(archive, io.BytesIO(), OWNER, FOLDER) is None
    assert rewrite(image_folder(("workspace", b"file", 0o644)), io.BytesIO(), OWNER, FOLDER) is None


@pytest.mark.parametrize(
    ("user", "found"),
    [("1000:100", (1000, 100)), ("1000", None), ("ml", None), ("ml:ml", None), ("", None)],
)
def test_only_numbers_can_be_given_a_folder(user: str, found: tuple[int, int] | None) -> None:
    assert numeric(user) == found


def test_what_was_written_is_named_by_its_highest_folder() -> None:
    changes = [
        "C /workspace",
        "A /workspace/logs",
        "A /workspace/logs/version_0",
        "A /workspace/logs/version_0/events",
        "C /workspace/a",
        "A /workspace/a/b.csv",
        "A /workspace/a/__pycache__",
        "A /workspace/data",
        "D /workspace/old",
        "A /workspace2/x",
        "A /tmp/y",
    ]
    assert written(changes, "/workspace", ["/workspace/data"]) == ["a/b.csv", "logs"]
