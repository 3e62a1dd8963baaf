"""What machines were sent."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from runctl.project.atomic import write_atomically
from runctl.project.manifest import Manifest

_REMEMBERED = 64
"""Manifests of machines that are kept; each is a hint, and losing one costs a longer first message."""


class Memory:
    """Which manifest a machine was last seen to have. Wrong or gone, it costs a round trip and nothing else."""

    def __init__(self, folder: Path, machine: str, project: str) -> None:
        """``folder`` is for all of them."""
        self._folder = folder
        self._project = project
        self._key = hashlib.sha256(f"{machine}\0{project}".encode("utf-8", "surrogateescape")).hexdigest()[
            :32
        ]

    def digest(self) -> str | None:
        """Of what it was sent last."""
        for path in self._folder.glob(f"{self._key}.*.json"):
            return path.name.split(".")[1]
        return None

    def read(self, digest: str | None) -> Manifest | None:
        """The manifest that was written with this digest."""
        if digest is None:
            return None
        try:
            text = (self._folder / f"{self._key}.{digest}.json").read_bytes()
        except OSError:
            return None
        manifest = Manifest.from_text(text)
        return manifest if manifest.digest == digest else None

    def write(self, manifest: Manifest) -> None:
        """It was sent this."""
        new = self._folder / f"{self._key}.{manifest.digest}.json"
        with contextlib.suppress(OSError):
            write_atomically(new, manifest.text)
            for path in self._folder.glob(f"{self._key}.*.json"):
                if path != new:
                    path.unlink(missing_ok=True)
            kept = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in kept[_REMEMBERED:]:
                path.unlink(missing_ok=True)
