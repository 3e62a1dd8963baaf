"""What a run is in a cluster, every question answered: plain data, and the rules of Kubernetes that it keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from runctl._dataclasses import dataclass
from runctl.core.errors import UsageError
from runctl.providers.abilities.kubernetes import CheckpointCarrier

LONGEST_NAME = 52
"""Of a Job: the names of its pods are longer, and must be names of hosts."""
_NAME = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
_REFERENCE = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
MASTER_PORT = 29500


@dataclass(frozen=True)
class VolumeClaim:
    """A block volume of the provider's that the pod has."""

    volume_id: str
    name: str | None
    size_gib: int
    zone: str
    target: str
    read_only: bool
    driver: str
    """The CSI driver."""
    fstype: str = "ext4"

    @property
    def resource(self) -> str:
        """The name of its PersistentVolume and its claim."""
        return fit_for_a_name(f"runctl-{self.volume_id}")


@dataclass(frozen=True)
class Nodes:
    """On what the pods run."""

    count: int = 1
    types: tuple[str, ...] = ()
    """Instance types; empty: any."""
    spot_labels: tuple[tuple[str, str], ...] = ()
    """One of these must be there; empty: any market."""
    architecture: str | None = None
    gpus: int = 0
    """Of each pod."""
    cpus: int | None = None
    memory_gib: int | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    """Of the pods: what keeps autoscalers from moving them."""


@dataclass(frozen=True)
class Store:
    """Where in an object store the run's checkpoints are kept."""

    url: str
    """The prefix below which each run has its own."""
    carrier: CheckpointCarrier
    every_seconds: int


@dataclass(frozen=True)
class JobPlan:
    """A run as a Job; nothing in it is secret."""

    name: str
    """Of the Job, and what its script sees as the run's id."""
    namespace: str | None
    project: str
    image: str
    image_notes: tuple[str, ...]
    command: tuple[str, ...]
    """With the script's arguments."""
    torchrun: bool
    """On each node torchrun starts it, once for each GPU."""
    resume_args: tuple[str, ...]
    env: Mapping[str, str]
    secret_env: tuple[str, ...]
    """Names of variables whose values are in ``secret``."""
    secret: str
    """The name of a Secret."""
    volumes: tuple[VolumeClaim, ...]
    nodes: Nodes
    workdir: str | None
    """``None``: the image's own."""
    user: tuple[int, int | None] | None
    """User and group by number; ``None``: the image's own."""
    shm_mib: int | None
    timeout: timedelta | None
    grace: timedelta
    attempts: int
    """In all."""
    store: Store | None
    service_account: str | None
    left_out: tuple[str, ...] = ()
    """What was asked for or configured and is not in it, in sentences."""

    @property
    def saves_to(self) -> VolumeClaim | None:
        """The volume that checkpoints and output are on."""
        return next((volume for volume in self.volumes if not volume.read_only), None)

    @property
    def folder(self) -> str:
        """Of checkpoints and output, as the script sees it."""
        return f"{self.saves_to.target.rstrip('/')}/runs/{self.name}" if self.saves_to else "/runctl/run"


def check_name(text: str, option: str) -> str:
    """A name that Jobs, Services and hosts may have. Raises `UsageError`."""
    if len(text) > LONGEST_NAME or not _NAME.fullmatch(text):
        raise UsageError(
            f"{option} {text}: a name in a cluster has at most {LONGEST_NAME} small letters, digits and hyphens,"
            " and begins with a letter",
            hint="such as digits-baseline",
            code="bad-name",
        )
    return text


def check_reference(text: str | None, option: str) -> None:
    """The name of something that is in the cluster already. Raises `UsageError`."""
    if text is not None and (len(text) > 253 or not _REFERENCE.fullmatch(text)):
        raise UsageError(
            f"{option} {text}: a name in a cluster has small letters, digits, hyphens and dots",
            hint="such as training",
            code="bad-name",
        )


def fit_for_a_name(text: str, longest: int = LONGEST_NAME) -> str:
    """The text as a name in a cluster; never empty."""
    fit = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    fit = fit if fit[:1].isalpha() else f"run-{fit}"
    return fit[:longest].strip("-")


def parse_user(text: str | None) -> tuple[int, int | None] | None:
    """``--user`` as numbers; ``None`` for the image's own. Raises `UsageError` for a name."""
    if not text:
        return None
    matched = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}))?", text)
    if matched is None:
        raise UsageError(
            f"--user {text}: a cluster takes users by number",
            hint="such as --user 1000:1000",
            code="bad-user",
        )
    return int(matched[1]), int(matched[2]) if matched[2] else None
