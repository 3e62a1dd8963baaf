"""What the last build of a project was made of, kept on this computer so that the next one can be explained."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from runctl.containers.image_inputs import ImageInputs

_VERSION = 1


class BuildRecords:
    """One file for each project and target."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def last(self, root: Path, now: ImageInputs) -> ImageInputs | None:
        """The inputs of the last build like this one; ``None`` when there was none or it cannot be read."""
        try:
            saved = json.loads(self._file(root, now).read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(saved, dict) or saved.pop("version", None) != _VERSION:
            return None
        try:
            return ImageInputs(**saved)
        except TypeError:
            return None

    def remember(self, root: Path, inputs: ImageInputs) -> None:
        """This was the last build. A folder that cannot be written to loses the explanation, not the build.

        Of the values of build arguments only a hash is kept.
        """
        kept = hashed(inputs)
        if self.last(root, inputs) == kept:
            return
        values = {**asdict(kept), "version": _VERSION}
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, partial = tempfile.mkstemp(dir=self.folder, prefix=".")
            with os.fdopen(descriptor, "w") as file:
                json.dump(values, file, separators=(",", ":"))
            Path(partial).replace(self._file(root, inputs))

    def begin(self, root: Path, name: str) -> None:
        """An image of the project is being built under this name, which is not to stay."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._unfinished(root).write_text(name, encoding="utf-8")

    def unfinished(self, root: Path) -> str | None:
        """The name under which a build of the project began that has not come to its end. The project's builds take
        turns (`alone`): so its command was killed."""
        try:
            return self._unfinished(root).read_text(encoding="utf-8") or None
        except (OSError, ValueError):
            return None

    def end(self, root: Path) -> None:
        """The name is gone."""
        with contextlib.suppress(OSError):
            self._unfinished(root).unlink()

    @contextmanager
    def alone(self, root: Path) -> Iterator[None]:
        """No other build of the project runs on this computer meanwhile: two would build the same twice."""
        descriptor = self._open_lock(root)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open_lock(self, root: Path) -> int:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return os.open(self.folder / f"{_key(root)}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            # A full disk or a home that cannot be written to: the project's own folder is there in any case. Not
            # always that one, as file systems of a network want write access for a lock.
            return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _unfinished(self, root: Path) -> Path:
        return self.folder / f"{_key(root)}.unfinished"

    def _file(self, root: Path, inputs: ImageInputs) -> Path:
        which = "\0".join((inputs.dockerfile, inputs.target or "", inputs.platform or ""))
        return self.folder / f"{_key(root)}-{hashlib.sha256(which.encode()).hexdigest()[:8]}.json"


def hashed(inputs: ImageInputs) -> ImageInputs:
    """The same with hashes in place of the arguments' values: enough to see that one has changed."""
    return ImageInputs(
        inputs.dockerfile,
        inputs.dockerfile_text,
        inputs.context,
        {
            name: hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()
            for name, value in inputs.args.items()
        },
        inputs.target,
        inputs.platform,
    )


def _key(root: Path) -> str:
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
