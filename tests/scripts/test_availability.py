"""The markers' probes, and what CI makes of a skip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.availability import find_program, is_ci, is_excused, missing_programs

REPOSITORY = Path(__file__).parents[2]


def run_pytest(folder: Path, test: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one test file under this repository's conftest, in a process of its own."""
    package = folder / "tests"
    package.mkdir()
    for name in (
        "__init__.py",
        "aws_fixtures.py",
        "availability.py",
        "conftest.py",
        "forking.py",
        "ordering.py",
        "sandbox_fixture.py",
    ):
        (package / name).write_text((REPOSITORY / "tests" / name).read_text())
    shutil.copytree(REPOSITORY / "tests/forked", package / "forked", ignore=shutil.ignore_patterns("test_*"))
    (package / "test_it.py").write_text(test)
    markers = "\n".join(["[pytest]", "markers =", "    docker: x", "    root: x", "    sshd: x"])
    (folder / "pytest.ini").write_text(markers)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", str(package)],
        cwd=folder,
        env={**os.environ, "CI": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


NEEDS_SSHD = "import pytest\n@pytest.mark.sshd\ndef test_it():\n    pass\n"


def test_a_missing_program_is_named() -> None:
    assert missing_programs("sh", "no-such-program-anywhere") == "not installed: no-such-program-anywhere"


def test_daemons_are_found_outside_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = tmp_path / "exampled"
    daemon.write_text("#!/bin/sh\n")
    daemon.chmod(0o755)
    monkeypatch.setattr("tests.availability.SYSTEM_FOLDERS", (str(tmp_path),))
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_program("exampled") == str(daemon)


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "yes"])
def test_ci_is_recognised(value: str) -> None:
    assert is_ci({"CI": value})


@pytest.mark.parametrize("environment", [{}, {"CI": ""}, {"CI": "false"}, {"CI": "0"}])
def test_no_ci_is_recognised(environment: dict[str, str]) -> None:
    assert not is_ci(environment)


def test_only_another_platform_excuses_a_skip() -> None:
    assert is_excused("Skipped: only on macOS")
    assert is_excused("Skipped: terraform: only on computers with Terraform: not installed: terraform")
    assert not is_excused("Skipped: sshd: not installed: sshd")


def test_a_missing_tool_skips_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = run_pytest(tmp_path, _without_sshd(NEEDS_SSHD), PATH=str(tmp_path / "bin"))
    assert "1 skipped" in done.stdout, done.stdout + done.stderr
    assert "sshd: not installed: sshd" in done.stdout


def test_a_missing_tool_fails_in_ci(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = run_pytest(tmp_path, _without_sshd(NEEDS_SSHD), PATH=str(tmp_path / "bin"), CI="true")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout or "1 error" in done.stdout


def test_a_skip_inside_a_test_fails_in_ci(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "import pytest\ndef test_it():\n    pytest.skip('no luck')\n", CI="true")
    assert done.returncode == 1, done.stdout + done.stderr


def test_a_skip_for_another_platform_passes_in_ci(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path, "import pytest\ndef test_it():\n    pytest.skip('only on Plan 9')\n", CI="true"
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_account_of_the_user_is_visible() -> None:
    kept = {"AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"}
    assert {name for name in os.environ if name.startswith("AWS_")} <= kept
    assert not Path(os.environ["AWS_CONFIG_FILE"]).exists()


def _without_sshd(test: str) -> str:
    return "import tests.availability as a\na.SYSTEM_FOLDERS = ()\n" + test
