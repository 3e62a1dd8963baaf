"""The parts of a hand-over that must not take longer than the machine lives."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import time
from pathlib import Path

from runctl.agent.supervising.hand_off import Background, checksum_of


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
