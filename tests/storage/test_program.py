"""The filling program as it is sent: complete, of this version, and runnable where nothing of ours is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from runctl.agent.fill.objects import Source
from runctl.storage.program import block_arguments, s3_arguments, write_project


def test_the_project_runs_by_itself_and_reads_all_of_a_device(tmp_path: Path) -> None:
    script = write_project(tmp_path / "program")
    device = tmp_path / "device"
    device.write_bytes(bytes(5_000_000))

    done = subprocess.run(
        [sys.executable, str(script), "blocks", str(device)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert '"event": "result"' in done.stdout.splitlines()[-1]
    assert '"bytes": 5000000' in done.stdout.splitlines()[-1]


def test_a_device_that_is_not_there_or_empty_is_an_error(tmp_path: Path) -> None:
    script = write_project(tmp_path / "program")
    (tmp_path / "empty").touch()

    for name, code in (("none", "no-device"), ("empty", "empty-device")):
        done = subprocess.run(
            [sys.executable, str(script), "blocks", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert f'"code": "{code}"' in done.stdout


def test_what_an_older_version_left_is_gone_and_what_is_right_is_not_written_again(tmp_path: Path) -> None:
    script = write_project(tmp_path)
    before = script.stat().st_mtime_ns
    (tmp_path / "runctl" / "agent" / "fill" / "old.py").write_text("")

    assert write_project(tmp_path) == script

    assert script.stat().st_mtime_ns == before
    assert not (tmp_path / "runctl" / "agent" / "fill" / "old.py").exists()


def test_the_same_wish_gives_the_same_words() -> None:
    words = s3_arguments(Source("b", "p"), "/mnt/d", region="eu-west-1", mount_point="/mnt/d", delete=True)

    assert words == (
        "s3",
        "s3://b/p",
        "/mnt/d",
        "--region",
        "eu-west-1",
        "--mount-point",
        "/mnt/d",
        "--delete",
    )
    assert block_arguments("vol-1") == ("blocks", "vol-1")
