"""What a place that has checkpoints must offer: a folder of a machine, or a run's prefix in a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.core.progress import SILENT, Progress
from runctl.core.run_models import Checkpoint

Identity = tuple[int | None, int | None, str]
"""Attempt, number and name: which checkpoint of its place one is."""


def identity(checkpoint: Checkpoint) -> Identity:
    """The same for the same checkpoint, however much is known of it."""
    return (checkpoint.attempt, checkpoint.number, checkpoint.name)


@dataclass(frozen=True)
class Transferred:
    """What had to go over; the rest was there."""

    files: int
    bytes: int


class CheckpointLocation(ABC):
    """Somewhere checkpoints are.

    Any method may raise `Unreachable`, `CredentialsError` and `MachineError` or `ProviderError`, as its machine or its
    store does.
    """

    label: str
    """As it is shown, and as a command line names it."""
    is_shared: bool = False
    """It is not a run's own: what lies there may be anything."""

    @abstractmethod
    def checkpoints(self, progress: Progress = SILENT) -> tuple[Checkpoint, ...]:
        """All of them, newest first. Their data is not read."""

    @abstractmethod
    def described(self, checkpoint: Checkpoint, progress: Progress = SILENT) -> Checkpoint:
        """The same checkpoint, with the SHA-256 of its files."""

    @abstractmethod
    def verify(
        self, checkpoints: Sequence[Checkpoint], progress: Progress = SILENT
    ) -> tuple[Checkpoint, ...]:
        """The same checkpoints, each verified or broken: every byte of them has been read."""

    @abstractmethod
    def in_use(self, checkpoints: Sequence[Checkpoint]) -> Collection[Identity]:
        """Those that an attempt which has not ended went on from, or may have."""

    @abstractmethod
    def fetch(self, checkpoint: Checkpoint, folder: Path, progress: Progress = SILENT) -> Transferred:
        """Its files are below ``folder`` on this computer, with its checksums; what is there already is not sent again.

        Raises `Conflict` (code ``broken-checkpoint``) when what arrived is not what the place says that it has.
        """

    @abstractmethod
    def accept(self, checkpoint: Checkpoint, folder: Path, progress: Progress = SILENT) -> Transferred:
        """A checkpoint whose files, with known SHA-256, are below ``folder`` on this computer is the newest here.

        Raises `Conflict` (code ``run-goes-on``) while an attempt writes its own checkpoints here.
        """

    @abstractmethod
    def remove(self, checkpoints: Sequence[Checkpoint], progress: Progress = SILENT) -> None:
        """They are gone; what another checkpoint needs stays."""
