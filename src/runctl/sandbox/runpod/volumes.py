"""RunPod's network volumes on this computer: folders, which pods have mounted from their first moment to their last."""

from __future__ import annotations

import secrets
import shutil
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runctl.sandbox.api.rest import Refused

DATA_CENTRES = {"EU-RO-1": ("STANDARD",), "US-KS-2": ("STANDARD", "HIGH_PERFORMANCE"), "EU-NL-1": ()}
"""With the types of network volumes that each has (§5, §8)."""
LEAST_GB, MOST_GB = 10, 4096
_FIELDS = frozenset({"name", "size", "dataCenter", "type"})
_LETTERS = string.ascii_lowercase + string.digits


@dataclass
class NetworkVolume:
    """One of them."""

    volume_id: str
    name: str
    size: int
    """GB."""
    data_centre: str
    kind: str

    def shown(self) -> dict[str, Any]:
        """As the API shows it (§8)."""
        return {
            "id": self.volume_id,
            "name": self.name,
            "size": self.size,
            "dataCenter": self.data_centre,
            "type": self.kind,
        }


class NetworkVolumes:
    """Those of one account."""

    def __init__(self, users: Callable[[str], list[str]]) -> None:
        """``users`` tells the pods that have a volume."""
        self._users = users
        self._found: dict[str, NetworkVolume] = {}
        self.folder: Path | None = None
        """Where their data is, a folder for each."""

    def listed(self) -> list[NetworkVolume]:
        """All of them."""
        return list(self._found.values())

    def find(self, volume_id: str) -> NetworkVolume:
        """One. Raises `Refused`."""
        found = self._found.get(volume_id)
        if found is None:
            raise Refused(404, "resource not found")
        return found

    def create(self, body: dict[str, Any]) -> NetworkVolume:
        """It is there at once. Names need not be unique (§8). Raises `Refused`."""
        _check_fields(body)
        centre = str(body.get("dataCenter", ""))
        types = DATA_CENTRES.get(centre, ())
        if not types:
            able = ", ".join(name for name, having in DATA_CENTRES.items() if having)
            raise Refused(
                400, f'Data center "{centre}" not found or does not support network volumes: {able}'
            )
        kind = str(body.get("type") or types[0])
        if kind not in types or not body.get("name"):
            raise Refused(422, "Request validation failed.", "$.type or $.name: not allowed")
        volume_id = "".join(secrets.choice(_LETTERS) for _ in range(10))
        created = NetworkVolume(volume_id, str(body["name"]), _size(body), centre, kind)
        self.folder_of(volume_id).mkdir(parents=True)
        self._found[volume_id] = created
        return created

    def change(self, volume_id: str, body: dict[str, Any]) -> NetworkVolume:
        """Another name, or a larger size. Raises `Refused`."""
        volume = self.find(volume_id)
        if not body or not set(body) <= {"name", "size"}:
            raise Refused(422, "Request validation failed.", "$: name or size")
        if "size" in body and _size(body) < volume.size:
            raise Refused(400, "A network volume cannot be made smaller.")
        volume.size = int(body.get("size", volume.size))
        volume.name = str(body.get("name", volume.name))
        return volume

    def delete(self, volume_id: str) -> None:
        """It is gone, with its data; one that a pod has stays, as far as ``users`` tells. Raises `Refused`."""
        self.find(volume_id)
        if self._users(volume_id):
            raise Refused(400, "The network volume is in use.")
        shutil.rmtree(self.folder_of(volume_id), ignore_errors=True)
        del self._found[volume_id]

    def folder_of(self, volume_id: str) -> Path:
        """Where its data is."""
        if self.folder is None:
            raise AssertionError("the account has no folder yet")
        return self.folder / volume_id

    @staticmethod
    def data_centres() -> list[dict[str, Any]]:
        """The catalogue's (§5)."""
        return [
            {"id": name, "name": name, "region": "EUROPE", "networkVolumeTypes": list(types)}
            for name, types in DATA_CENTRES.items()
        ]


def _check_fields(body: dict[str, Any]) -> None:
    unknown = sorted(set(body) - _FIELDS)
    if unknown:
        raise Refused(
            422,
            "Request validation failed.",
            *(f"$: additional properties '{name}' not allowed" for name in unknown),
        )


def _size(body: dict[str, Any]) -> int:
    size = body.get("size")
    if not isinstance(size, int) or not LEAST_GB <= size <= MOST_GB:
        raise Refused(422, "Request validation failed.", f"$.size: {LEAST_GB} to {MOST_GB}")
    return size
