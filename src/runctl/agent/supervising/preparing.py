"""What a machine does before it starts an attempt that it takes up: its volumes, attached and mounted; its project."""

from __future__ import annotations

import base64
import contextlib
import gzip
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, TypeVar

from runctl._dataclasses import dataclass
from runctl.agent.checkpoints.stores import Store
from runctl.agent.cloud.ec2 import Ec2, of_this_machine, this_machine
from runctl.agent.cloud.ecr import Ecr
from runctl.agent.cloud.metadata import Metadata
from runctl.agent.disks import disks, volumes
from runctl.agent.disks.run_folders import run_folders
from runctl.agent.encoding import from_json, loads
from runctl.agent.errors import AgentError
from runctl.agent.images import credentials
from runctl.agent.machine.root import state_directory
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import RunSpec
from runctl.agent.stored_run import RUN, SPEC, StoredMachine, StoredRun, StoredVolume, manifest_key, pack_key
from runctl.agent.trees import verbs as trees

RELEASE_SECONDS = 600.0
"""For how long the machine before is waited for, so that its volumes can be attached here."""
ATTACH_PAUSE = 2.0
DEVICE_SECONDS = 60.0
"""For how long the device of a volume is waited for that EC2 has attached."""
_METADATA_SECONDS = 2.0

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Needs:
    """What an attempt needs, as the run's prefix has it."""

    spec: RunSpec
    run: StoredRun


def wanted_spec(store: Store) -> RunSpec:
    """What the prefix says that the run is. Raises `AgentError` (``store-corrupt``), and what the store raises."""
    return _read(RunSpec, SPEC, store)


def needs_of(store: Store, spec: RunSpec) -> Needs:
    """With what the prefix says of the run besides. Raises as `wanted_spec`."""
    return Needs(spec, _read(StoredRun, RUN, store))


def _read(kind: type[T], key: str, store: Store) -> T:
    try:
        return from_json(kind, loads(store.read(key)))
    except (TypeError, ValueError) as error:
        raise AgentError("store-corrupt", f"what the run needs cannot be read: {error}") from error


def describe(variables: Mapping[str, str]) -> StoredMachine:
    """This machine, by its provider's own word; by its name where there is none."""
    metadata = Metadata(variables, _METADATA_SECONDS)

    def said(path: str) -> str:
        return metadata.get(path) or ""

    try:
        return StoredMachine(
            said("instance-id") or socket.gethostname(),
            0.0,
            said("instance-type"),
            said("placement/availability-zone"),
            said("instance-life-cycle"),
        )
    except OSError:
        return StoredMachine(socket.gethostname(), 0.0)


def private_address(variables: Mapping[str, str]) -> str:
    """At which the other machines of its network reach this one; empty: nobody says."""
    with contextlib.suppress(OSError):
        return Metadata(variables, _METADATA_SECONDS).get("local-ipv4") or ""
    return ""


def prepare(
    run: StoredRun, spec: RunSpec, store: Store, *, first: bool, holds: Callable[[], bool], say: Say
) -> None:
    """The attempt can be started: volumes are mounted where every machine of the run has them, the project is here.
    ``first``: it is the run's first one.

    Raises `AgentError`, ``lost`` among its codes where ``holds`` says that the lease is somebody else's.
    """
    for volume in run.volumes:
        attach(volume, first=first, holds=holds, say=say)
    if spec.tree is not None:
        fetch_project(spec.project, spec.tree, store)
    if run.registry:
        log_in(spec.run_id, run.registry)
    if not holds():
        raise AgentError("lost", "the lease was lost while the attempt was prepared")


def forget_checkpoints(spec: RunSpec, folder: AttemptFolder) -> None:
    """Of an attempt that has several machines, all go on from what is in the store: what this machine has of attempts
    before, of whatever rank it was, is newer on no other one."""
    checkpoints = run_folders(spec, folder).checkpoints
    left = checkpoints.with_name(f"checkpoints-before-{spec.attempt}")
    with contextlib.suppress(FileNotFoundError):
        # A container's files may be another user's: they can be moved, and not always be deleted.
        checkpoints.rename(left)
        shutil.rmtree(left, ignore_errors=True)


