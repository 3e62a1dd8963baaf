"""Docker's images and containers on the machine's own NVMe disk, where it has one: the fastest disk there is.

The disk is formatted by the rule for volumes (only if provably blank), nothing that somebody has is moved, and what
cannot be done leaves Docker where it was. The disk is empty again when the instance has been stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from runctl.agent import docker, durable
from runctl.agent.attempt import Attempt
from runctl.agent.disks import mount_table, probe
from runctl.agent.disks.decision import INSTANCE_STORE, Facts, Refuse, decide_format
from runctl.agent.errors import AgentError
from runctl.agent.machine import call_as_root, folder_root, root_available

LABEL = "runctl-docker"
POINT = Path("/mnt/runctl-docker")
DATA_ROOT = POINT / "docker"
SETTINGS = Path("/etc/docker/daemon.json")
DEFAULT_ROOT = "/var/lib/docker"
RESTART_SECONDS = 90.0


@dataclass(frozen=True)
class Store:
    """One instance-store disk."""

    facts: Facts
    label: str = ""
    """Of the file system on it."""


@dataclass(frozen=True)
class Situation:
    """What was seen of the engine and its settings."""

    data_root: str
    containers: int
    images: int
    running: int
    settings: Optional[Mapping[str, Any]]
    """``None`` when they cannot be read."""
    restartable: bool
    mounted: bool = False
    """A disk is mounted where ours would be."""


@dataclass(frozen=True)
class Keep:
    """Docker stays where it is; ``why`` is empty when there is nothing to say."""

    why: str = ""


@dataclass(frozen=True)
class Move:
    """Docker goes to this disk."""

    device: str
    format: bool


def decide(now: Situation, stores: Sequence[Store]) -> Union[Keep, Move]:
    """What to do. Pure. The largest disk is taken; several are not joined."""
    if not stores:
        return Keep()
    ours = now.data_root == str(DATA_ROOT)
    if ours and now.mounted:
        return Keep()
    if now.running:
        return Keep("containers are running")
    if now.settings is None:
        return Keep("{} cannot be read".format(SETTINGS))
    if not ours and (now.data_root != DEFAULT_ROOT or "data-root" in now.settings):
        return Keep("somebody has put it at {}".format(now.data_root))
    if not ours and (now.images or now.containers):
        words = "it has {} image(s) and {} container(s) at {} already"
        return Keep(words.format(now.images, now.containers, now.data_root))
    if not now.restartable:
        return Keep("there is no systemctl to start the engine again")
    best = max(stores, key=lambda store: store.facts.size_bytes)
    device = best.facts.device
    if best.label == LABEL and not best.facts.in_use:
        return Move(device, format=False)
    # The rule for volumes; that it is an instance store is known, and the reason to be here.
    found = decide_format(replace(best.facts, model=""), "if-blank", "ext4")
    if isinstance(found, Refuse):
        return Keep(found.why)
    if best.facts.partitions or any(best.facts.signatures):
        return Keep("{} has a file system of somebody's".format(device))
    return Move(device, format=True)


def use_instance_store(attempt: Attempt) -> None:
    """Docker is on the instance store if it can be; whatever happened, it answers. The log says what was done."""
    if folder_root() is not None or not store_devices() or not root_available():
        return
    if os.environ.get("DOCKER_HOST"):
        # Another engine than the machine's own is not ours to move.
        return
    attempt.update(phase="looking at the instance store")
    try:
        with durable.locked(attempt.state / "docker-root.lock"):
            done = call_as_root("docker-root", {})
    except AgentError as error:
        attempt.log.line("warning: Docker stays on the root disk: {}".format(error.message))
        return
    if done.get("why"):
        attempt.log.line(
            "Docker stays where it is, although there is an instance store: {}".format(done["why"])
        )
    elif done.get("device"):
        attempt.log.line(
            "Docker's images and containers are on the instance store {} now: fast, and gone when the instance is"
            " stopped; checkpoints and output are not there".format(done["device"])
        )


def docker_root(_request: Mapping[str, Any]) -> Dict[str, Any]:
    """The verb, as root: decide and do. ``why`` says why not, ``device`` where to; neither when nothing changed."""
    what = decide(_look(docker.connect()), stores())
    if isinstance(what, Keep):
        return {"why": what.why}
    carry_out(what, restart)
    return {"device": what.device}


def carry_out(what: Move, restart_engine: Any) -> None:
    """The disk is mounted and the engine uses it; if it does not come up with it, it is as it was before.

    Raises `AgentError`.
    """
    if what.format:
        _run(["mkfs.ext4", "-q", "-F", "-m", "0", "-L", LABEL, what.device])
    POINT.mkdir(mode=0o711, parents=True, exist_ok=True)
    _run(["mount", "-t", "ext4", "-o", "noatime", what.device, str(POINT)])
    before = SETTINGS.read_bytes() if SETTINGS.exists() else None
    try:
        DATA_ROOT.mkdir(mode=0o710, exist_ok=True)
        _write_settings(
            json.dumps({**json.loads(before or b"{}"), "data-root": str(DATA_ROOT)}, indent=2).encode()
        )
        restart_engine()
    except (AgentError, OSError) as error:
        if before is None:
            SETTINGS.unlink(missing_ok=True)
        else:
            _write_settings(before)
        restart_engine()
        subprocess.run(["umount", str(POINT)], capture_output=True, check=False)
        raise AgentError(
            "no-docker", "the engine does not start on {}: {}".format(what.device, error)
        ) from error


def restart() -> None:
    """The machine's engine has started again and answers. Raises `AgentError`."""
    _run(["systemctl", "reset-failed", "docker"], must=False)
    _run(["systemctl", "restart", "docker"])
    deadline = time.monotonic() + RESTART_SECONDS
    while True:
        done = docker.Engine(True).call("version", "--format", "{{.Server.Version}}", timeout=10.0)
        if done.returncode == 0 and done.stdout.strip():
            return
        if time.monotonic() >= deadline:
            raise AgentError("no-docker", "it does not answer: " + docker.words(done.stderr)[-500:])
        time.sleep(0.5)


