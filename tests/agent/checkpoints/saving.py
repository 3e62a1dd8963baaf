"""A run that saves checkpoints into a folder and has a store."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from runctl.agent.checkpoints import layout
from runctl.agent.checkpoints.layout import Manifest
from runctl.agent.checkpoints.publisher import Publisher
from runctl.agent.checkpoints.stores import Store
from tests.agent.checkpoints.samples import archive

NEW = b"n" * 3000


@dataclass
class Run:
    """A run's folder, its store, and what was said."""

    folder: Path
    store: Store
    said: list[str] = field(default_factory=list)

    def publisher(self, attempt: int = 1, **options: object) -> Publisher:
        return Publisher(self.store, self.folder, "run-1", attempt, say=self.said.append, **options)  # type: ignore[arg-type]

    def save(self, name: str, payload: bytes = NEW, age: float = 60.0) -> Path:
        return self.put(name, archive(payload), age)

    def put(self, name: str, data: bytes, age: float = 60.0) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (time.time() - age, time.time() - age))
        return path

    def manifests(self) -> list[Manifest]:
        keys = layout.newest_first(self.store.keys("checkpoints/"))
        return [layout.decode(self.store.read(key)) for key in reversed(keys)]

    def data(self) -> set[str]:
        return set(self.store.keys("data/"))
