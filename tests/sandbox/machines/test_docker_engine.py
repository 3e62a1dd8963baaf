"""A Docker engine in a machine of namespaces: it starts by itself, builds, reaches the network, leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from runctl.sandbox.ecr.registry import Registry
from runctl.sandbox.machines import docker_engine, images
from runctl.sandbox.machines.docker_engine import CgroupMount, Engine
from tests.availability import missing_programs
from tests.sandbox.machines.engine_machine import Machine, run, until

ENGINE = Engine("i-0abc", "/data", 1400, "ec2-user", "10.0.0.1:5000", ("10.0.0.1:5001",))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if reason := missing_programs(*docker_engine.PROGRAMS, "docker-registry", "ip"):
        pytest.skip(reason)
    base = tmp_path_factory.mktemp("engine")
    with ExitStack() as stack:
        created = Machine(base, f"i-test{os.getpid()}", stack)
        registry = Registry(base / "registry", created.host, 5000)
        registry.start()
        stack.callback(registry.stop)
        images.provide(registry, recipes=[images.BUSYBOX])
        created.registry = registry
        created.boot(registry.address)
        yield created


on_a_machine = [pytest.mark.root, pytest.mark.linux, pytest.mark.namespaces, pytest.mark.docker]


def marked(test: Callable[..., None]) -> Callable[..., None]:
    for mark in on_a_machine:
        test = mark(test)
    return test


@marked
def test_the_engine_starts_at_the_first_connection(machine: Machine) -> None:
    machine.ok("systemctl", "stop", "docker")
    assert machine.do("systemctl", "is-active", "docker").stdout == "inactive\n"

    machine.ok("docker", "ps")

    assert machine.do("systemctl", "is-active", "docker").stdout == "active\n"


@marked
def test_images_are_kept_on_overlay2(machine: Machine) -> None:
    assert machine.ok("docker", "info", "--format", "{{.Driver}}") == "overlay2\n"


@marked
def test_a_container_runs_from_an_image_of_the_sandboxes_registry(machine: Machine) -> None:
    assert machine.ok("docker", "run", "--rm", "busybox", "echo", "two  words") == "two  words\n"


@marked
def test_a_member_of_the_group_docker_needs_no_root(machine: Machine) -> None:
    assert machine.ok("docker", "run", "--rm", "busybox", "id", "-u", user="nobody") == "0\n"


@marked
def test_another_user_is_refused(machine: Machine) -> None:
    assert "permission denied" in machine.do("docker", "ps", user="daemon").stderr


@marked
@pytest.mark.parametrize("buildkit", ["0", "1"])
def test_a_dockerfile_builds_from_the_stand_in(machine: Machine, buildkit: str) -> None:
    machine.write(f"/srv/{buildkit}/Dockerfile", f"FROM busybox:latest\nRUN echo built {buildkit} > /made\n")
    machine.ok(
        "env", f"DOCKER_BUILDKIT={buildkit}", "docker", "build", "-t", f"made:{buildkit}", f"/srv/{buildkit}"
    )

    assert machine.ok("docker", "run", "--rm", f"made:{buildkit}", "cat", "/made") == f"built {buildkit}\n"


@marked
@pytest.mark.parametrize(
    "command",
    [
        ("docker", "run", "--rm", "runctl-no-such/image:1", "true"),
        ("env", "DOCKER_BUILDKIT=1", "docker", "build", "/srv/unknown"),
    ],
)
def test_an_unknown_image_fails_within_seconds(machine: Machine, command: tuple[str, ...]) -> None:
    machine.write("/srv/unknown/Dockerfile", "FROM runctl-no-such/image:1\n")

    done = machine.do(*command, timeout=20)

    assert done.returncode != 0
    assert "registry-1.docker.io" in done.stderr or "runctl-no-such/image" in done.stderr


@marked
def test_a_container_writes_to_a_volume_that_is_mounted_in_the_machine(
    machine: Machine, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as out:
        out.truncate(64 << 20)
    run("mkfs.ext4", "-q", str(disk))
    device = run("losetup", "--find", "--show", str(disk)).strip()
    try:
        machine.ok("mkdir", "-p", "/mnt/data")
        machine.ok("mount", device, "/mnt/data")
        machine.ok(
            "docker", "run", "--rm", "-v", "/mnt/data:/data", "busybox", "sh", "-c", "echo kept > /data/x"
        )
        machine.ok("umount", "/mnt/data")
        machine.ok("mount", device, "/mnt/data")
        assert machine.ok("cat", "/mnt/data/x") == "kept\n"
        machine.ok("umount", "/mnt/data")
    finally:
        run("losetup", "--detach", device)


@marked
def test_a_container_reaches_the_machines_metadata_address(machine: Machine) -> None:
    serve = (
        "import http.server as h; "
        "h.HTTPServer(('169.254.169.254', 8169), h.SimpleHTTPRequestHandler).handle_request()"
    )
    server = subprocess.Popen(
        ["nsenter", "-t", str(machine.pid), "-a", "-r", "-w", "python3", "-c", serve],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        fetch = "until wget -q -O - http://169.254.169.254:8169/; do usleep 50000; done"
        listing = machine.ok("docker", "run", "--rm", "busybox", "timeout", "20", "sh", "-c", fetch)
    finally:
        server.kill()
        server.wait()
    assert "Directory listing" in listing


@marked
def test_a_containers_packets_fit_the_machines_network(machine: Machine) -> None:
    assert machine.ok("docker", "run", "--rm", "busybox", "cat", "/sys/class/net/eth0/mtu") == "1400\n"


@marked
def test_systemctl_starts_docker_now_as_scripts_expect(machine: Machine) -> None:
    machine.ok("systemctl", "stop", "docker")

    machine.ok("systemctl", "enable", "--now", "docker")

    assert machine.do("systemctl", "is-active", "--quiet", "docker").returncode == 0


@marked
def test_service_speaks_of_the_same_engine(machine: Machine) -> None:
    machine.ok("service", "docker", "stop")
    machine.ok("service", "docker", "start")

    assert "active (running)" in machine.ok("service", "docker", "status")


@marked
def test_systemctl_says_so_of_a_unit_that_it_does_not_know(machine: Machine) -> None:
    done = machine.do("systemctl", "start", "nginx")

    assert (done.returncode, "nginx.service not found" in done.stderr) == (5, True)


@marked
def test_a_client_is_told_why_the_engine_does_not_start(machine: Machine) -> None:
    machine.ok("systemctl", "stop", "docker")
    config = f"/proc/{machine.pid}/root/etc/docker/daemon.json"
    machine.write("/etc/docker/daemon.json", "{ not json")
    try:
        done = machine.do("docker", "ps", timeout=30)
    finally:
        Path(config).unlink()

    assert done.returncode != 0
    assert "the Docker engine ended with 1" in done.stderr
    until(lambda: machine.do("docker", "ps").returncode == 0, "the engine to start once it can")


@pytest.fixture
def other(machine: Machine, tmp_path: Path) -> Iterator[Machine]:
    """A second machine, for tests that end it."""
    with ExitStack() as stack:
        created = Machine(tmp_path, f"{machine.name}b", stack)
        registry = Registry(tmp_path / "registry", created.host, 5000)
        registry.start()
        stack.callback(registry.stop)
        images.provide(registry, recipes=[images.BUSYBOX])
        created.boot(registry.address)
        yield created


@marked
def test_nothing_of_the_engine_outlives_its_machine(other: Machine) -> None:
    other.ok("docker", "run", "--detach", "busybox", "sleep", "600")
    assert list(Path("/sys/fs/cgroup").glob(f"*/runctl-sandbox/{other.name}/*"))

    other.end()

    assert not list(Path("/sys/fs/cgroup").glob(f"*/runctl-sandbox/{other.name}"))
    assert str(other.base) not in Path("/proc/self/mounts").read_text()


@marked
def test_images_and_containers_survive_the_machines_restart(other: Machine) -> None:
    other.ok("docker", "run", "--name", "before", "busybox", "sh", "-c", "echo $((1 + 1)) > /kept")
    other.end()

    other.boot(f"{other.host}:5000")

    assert other.ok("docker", "cp", "before:/kept", "-")
    assert "busybox" in other.ok("docker", "images")


@marked
def test_an_enabled_oneshot_service_runs_at_the_next_boot(other: Machine) -> None:
    other.write(
        "/etc/systemd/system/mark.service",
        "[Service]\nType=oneshot\nExecStart=/usr/bin/touch /run/marked\n[Install]\nWantedBy=multi-user.target\n",
    )
    other.ok("systemctl", "enable", "mark.service")
    assert other.do("test", "-e", "/run/marked").returncode == 1
    other.end()

    other.boot(f"{other.host}:5000")

    until(lambda: other.do("test", "-e", "/run/marked").returncode == 0, "the service")
    assert other.ok("systemctl", "is-enabled", "mark") == "enabled\n"


@marked
def test_the_computers_own_services_do_not_start_in_a_machine(machine: Machine) -> None:
    links = Path("/etc/systemd/system/multi-user.target.wants")
    ours = ("docker.", "containerd.")
    theirs = (
        [link.name for link in links.iterdir() if not link.name.startswith(ours)] if links.is_dir() else []
    )

    assert [unit for unit in theirs if machine.do("systemctl", "is-enabled", unit).returncode == 0] == []


@marked
def test_a_container_can_end_in_order_when_the_supervisor_is_asked_to(other: Machine) -> None:
    trap = "trap 'echo saved > /out/end; exit' TERM; echo > /out/ready; while :; do sleep 1; done"
    other.ok("docker", "run", "--detach", "-v", "/srv/out:/out", "busybox", "sh", "-c", trap)
    out = Path(f"/proc/{other.pid}/root/srv/out")
    until((out / "ready").exists, "the container")

    other.ok("pkill", "--signal", "TERM", "--pidfile", "/run/docker-supervisor.pid")

    until((out / "end").exists, "the container's own end")
    until(lambda: other.do("pgrep", "dockerd").returncode == 1, "the engine's end")


@marked
def test_an_ordinary_dockerfile_installs_from_pypi_on_the_python_stand_in(machine: Machine) -> None:
    images.provide(machine.registry, recipes=[images.PYTHON])
    machine.write(
        "/srv/python/Dockerfile",
        "FROM python:3.11-slim\nRUN pip install --no-cache-dir six\nCMD python -c 'import six; print(six.__name__)'\n",
    )
    machine.ok("env", "DOCKER_BUILDKIT=1", "docker", "build", "-t", "python-test", "/srv/python", timeout=120)

    assert machine.ok("docker", "run", "--rm", "python-test") == "six\n"


def test_the_computers_own_root_is_refused() -> None:
    with pytest.raises(ValueError, match="own root"):
        docker_engine.prepare(Path("/proc/self/root"), ENGINE)


def test_the_engine_mirrors_docker_hub_from_the_registry_over_plain_http() -> None:
    options = docker_engine.dockerd_options(ENGINE)

    assert "--registry-mirror=http://10.0.0.1:5000" in options
    assert [o for o in options if "insecure" in o] == [
        "--insecure-registry=http://10.0.0.1:5000",
        "--insecure-registry=http://10.0.0.1:5001",
    ]


def test_an_engine_survives_the_way_through_json() -> None:
    assert Engine.from_json(json.loads(docker_engine.as_json(ENGINE))) == ENGINE


def test_hierarchies_are_mounted_as_the_kernel_has_joined_them() -> None:
    own = "5:cpu,cpuacct:/user\n4:memory:/\n1:name=systemd:/init.scope\n0::/init.scope\n"

    assert docker_engine.cgroup_mounts(own) == [
        CgroupMount("cpu,cpuacct", "cgroup", "cpu,cpuacct", ("cpu", "cpuacct")),
        CgroupMount("memory", "cgroup", "memory"),
        CgroupMount("systemd", "cgroup", "none,name=systemd"),
    ]


def test_a_unified_hierarchy_is_mounted_as_it_is() -> None:
    assert docker_engine.cgroup_mounts("0::/user.slice\n") == [CgroupMount("", "cgroup2", "rw")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("root:x:0:\n", "root:x:0:\ndocker:x:990:ec2-user\n"),
        ("docker:x:106:\n", "docker:x:106:ec2-user\n"),
        ("docker:x:106:ann\nz:x:9:\n", "docker:x:106:ann,ec2-user\nz:x:9:\n"),
        ("docker:x:106:ec2-user\n", "docker:x:106:ec2-user\n"),
        ("a:x:990:\n", "a:x:990:\ndocker:x:989:ec2-user\n"),
    ],
)
def test_the_login_user_joins_the_group_docker_once(before: str, after: str) -> None:
    assert docker_engine.with_member(before, "docker", "ec2-user") == after
