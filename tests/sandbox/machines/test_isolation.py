"""What happens in a machine stays there: every way out that a program can take without meaning to.

Root in a machine is root on this computer, and can get out if it wants to; docs/sandbox.md says so.
"""

from __future__ import annotations

import shlex
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.sandbox.layout import Layout
from runctl.sandbox.machines import own_root
from tests.sandbox.account import Account, Machine, until

CHROOT_ESCAPE = """python3 - <<'PY'
import os
os.makedirs("/root/jail", exist_ok=True)
os.chroot("/root/jail")
for _ in range(20):
    os.chdir("..")
os.chroot(".")
print(os.path.exists(MARKER))
PY"""


@pytest.fixture(scope="module")
def machine(account: Account) -> Iterator[Machine]:
    """One for all tests here; without Docker."""
    created = account.launch()
    yield created
    account.ec2.terminate_instances(InstanceIds=[created.id])
    account.wait_state(created.id, "terminated")


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of this computer that no machine has."""
    file = tmp_path_factory.mktemp("outside") / uuid.uuid4().hex
    file.write_text("this computer's")
    return str(file)


def first_process(machine: Machine) -> int:
    """The machine's pid 1, by its number here."""
    number = machine.address.rpartition(".")[2]
    namespace = Layout(machine.account.info.home).namespace(int(number))
    pids = subprocess.run(
        ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True
    ).stdout
    return next(pid for pid in map(int, pids.split()) if _number_inside(pid) == 1)


def _number_inside(pid: int) -> int:
    (line,) = (
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("NSpid:")
    )
    return int(line.split()[-1])


