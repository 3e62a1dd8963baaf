"""Docker's images and containers on the machine's own NVMe disk, where it has one: the fastest disk there is.

The disk is mounted where the engine keeps everything, before the engine starts: no setting of anybody's changes. It is
formatted by the rule for volumes (only if provably blank), nothing that somebody has is hidden, and what cannot be done
leaves Docker as it was. The disk is empty again when the instance has been stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from runctl._dataclasses import dataclass
from runctl.agent.attempt.attempt import Attempt
from runctl.agent.disks import mount_table, probe
from runctl.agent.disks.decision import INSTANCE_STORE, Facts, Refuse, decide_format
from runctl.agent.errors import AgentError, counted
from runctl.agent.machine import docker, durable
from runctl.agent.machine.root import call_as_root, folder_root, root_available

LABEL = "runctl-docker"
DEFAULT_ROOT = "/var/lib/docker"
START_SECONDS = 90.0


@dataclass(frozen=True)
class Store:
    """One instance-store disk."""

    facts: Facts
    label: str = ""
    """Of the file system on it."""


@dataclass(frozen=True)
class Situation:
    """What was seen of the engine."""

    data_root: str
    containers: int
    images: int
    running: int
    restartable: bool
    mounted: bool = False
    """An instance store is mounted there."""


@dataclass(frozen=True)
class Keep:
    """Docker stays where it is; ``why`` is empty when there is nothing to say."""

    why: str = ""


@dataclass(frozen=True)
class Move:
    """Docker goes to this disk."""

    device: str
    format: bool


def decide(now: Situation, stores: Sequence[Store]) -> Keep | Move:
    """What to do. Pure. The largest disk is taken; several are not joined."""
    if not stores:
        return Keep()
    if now.mounted:
        return Keep()
    if now.running:
        return Keep("containers are running")
    if now.data_root != DEFAULT_ROOT:
        return Keep(f"somebody has put it at {now.data_root}")
    if now.images or now.containers:
        return Keep(
            f"it has {counted(now.images, 'image')} and {counted(now.containers, 'container')} at {now.data_root}"
            " already"
        )
    if not now.restartable:
        return Keep("there is no systemctl to start the engine again")
    best = max(stores, key=lambda store: store.facts.size_bytes)
    device = best.facts.device
    if best.label == LABEL and not best.facts.in_use:
        return Move(device, format=False)
    # The rule for volumes; that it is an instance store is known, and the reason to be here. Such a disk is new, and
    # empty, with every launch of its machine.
    found = decide_format(replace(best.facts, model=""), "if-blank", "ext4", known_blank=True)
    if isinstance(found, Refuse):
        return Keep(found.why)
    if best.facts.partitions or any(best.facts.signatures):
        return Keep(f"{device} has somebody's file system")
    return Move(device, format=True)


def use_instance_store(attempt: Attempt) -> None:
    """Docker is on the instance store if it can be; whatever happened, it answers. The log says what was done."""
    if folder_root() is not None or not store_devices() or not root_available():
        return
    if os.environ.get("DOCKER_HOST"):
        # Another engine than the machine's own is not ours to move.
        return
    attempt.update(phase="checking the instance store")
    try:
        with durable.locked(attempt.state / "docker-root.lock"):
            done = call_as_root("docker-root", {})
    except AgentError as error:
        attempt.log.line(f"warning: Docker stays on the root disk: {error.message}")
        return
    if done.get("why"):
        attempt.log.line(f"Docker stays where it is, although there is an instance store: {done['why']}")
    elif done.get("device"):
        attempt.log.line(
            f"Docker's images and containers are on the instance store {done['device']} now: fast, and gone when the"
            " instance is stopped; checkpoints and output are not there"
        )


def docker_root(_request: Mapping[str, Any]) -> dict[str, Any]:
    """The verb, as root: decide and do. ``why`` says why not, ``device`` where to; neither when nothing changed."""
    what = decide(_situation(docker.connect()), stores())
    if isinstance(what, Keep):
        return {"why": what.why}
    carry_out(what, Path(DEFAULT_ROOT), stop, start)
    return {"device": what.device}


def carry_out(
    what: Move, root: Path, stop_engine: Callable[[], None], start_engine: Callable[[], None]
) -> None:
    """The disk is mounted at ``root`` and the engine runs on it; if it does not come up there, it is as it was before.

    Raises `AgentError`.
    """
    if what.format:
        _run(["mkfs.ext4", "-q", "-F", "-m", "0", "-L", LABEL, what.device])
    stop_engine()
    try:
        root.mkdir(mode=0o710, parents=True, exist_ok=True)
        _run(["mount", "-t", "ext4", "-o", "noatime", what.device, str(root)])
        root.chmod(0o710)
        start_engine()
    except (AgentError, OSError) as error:
        stop_engine()
        _run(["umount", str(root)], must=False)
        start_engine()
        raise AgentError("no-docker", f"the engine does not start on {what.device}: {error}") from error


def stop() -> None:
    """The machine's engine does not run, and is not started by somebody who asks it something."""
    _run(["systemctl", "stop", "docker.socket"], must=False)
    _run(["systemctl", "stop", "docker"])


def start() -> None:
    """The machine's engine runs and answers. Raises `AgentError`."""
    _run(["systemctl", "reset-failed", "docker"], must=False)
    _run(["systemctl", "start", "docker"])
    deadline = time.monotonic() + START_SECONDS
    while True:
        done = docker.Engine(True).call("version", "--format", "{{.Server.Version}}", timeout=10.0)
        if done.returncode == 0 and done.stdout.strip():
            return
        if time.monotonic() >= deadline:
            raise AgentError("no-docker", "it does not answer: " + docker.text(done.stderr)[-500:])
        time.sleep(0.5)


def store_devices() -> list[str]:
    """Disks that call themselves EC2's instance storage."""
    if not probe.SYS_BLOCK.is_dir():
        return []
    names = sorted(entry.name for entry in probe.SYS_BLOCK.iterdir())
    return ["/dev/" + name for name in names if probe.attribute(name, "device/model") == INSTANCE_STORE]


def stores() -> list[Store]:
    """They, looked at as closely as a volume that may be formatted. Takes some seconds for those that are blank."""
    found = []
    for device in store_devices():
        spacing = float(os.environ.get("RUNCTL_PROBE_SPACING") or 1.0)
        facts = probe.inspect(device, is_system_disk=False, spacing_seconds=spacing)
        label = subprocess.run(
            ["blkid", "-p", "-s", "LABEL", "-o", "value", device], capture_output=True, text=True, check=False
        )
        found.append(Store(facts, label.stdout.strip()))
    return found


def _situation(engine: docker.Engine) -> Situation:
    done = engine.call("info", "--format", "{{json .}}")
    try:
        facts: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise AgentError("no-docker", "the engine cannot be asked: " + docker.text(done.stderr)) from None
    root = str(facts.get("DockerRootDir") or "")
    numbers = [probe.number_of(device) for device in store_devices()]
    return Situation(
        data_root=root,
        containers=int(facts.get("Containers") or 0),
        images=int(facts.get("Images") or 0),
        running=int(facts.get("ContainersRunning") or 0),
        restartable=shutil.which("systemctl") is not None,
        mounted=any(
            entry.mount_point == root and entry.device_number in numbers for entry in mount_table.own_mounts()
        ),
    )


def _run(argv: Sequence[str], *, must: bool = True) -> None:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise AgentError("cannot-mount", f"{argv[0]}: {error}") from error
    if must and done.returncode != 0:
        raise AgentError("cannot-mount", f"{' '.join(argv[:2])} failed: {docker.text(done.stderr)}")
