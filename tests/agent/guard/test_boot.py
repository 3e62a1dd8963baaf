"""Programs that start with the machine, by systemd and without it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from runctl.agent.guard.boot import replace_file, script, unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_a_unit_is_what_systemd_reads(tmp_path: Path) -> None:
    path = tmp_path / "runctl-test.service"
    path.write_text(unit("End it", ["/bin/echo", "a b", "50%", "$x", 'a"b'], {"A": "b c%"}, "root"))

    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_is_killed_is_started_anew_until_it_ends_well(tmp_path: Path) -> None:
    program = 'echo "$TOLD $1" >>"$2"; [ "$(wc -l <"$2")" -ge 3 ] || kill -9 $$; mv "$2" "$2.done"'
    argv = ["sh", "-c", program, "sh", "it's 1", str(tmp_path / "calls")]
    path = tmp_path / "script"
    replace_file(path, script(argv, {"TOLD": "a b"}, "root"), 0o755)

    with subprocess.Popen([str(path)]) as started:
        assert started.wait(10) == 0  # a boot is not kept waiting
    done = tmp_path / "calls.done"
    subprocess.run(["sh", "-c", f"until [ -e {done} ]; do sleep 0.05; done"], timeout=30, check=True)

    assert done.read_text() == "a b it's 1\n" * 3
