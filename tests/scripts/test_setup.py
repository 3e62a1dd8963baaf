"""What scripts/lib.sh installs, when, and in what state it leaves the machine. apt-get is a stand-in that records."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

APT_GET = """\
#!/bin/sh
echo "$* policy: $("$POLICY" 2>/dev/null; echo $?)" >>"$CALLS"
case "$*" in
    *" update"*) : >"$UPDATED" ;;
    *) [ -z "$FAILS" ] || { [ "$FAILS" = once ] && [ -e "$UPDATED" ]; } || { echo 'E: no such thing'; exit 100; } ;;
esac
"""


@dataclass(frozen=True)
class Machine:
    """A folder that stands for the machine's programs and its policy."""

    folder: Path

    @property
    def policy(self) -> Path:
        return self.folder / "policy-rc.d"

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def run(
        self, program: str, *, apt_fails: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Source the library as scripts/test does, then run a few lines of shell."""
        lines = [f". {REPOSITORY / 'scripts' / 'lib.sh'}", f"POLICY={self.policy}", "export POLICY", program]
        variables = {
            "CALLS": str(self.folder / "calls"),
            "UPDATED": str(self.folder / "updated"),
            "FAILS": apt_fails,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        return subprocess.run(
            ["sh", "-euc", "\n".join(lines), str(REPOSITORY / "scripts" / "test")],
            env={**os.environ, **variables, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "bin").mkdir()
    apt_get = tmp_path / "bin" / "apt-get"
    apt_get.write_text(APT_GET)
    apt_get.chmod(0o755)
    return Machine(tmp_path)


MISSING = (
    "missing_packages() { echo sudo; echo rsync; echo sudo; }\nis_root() { true; }\nsystemctl() { :; }\n"
)


def test_what_is_missing_is_installed_once(machine: Machine) -> None:
    done = machine.run(f"{MISSING} system_packages")
    assert done.returncode == 0, done.stderr
    (call,) = machine.calls()
    assert " install rsync sudo " in f"{call.split(' policy:')[0]} "
    assert "Installing with apt: rsync sudo" in done.stderr


def test_apt_is_left_alone_when_nothing_is_missing(machine: Machine) -> None:
    done = machine.run("missing_packages() { :; }\nis_root() { true; }\nsystem_packages")
    assert done.returncode == 0, done.stderr
    assert machine.calls() == []


def test_the_package_lists_are_fetched_only_after_a_failure(machine: Machine) -> None:
    done = machine.run(f"{MISSING} system_packages", apt_fails="once")
    assert done.returncode == 0, done.stderr
    assert [
        next(word for word in ("update", "install") if f" {word}" in call) for call in machine.calls()
    ] == [
        "install",
        "update",
        "install",
    ]


def test_what_cannot_be_installed_is_an_error_that_shows_why(machine: Machine) -> None:
    done = machine.run(f"{MISSING} system_packages; echo went on", apt_fails="always")
    assert done.returncode == 1
    assert "E: no such thing" in done.stderr
    assert "error: apt could not install: rsync sudo" in done.stderr
    assert "went on" not in done.stdout


def test_no_daemon_may_start_while_packages_are_installed(machine: Machine) -> None:
    machine.run(f"{MISSING} system_packages")
    (call,) = machine.calls()
    assert call.endswith("policy: 101")


@pytest.mark.parametrize("apt_fails", ["", "always"])
def test_a_policy_that_was_not_there_is_not_there_afterwards(machine: Machine, apt_fails: str) -> None:
    machine.run(f"{MISSING} system_packages", apt_fails=apt_fails)
    assert machine.calls()
    assert not machine.policy.exists()


@pytest.mark.parametrize("apt_fails", ["", "always"])
def test_the_machines_own_policy_is_as_it_was(machine: Machine, apt_fails: str) -> None:
    machine.policy.write_text("#!/bin/sh\nexit 0\n")
    machine.policy.chmod(0o750)
    machine.run(f"{MISSING} system_packages", apt_fails=apt_fails)
    assert machine.calls()[0].endswith("policy: 101")
    assert machine.policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert machine.policy.stat().st_mode & 0o777 == 0o750
    assert sorted(path.name for path in machine.folder.glob("policy*")) == ["policy-rc.d"]


def test_the_policy_of_an_installation_that_was_killed_is_cleared_away(machine: Machine) -> None:
    machine.policy.with_suffix(".d.before-runctl").write_text("#!/bin/sh\nexit 0\n")
    machine.policy.write_text("#!/bin/sh\n# written by runctl while it installs packages\nexit 101\n")
    machine.run(f"{MISSING} system_packages")
    assert machine.policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert sorted(path.name for path in machine.folder.glob("policy*")) == ["policy-rc.d"]


def test_an_ordinary_user_is_told_what_is_left_out(machine: Machine) -> None:
    done = machine.run(f"{MISSING} is_root() {{ false; }}\nsystem_packages; tell_left_out")
    assert done.returncode == 0, done.stderr
    assert machine.calls() == []
    assert "only root may install them: apt-get install rsync sudo" in done.stderr


def test_apt_can_be_forbidden(machine: Machine) -> None:
    done = machine.run(f"{MISSING} system_packages; tell_left_out", RUNCTL_SETUP_APT="no")
    assert done.returncode == 0, done.stderr
    assert machine.calls() == []
    assert "as RUNCTL_SETUP_APT=no asks: rsync sudo" in done.stderr


def test_missing_programs_are_told_by_their_packages(machine: Machine) -> None:
    done = machine.run(
        'has() { case $1 in rsync | mkfs.xfs) return 1 ;; esac; command -v "$1" >/dev/null 2>&1; }\n'
        "uname() { echo Linux; }\nmissing_packages"
    )
    assert {"rsync", "xfsprogs"} <= set(done.stdout.split())


def test_daemons_are_not_missed_elsewhere_than_on_linux(machine: Machine) -> None:
    done = machine.run("has() { false; }\nfind_uv() { true; }\nuname() { echo Darwin; }\nmissing_packages")
    assert done.stdout.split() == ["git", "openssh-client", "rsync"]


def test_a_python_that_cannot_make_environments_is_passed_over(machine: Machine) -> None:
    for name in ("python3.14", "python3.13"):
        python = machine.folder / "bin" / name
        python.write_text("#!/bin/sh\nexit 1\n")
        python.chmod(0o755)
    done = machine.run("python_with_venv")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() not in {"", "python3.14", "python3.13"}