def attach(volume: StoredVolume, *, first: bool, holds: Callable[[], bool], say: Say) -> None:
    """The volume is attached to this machine and mounted; the one that had it before is waited for."""
    here = disks()
    device = None
    if volume.volume_id not in here.attached():
        device = _attach_to(this_machine(), volume.volume_id, holds, say)
    if volume.forget:
        # Now that it is attached nobody replicates or fills it; while no machine had it, somebody may have.
        this_machine().delete_tags(volume.volume_id, volume.forget)
    request: dict[str, Any] = {
        "volume_id": volume.volume_id,
        "mount_point": volume.mount_point,
        "read_only": volume.read_only,
        "wait_seconds": DEVICE_SECONDS,
        "device": device,
        # One that was created for the run has no file system before the first attempt.
        "format": "if-blank" if volume.blank else "never",
        "known_blank": volume.blank and first,
    }
    while "examined_bytes" in (answer := volumes.attach(request)):
        request["examined_bytes"] = answer["examined_bytes"]
    say(f"{volume.volume_id} is mounted at {volume.mount_point}")


def _attach_to(ec2: Ec2, volume_id: str, holds: Callable[[], bool], say: Say) -> str | None:
    """The name of its device; ``None`` where it is here by a request whose answer was lost."""
    deadline = time.monotonic() + RELEASE_SECONDS
    while True:
        device = ec2.attach_volume(volume_id)
        if device is not None:
            return device
        if volume_id in disks().attached():
            return None
        if not holds():
            raise AgentError("lost", "the lease was lost while a volume was waited for")
        if time.monotonic() >= deadline:
            why = f"{volume_id} is attached to another machine, which has not let go of it"
            raise AgentError("volume-in-use", f"{why} within {RELEASE_SECONDS / 60:.0f} minutes")
        say(f"waiting until another machine lets go of {volume_id}")
        time.sleep(ATTACH_PAUSE)


def let_go(run: StoredRun, say: Say) -> None:
    """The volumes can be attached to the machine that takes over, as far as this one can see to that."""
    for volume in run.volumes:
        try:
            volumes.detach({"volume_id": volume.volume_id})
            this_machine().detach_volume(volume.volume_id)
        except AgentError as error:
            say(f"{volume.volume_id} stays with this machine: {error.message}")


def log_in(run_id: str, registry: str) -> None:
    """The attempt's image can be pulled: its docker has a token that the machine's role has got.

    Raises `AgentError` as `Ecr.login` does, and ``registry-login``.
    """
    login = of_this_machine(Ecr).login()
    if login.host != registry:
        raise AgentError("registry-login", f"the machine's role leads to {login.host}, and not to {registry}")
    credentials.entrust({"run_id": run_id, "logins": [vars(login)]})


def fetch_project(project: str, digest: str, store: Store) -> None:
    """The tree is the current one of the project here, each file compared with its checksum. Raises `AgentError`."""
    request: dict[str, Any] = {"project": project, "digest": digest}
    if trees.manifest(dict(request))["have"]:
        return
    described = base64.b64encode(gzip.compress(store.read(manifest_key(digest)), 1)).decode()
    with tempfile.NamedTemporaryFile(dir=state_directory(), prefix=".pack-") as pack:
        try:
            store.read_into(pack_key(digest), Path(pack.name))
        except AgentError as error:
            if error.code != "store-missing":
                raise
            raise AgentError("store-missing", f"the files of {project} are not in the store") from error
        stream: Any = pack
        done = trees.apply({**request, "manifest": described, "pack_follows": True}, stream)
    if not done["applied"]:
        raise AgentError(
            "store-corrupt", f"the pack of {project} in the store does not have all of its files"
        )