def store_devices() -> List[str]:
    """Disks that call themselves EC2's instance storage."""
    if not probe.SYS_BLOCK.is_dir():
        return []
    names = sorted(entry.name for entry in probe.SYS_BLOCK.iterdir())
    return ["/dev/" + name for name in names if probe.attribute(name, "device/model") == INSTANCE_STORE]


def stores() -> List[Store]:
    """They, looked at as closely as a volume that may be formatted. Takes some seconds for those that are blank."""
    found = []
    for device in store_devices():
        spacing = float(os.environ.get("RUNCTL_PROBE_SPACING") or 1.0)
        facts = probe.look(device, is_system_disk=False, spacing_seconds=spacing)
        label = subprocess.run(
            ["blkid", "-p", "-s", "LABEL", "-o", "value", device], capture_output=True, text=True, check=False
        )
        found.append(Store(facts, label.stdout.strip()))
    return found


def _look(engine: docker.Engine) -> Situation:
    done = engine.call("info", "--format", "{{json .}}")
    try:
        facts: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise AgentError("no-docker", "the engine cannot be asked: " + docker.words(done.stderr)) from None
    settings: Optional[Mapping[str, Any]] = {}
    try:
        settings = json.loads(SETTINGS.read_text() or "{}") if SETTINGS.exists() else {}
    except (OSError, ValueError):
        settings = None
    return Situation(
        data_root=str(facts.get("DockerRootDir") or ""),
        containers=int(facts.get("Containers") or 0),
        images=int(facts.get("Images") or 0),
        running=int(facts.get("ContainersRunning") or 0),
        settings=settings,
        restartable=shutil.which("systemctl") is not None,
        mounted=any(entry.mount_point == str(POINT) for entry in mount_table.own_mounts()),
    )


def _write_settings(data: bytes) -> None:
    SETTINGS.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    partial = SETTINGS.with_name(SETTINGS.name + ".runctl")
    partial.write_bytes(data)
    partial.chmod(0o644)
    partial.replace(SETTINGS)


def _run(argv: Sequence[str], *, must: bool = True) -> None:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise AgentError("cannot-mount", "{}: {}".format(argv[0], error)) from error
    if must and done.returncode != 0:
        raise AgentError(
            "cannot-mount", "{} failed: {}".format(" ".join(argv[:2]), docker.words(done.stderr))
        )
