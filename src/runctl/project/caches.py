"""The user's own caches of projects: files written whole or not at all, and what machines were sent last."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from pathlib import Path

from runctl.agent.trees.manifest import Manifest

_REMEMBERED = 64
"""Manifests of machines that are kept; each is a hint, and losing one costs a longer first message."""


class SentTrees:
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
        manifest = Manifest(text=text.decode("ascii", "replace"))
        return manifest if manifest.digest == digest else None

    def stage(self, manifest: Manifest) -> Path | None:
        """The manifest is written, and does not count before `keep`; ``None`` if that failed."""
        try:
            staged = self._folder / f"{self._key}.{manifest.digest}.staged"
            write_atomically(staged, manifest.text.encode("ascii"))
        except OSError:
            return None
        return staged

    def keep(self, staged: Path | None) -> None:
        """The machine was sent what was staged."""
        if staged is None:
            return
        with contextlib.suppress(OSError):
            new = staged.with_suffix(".json")
            staged.replace(new)
            for path in self._folder.glob(f"{self._key}.*"):
                if path != new:
                    path.unlink(missing_ok=True)
            kept = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in kept[_REMEMBERED:]:
                path.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """``path`` holds ``data``, private to the user, or is what it was. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(data)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
