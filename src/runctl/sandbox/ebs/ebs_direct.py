"""The EBS direct APIs for snapshots: which blocks they hold, which blocks of two differ, and the blocks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ebs.responses import EBSResponse
from moto.ec2.models import ec2_backends

from runctl.sandbox.api.pages import page
from runctl.sandbox.ebs.blocks import BLOCK_BYTES, changed_blocks, read_block, written_blocks
from runctl.sandbox.world import current

PAGE = (100, 10_000)
"""What MaxResults may be."""
TOKEN_LIFE = timedelta(days=7)


class Refused(ServiceException):
    """An EBS direct API's refusal."""

    __module__ = EBSResponse.__module__
    """moto finds the service whose error it is by the module."""


_moto: dict[str, Callable[[Any], ActionResult]] = {
    name: getattr(EBSResponse, name)
    for name in ("list_snapshot_blocks", "list_changed_blocks", "get_snapshot_block")
}


def list_snapshot_blocks(self: Any) -> ActionResult:
    """ListSnapshotBlocks."""
    snapshot_id = self._get_param("SnapshotId")
    if snapshot_id in self.ebs_backend.snapshots:
        return _moto["list_snapshot_blocks"](self)
    file, size = _body(self, snapshot_id)
    found = [i for i in written_blocks(file) if i >= _first(self)]
    shown, token = _page(self, found)
    rows = [{"BlockIndex": index, "BlockToken": _token(snapshot_id, index)} for index in shown]
    return _listing("Blocks", rows, size, token)


def list_changed_blocks(self: Any) -> ActionResult:
    """ListChangedBlocks; without a first snapshot, all blocks of the second."""
    first_id, second_id = self._get_param("FirstSnapshotId"), self._get_param("SecondSnapshotId")
    if second_id in self.ebs_backend.snapshots:
        return _moto["list_changed_blocks"](self)
    second, size = _body(self, second_id)
    snapshots = ec2_backends[self.current_account][self.region].snapshots
    if first_id in snapshots and snapshots[first_id].volume is not snapshots[second_id].volume:
        raise Refused("ValidationException", "The snapshots are not of the same volume lineage.")
    first = _body(self, first_id)[0] if first_id else Path("/nonexistent")
    found = [i for i in changed_blocks(first, second) if i >= _first(self)]
    held = {first_id: set(written_blocks(first)), second_id: set(written_blocks(second))}
    shown, token = _page(self, found)
    rows = [
        {
            "BlockIndex": index,
            "FirstBlockToken": _token(first_id, index) if index in held[first_id] else None,
            "SecondBlockToken": _token(second_id, index) if index in held[second_id] else None,
        }
        for index in shown
    ]
    return _listing("ChangedBlocks", rows, size, token)


def get_snapshot_block(self: Any) -> ActionResult:
    """GetSnapshotBlock."""
    snapshot_id, index = self._get_param("SnapshotId"), int(self._get_param("BlockIndex"))
    if snapshot_id in self.ebs_backend.snapshots:
        return _moto["get_snapshot_block"](self)
    file, _ = _body(self, snapshot_id)
    if self._get_param("BlockToken") != _token(snapshot_id, index):
        raise Refused("ValidationException", "The block token is not valid")
    data = read_block(file, index)
    return ActionResult(
        {
            "DataLength": BLOCK_BYTES,
            "BlockData": data,
            "Checksum": base64.b64encode(hashlib.sha256(data).digest()).decode(),
            "ChecksumAlgorithm": "SHA256",
        }
    )


def install() -> None:
    """From now on moto answers with these."""
    answers: tuple[Callable[[Any], ActionResult], ...] = (
        list_snapshot_blocks,
        list_changed_blocks,
        get_snapshot_block,
    )
    for answer in answers:
        setattr(EBSResponse, answer.__name__, answer)


def _body(self: Any, snapshot_id: str) -> tuple[Path, int]:
    """The snapshot's file, which need not be there when nothing was written, and its GiB."""
    snapshot = ec2_backends[self.current_account][self.region].snapshots.get(snapshot_id)
    if snapshot is None:
        raise Refused("ResourceNotFoundException", f"The snapshot '{snapshot_id}' does not exist.")
    if snapshot.status != "completed":
        raise Refused("ValidationException", f"The snapshot '{snapshot_id}' is not completed.")
    if current().network is None:
        raise Refused("ValidationException", "Volumes that are folders have no blocks.")
    return current().disks.file(snapshot_id), int(snapshot.volume_size)


def _first(self: Any) -> int:
    return int(self._get_param("StartingBlockIndex") or 0)


def _page(self: Any, indices: Sequence[int]) -> tuple[list[int], str | None]:
    size = int(self._get_param("MaxResults") or PAGE[1])
    if not PAGE[0] <= size <= PAGE[1]:
        raise Refused("ValidationException", f"MaxResults must be from {PAGE[0]} to {PAGE[1]}")
    try:
        return page(indices, size, self._get_param("NextToken"))
    except ValueError as error:
        raise Refused("ValidationException", "The pagination token is not valid") from error


def _listing(name: str, rows: list[dict[str, Any]], size_gib: int, token: str | None) -> ActionResult:
    return ActionResult(
        {
            name: rows,
            "ExpiryTime": utcnow() + TOKEN_LIFE,
            "VolumeSize": size_gib,
            "BlockSize": BLOCK_BYTES,
            "NextToken": token,
        }
    )


def _token(snapshot_id: str, index: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(f"{snapshot_id}/{index}".encode()).digest()).decode()
