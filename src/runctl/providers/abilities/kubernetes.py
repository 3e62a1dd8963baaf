"""The ability to say how a provider's machines, volumes and object store appear in a Kubernetes cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from runctl._dataclasses import dataclass
from runctl.core.machine_models import Market
from runctl.providers.capacity import Needs


@dataclass(frozen=True)
class NodeTypes:
    """Machines that a pod may run on."""

    names: tuple[str, ...]
    gpus: int
    """Of each at least; 0: they have none."""


@dataclass(frozen=True)
class CheckpointCarrier:
    """How the containers beside a script copy checkpoints from and to an object store."""

    image: str
    program: str
    """For ``/bin/sh`` of the image. Its arguments are ``fetch`` or ``publish``, the store's address, the folder, and
    how many seconds lie between two copies. ``publish`` goes on until SIGTERM, and then copies once more.
    Beside it lies ``checkpoints.sh``, which says what may be a checkpoint."""


class Kubernetes(ABC):
    """What manifests for a cluster of the provider's machines say."""

    volume_driver: str
    """The name of the CSI driver that attaches its volumes."""
    spot_labels: Sequence[tuple[str, str]]
    """Label and value of spot nodes, one for each way in which the cluster may make its nodes."""
    pod_annotations: Sequence[tuple[str, str]]
    """What keeps the cluster's autoscalers from moving a pod to save a node."""
    carrier: CheckpointCarrier

    @abstractmethod
    def types_with(self, needs: Needs, market: Market) -> NodeTypes:
        """All types that have what is needed. Raises `NotFound` where none has."""

    @abstractmethod
    def types_named(self, names: Sequence[str]) -> NodeTypes:
        """These types. Raises `NotFound` for one that does not exist."""
