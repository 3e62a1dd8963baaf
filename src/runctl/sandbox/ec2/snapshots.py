"""Snapshots: the bytes that a volume had."""

from __future__ import annotations

from typing import Any

from runctl.sandbox.ec2.embodied import Embodied


class Snapshots(Embodied):
    """Snapshots with bodies."""

    def create_snapshot(self, volume_id: str, *words: Any, **more: Any) -> Any:
        """The snapshot has the bytes of this moment."""
        snapshot = super().create_snapshot(volume_id, *words, **more)
        self.disks.copy(volume_id, snapshot.id)
        return snapshot

    def delete_snapshot(self, snapshot_id: str) -> Any:
        """Its bytes are gone with it."""
        answer = super().delete_snapshot(snapshot_id)
        self.disks.remove(snapshot_id)
        return answer
