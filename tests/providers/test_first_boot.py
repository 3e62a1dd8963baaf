"""The first boot's script really runs here, in a folder that stands in for a machine, by every sh there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from runctl.agent.guard.daemon import read_limits
from runctl.agent.guard.limits import Limits
from runctl.core.errors import MachineError
from runctl.providers.first_boot import LIMIT_BYTES, compressed, parse_ready, user_data

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def boot(
    script: str, root: Path, shell: str = "sh", path: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    file = root / "user-data"
    file.write_text(script)
    command = [shell, "sh", str(file)] if shell == "busybox" else [shell, str(file)]
    environment = {"PATH": path or os.environ["PATH"], "RUNCTL_MACHINE_ROOT": str(root)}
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_boot_reports_that_the_machine_is_ready(tmp_path: Path, shell: str) -> None:
    done = boot(user_data(login_user="ec2-user"), tmp_path, shell)

    ready = parse_ready((tmp_path / "var/lib/runctl/ready.json").read_bytes())
    assert done.returncode == 0, done.stderr
    assert ready.ok
    assert ready.docker is None
    assert ready.failures == ()


def test_a_machine_without_python_is_reported_as_failed(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "mkdir", "chmod", "tr", "tail", "date", "mv", "printf", "dirname"):
        found = shutil.which(name)
        if found:
            (tools / name).symlink_to(found)

    boot(user_data(login_user="ec2-user"), tmp_path, path=str(tools))

    ready = parse_ready((tmp_path / "var/lib/runctl/ready.json").read_bytes())
    assert not ready.ok
    assert any("python3" in failure for failure in ready.failures)


def test_a_state_folder_that_cannot_be_made_is_reported_by_a_missing_report(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("in the way")

    done = boot(user_data(login_user="ec2-user"), tmp_path)

    assert done.returncode != 0
    assert b"state: false" in done.stdout


@pytest.mark.parametrize("user", ["ec2-user", "o'brien", "$(touch /tmp/never)", "a b"])
def test_values_are_data_and_never_run(tmp_path: Path, user: str) -> None:
    boot(
        user_data(login_user=user, limits=Limits(budget_seconds=3600, budget="$1'; touch /tmp/never")),
        tmp_path,
    )

    ready = (tmp_path / "var/lib/runctl/ready.json").read_text()
    assert f'"user":"{user}"' in ready
    assert not Path("/tmp/never").exists()


YEAR = 366 * 24 * 3600


def own_machine(folder: Path, script: str, **tools: str) -> subprocess.CompletedProcess[bytes]:
    """Boot with this computer's root folder, but with /var/lib and the like, and the ``tools``, from ``folder``."""
    for name in ("state", "sbin", "units", "lib", "profile", "run", "tools"):
        (folder / name).mkdir()
    for name, body in tools.items():
        tool = folder / "tools" / name.replace("_", "-")
        tool.write_text(f'#!/bin/sh\necho {name} "$@" >>{folder}/calls\n{body}\n')
        tool.chmod(0o755)
    (folder / "user-data").write_text(script)
    mounts = [("state", "/var/lib"), ("sbin", "/usr/local/sbin"), ("units", "/etc/systemd/system")]
    mounts += [("lib", "/usr/local/lib"), ("profile", "/etc/profile.d"), ("run", "/run")]
    program = "".join(f"mount --bind {folder}/{name} {target} && " for name, target in mounts)
    return subprocess.run(
        # Nothing that it leaves running outlives it.
        [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("--propagation", "private", "sh", "-c", f"{program} sh {folder}/user-data"),
        ],
        env={"PATH": f"{folder}/tools:/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.namespaces
def test_the_machine_has_its_guard_before_anything_else(tmp_path: Path) -> None:
    # The guard, which may get as far as to look, sees this computer's uptime.
    limits = Limits(ttl_seconds=10 * YEAR, idle_seconds=10 * YEAR)

    done = own_machine(tmp_path, user_data(login_user="root", limits=limits, docker=False), shutdown="")

    assert done.returncode == 0, done.stderr
    ready = parse_ready((tmp_path / "state/runctl/ready.json").read_bytes())
    assert (ready.ok, ready.failures) == (True, ())
    assert read_limits(tmp_path / "state/runctl-guard") == limits
    assert "guard.pyz run" in (tmp_path / "state/cloud/scripts/per-boot/runctl-guard").read_text()
    assert not (tmp_path / "calls").exists()


@pytest.mark.namespaces
def test_a_machine_without_its_guard_ends_all_the_same_and_is_not_ready(tmp_path: Path) -> None:
    limits = Limits(ttl_seconds=7200, budget_seconds=5459)
    script = user_data(login_user="root", limits=limits, docker=False)

    own_machine(tmp_path, script, shutdown="", python3="echo broken >&2; exit 1")

    ready = parse_ready((tmp_path / "state/runctl/ready.json").read_bytes())
    assert not ready.ok
    assert "limits: broken" in ready.failures
    assert "shutdown -h +90" in (tmp_path / "calls").read_text()


@pytest.mark.namespaces
def test_docker_is_started_and_opened_to_the_login_user(tmp_path: Path) -> None:
    own_machine(
        tmp_path,
        user_data(login_user="root"),
        docker="echo 25.0.3",
        systemctl="",
        getent="",
        usermod="",
    )

    ready = parse_ready((tmp_path / "state/runctl/ready.json").read_bytes())
    calls = (tmp_path / "calls").read_text()
    assert (ready.ok, ready.docker) == (True, "25.0.3")
    assert "systemctl enable --now docker" in calls
    assert "usermod -a -G docker root" in calls


@pytest.mark.namespaces
def test_docker_that_cannot_be_started_is_recorded_without_waiting_for_it(tmp_path: Path) -> None:
    started = time.monotonic()

    own_machine(
        tmp_path,
        user_data(login_user="root"),
        docker="echo no daemon >&2; exit 1",
        systemctl="echo Unit docker not found >&2; exit 5",
        service="exit 1",
        getent="",
        usermod="",
    )

    ready = parse_ready((tmp_path / "state/runctl/ready.json").read_bytes())
    assert (ready.ok, ready.docker) == (True, None)
    assert ready.failures == ("docker: docker could not be started: Unit docker not found",)
    assert time.monotonic() - started < 10


@pytest.mark.namespaces
def test_docker_that_cannot_be_installed_is_recorded_and_the_machine_is_ready_all_the_same(
    tmp_path: Path,
) -> None:
    script = user_data(login_user="root").replace("command -v docker", "command -v no-docker-here")

    own_machine(tmp_path, script, dnf="echo no repository >&2; exit 1")

    ready = parse_ready((tmp_path / "state/runctl/ready.json").read_bytes())
    assert ready.ok
    assert ready.docker is None
    assert ready.failures == ("docker: docker could not be installed: no repository",)
    assert "dnf install -y -q docker" in (tmp_path / "calls").read_text()


def test_the_script_is_small_enough_for_ec2() -> None:
    script = user_data(login_user="u" * 32, limits=Limits(1e7, 1e7, "$10000.00", 1e7, 1e7))

    # A group's machines have a program more.
    assert len(compressed(script)) < LIMIT_BYTES - 5120
    assert script.startswith("#!/bin/sh\n")


def test_no_disk_is_touched() -> None:
    script = user_data(login_user="ec2-user")

    for word in ("mkfs", "mount ", "parted", "fdisk", "/dev/nvme", "/dev/sd", "upgrade"):
        assert word not in script


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"ok": true}', b'{"ok": true, "steps": [{}]}'])
def test_a_report_that_is_none_is_a_machine_error(text: bytes) -> None:
    with pytest.raises(MachineError):
        parse_ready(text)
