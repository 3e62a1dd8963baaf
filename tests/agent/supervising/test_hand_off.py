"""The parts of a hand-over that must not take longer than the machine lives."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.checkpoints import choosing
from runctl.agent.interruption import Notice, plan_end
from runctl.agent.supervising.hand_off import Background, HandOver, checksum_of
from tests.agent.checkpoints.samples import put


def test_the_checksum_of_a_folder_is_that_of_what_sha256sum_prints(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    (folder / "optimizer").mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "optimizer/state").write_bytes(b"moments" * 1_000_000)
    printed = subprocess.run(
        ["sha256sum", "model.bin", "optimizer/state"], cwd=folder, capture_output=True, check=True
    ).stdout
    later = time.time() + 60
    assert checksum_of(folder, later) == hashlib.sha256(printed).hexdigest()
    assert checksum_of(folder / "model.bin", later) == hashlib.sha256(b"weights").hexdigest()
    assert checksum_of(folder, time.time()) is None


def test_what_hangs_or_fails_is_given_up() -> None:
    release = threading.Event()
    assert Background(release.wait).result(0.05) is None
    release.set()

    def fails() -> str:
        raise OSError("Input/output error")

    assert Background(fails).result(10) is None
    assert Background(lambda: "done").result(10) == "done"


@pytest.mark.parametrize(("left", "read"), [(3600.0, True), (-1.0, False)])
def test_a_checkpoint_is_checked_no_longer_than_until_its_volume_is_to_be_unmounted(
    left: float, read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "step-1/weights.bin", b"weights")
    put(tmp_path, "step-1/SHA256SUMS", hashlib.sha256(b"weights").hexdigest().encode() + b"  weights.bin\n")
    newest, over = choosing.newest, threading.Event()
    was_read: list[bool] = []

    def noting(*arguments: Any) -> choosing.Choice:
        try:
            choice = newest(*arguments)
            was_read.append(choice.chosen == tmp_path / "step-1")
            return choice
        finally:
            over.set()

    monkeypatch.setattr(choosing, "newest", noting)
    attempt: Any = SimpleNamespace(
        stages={},
        spec=SimpleNamespace(mounts=()),
        folders=SimpleNamespace(checkpoints=tmp_path),
        log=SimpleNamespace(line=lambda _: None),
        plan_for=lambda notice: plan_end(notice.machine_ends_at, None, has_volumes=False),
    )

    HandOver(attempt, Notice(time.time() + left)).verify(killed=False)

    assert over.wait(60)
    assert was_read == [True] * read