@pytest.mark.namespaces
@pytest.mark.parametrize("options", [["-m"], ["-m", "-p"], ["-m", "-u", "-i", "-n", "-p"], ["-a"]])
def test_who_enters_a_machines_namespaces_from_outside_is_in_the_machine(
    machine: Machine, marker: str, options: list[str]
) -> None:
    """This is how a container runtime sends a command into a container."""
    machine.root("touch /only-here")

    entered = subprocess.run(
        ["nsenter", "-t", str(first_process(machine)), *options, "sh", "-c", f"ls -d /only-here {marker}"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert entered.stdout == "/only-here\n", entered


@pytest.mark.namespaces
@pytest.mark.parametrize(
    "way",
    [
        "test -e MARKER",
        "test -e /proc/1/rootMARKER",
        "test -e /proc/1/cwdMARKER",
        "nsenter -t 1 -m test -e MARKER",
        "nsenter -a -t 1 test -e MARKER",
        "unshare -m test -e MARKER",
        "umount -l /tmp && test -e MARKER",
    ],
)
def test_nothing_inside_leads_to_a_file_of_this_computer(machine: Machine, marker: str, way: str) -> None:
    assert Path(marker).exists()

    found = machine.ssh(f"sudo unshare -m sh -c {shlex.quote(way.replace('MARKER', marker))}")

    assert found.returncode != 0


@pytest.mark.namespaces
def test_the_well_known_way_out_of_a_chroot_ends_in_the_machine(machine: Machine, marker: str) -> None:
    assert machine.root(CHROOT_ESCAPE.replace("MARKER", repr(marker))) == "False\n"


@pytest.mark.namespaces
def test_a_machine_has_none_of_this_computers_mounts(machine: Machine) -> None:
    def mounted(text: str) -> set[tuple[str, str]]:
        return {(line.split()[2], line.split()[3]) for line in text.splitlines()}

    inside = mounted(machine.run("cat /proc/self/mountinfo"))

    assert inside
    assert inside & mounted(Path("/proc/self/mountinfo").read_text()) == set()


@pytest.mark.namespaces
@pytest.mark.parametrize(
    "command",
    [
        "echo '|/bin/false' > /proc/sys/kernel/core_pattern",
        "echo 1 > /proc/sys/vm/drop_caches",
        "echo h > /proc/sysrq-trigger",
        "sysctl -w vm.swappiness=1",
        "echo mem > /sys/power/state",
        "echo 0 > /sys/module/loop/parameters/max_part",
        "date -s @0",
    ],
)
def test_a_setting_of_the_kernel_that_is_this_computers_is_not_changed(
    machine: Machine, command: str
) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text(), Path("/proc/sys/vm/swappiness").read_text()

    done = machine.ssh(f"sudo sh -c {shlex.quote(command)}")

    assert done.returncode != 0, done
    assert before == (
        Path("/proc/sys/kernel/core_pattern").read_text(),
        Path("/proc/sys/vm/swappiness").read_text(),
    )


@pytest.mark.namespaces
def test_the_settings_of_a_machines_own_network_can_be_changed(machine: Machine) -> None:
    here = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()

    assert (
        machine.root("echo 33 > /proc/sys/net/ipv4/ip_default_ttl; cat /proc/sys/net/ipv4/ip_default_ttl")
        == "33\n"
    )
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() == here


@pytest.mark.namespaces
def test_a_machine_has_no_disk_of_this_computer(machine: Machine) -> None:
    assert machine.root("find /dev -type b; lsblk -dno NAME") == ""


@pytest.mark.namespaces
def test_a_machine_has_no_secret_of_this_computer(machine: Machine) -> None:
    passparameters = {line.split(":")[1] for line in machine.root("cat /etc/shadow").splitlines()}

    assert passparameters == {"*"}
    home = machine.account.info.home
    assert machine.root(f"find {home.parent} -name sandbox.json 2>/dev/null || true") == ""
    assert machine.root("find /etc/ssl/private /root /home -type f ! -path '*/.ssh/authorized_keys'") == ""


def test_what_an_ordinary_user_may_not_read_is_private(tmp_path: Path) -> None:
    for name, mode in {
        "etc/passwd": 0o644,
        "etc/shadow": 0o640,
        "etc/shadow-": 0o600,
        "etc/app/password": 0o640,
        "etc/app/config": 0o644,
        "etc/ssl/private/key": 0o644,
        "opt/app/secrets/deep/token": 0o644,
        "var/lib/database/table": 0o600,
        "usr/secret": 0o600,
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        file.chmod(mode)
    (tmp_path / "etc/ssl/private").chmod(0o700)
    (tmp_path / "opt/app/secrets").chmod(0o710)
    (tmp_path / "var/lib/database").chmod(0o711)

    found = sorted(map(str, own_root.private_paths(tmp_path)))

    assert found == [
        "etc/app/password",
        "etc/shadow-",
        "etc/ssl/private",
        "opt/app/secrets",
        "var/lib/database/table",
    ]


@pytest.mark.namespaces
def test_a_machine_without_docker_does_not_fetch_it(machine: Machine) -> None:
    assert machine.run("command -v docker dockerd apt-get dnf yum || true") == ""


@pytest.mark.docker
def test_a_command_in_a_container_and_its_health_check_run_in_the_container(
    docker_machine: Machine, marker: str
) -> None:
    docker_machine.run(
        "docker run -d --name checked --health-interval 1s --health-retries 60 --health-cmd"
        f" 'test ! -e {marker} && test -e /bin/busybox && touch /checked' busybox sleep 600"
    )
    written = str(Path(marker).with_name("written"))

    docker_machine.run(f"docker exec checked sh -c 'mkdir -p {Path(marker).parent} && echo x > {written}'")

    assert docker_machine.run(f"docker exec checked ls {Path(marker).parent}") == "written\n"
    assert not Path(written).exists()
    assert docker_machine.run("docker exec checked ls -a / | grep -c ec2-user || true") == "0\n"
    health = "docker inspect --format '{{.State.Health.Status}}' checked"
    until(lambda: docker_machine.run(health) == "healthy\n", "the container to be healthy")
    assert docker_machine.run("docker exec checked ls /checked") == "/checked\n"
    docker_machine.run("docker rm -f checked")


@pytest.mark.namespaces
@pytest.mark.docker
def test_compose_waits_for_a_healthy_service(docker_machine: Machine) -> None:
    docker_machine.run(
        """mkdir -p waits && cd waits && cat > docker-compose.yml <<'YAML'
version: "2.4"
services:
  cache:
    image: busybox
    command: [sh, -c, "sleep 1; touch /ready; sleep 600"]
    healthcheck: {test: ["CMD", "test", "-e", "/ready"], interval: 1s, retries: 60}
  training:
    image: busybox
    command: [echo, began]
    depends_on: {cache: {condition: service_healthy}}
YAML"""
    )

    said = docker_machine.run(
        "cd waits && docker-compose up --abort-on-container-exit training 2>&1", timeout=90
    )

    assert "began" in said
    docker_machine.run("cd waits && docker-compose down -t 0 2>&1")
