"""The filling program as machines have it, in the packed agent: it reads every block of a device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def read(built: Path, device: Path) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(built), "fill", "blocks", str(device)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_all_of_a_device_is_read(built: Path, tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(bytes(5_000_000))

    code, said = read(built, device)

    assert code == 0
    assert (said["event"], said["bytes"]) == ("result", 5_000_000)


def test_a_device_that_is_not_there_or_empty_is_an_error(built: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    for name, expected in (("none", "no-device"), ("empty", "empty-device")):
        code, said = read(built, tmp_path / name)
        assert code == 1
        assert said["code"] == expected
