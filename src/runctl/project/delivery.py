"""Sending a machine the tree that it lacks: what has changed, and of that only the contents that it has nowhere."""

from __future__ import annotations

import base64
import gzip
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from runctl._dataclasses import dataclass
from runctl.agent.trees.changes import encode_changes
from runctl.agent.trees.manifest import FEW, Entry, Manifest, contents
from runctl.core.errors import MachineError
from runctl.core.progress import Progress
from runctl.core.text import counted, size
from runctl.project.manifest import pack_of, write_pack
from runctl.transport.tree_session import TreeSession

EAGER_BYTES = 256 * 1024
"""So much content is sent without asking what the machine has of it: a round trip costs more."""
_IN_MEMORY = 1 << 20
_ROUNDS = 4


@dataclass
class Sent:
    """What it took."""

    files: int = 0
    """Distinct contents."""
    bytes: int = 0
    """Compressed, descriptions included."""
    removed: int = 0
    """Files that the tree before had and this one has not."""


@dataclass(frozen=True)
class Delta:
    """How a tree differs from one that the machine has."""

    base: str
    """The other one's digest."""
    changed: Mapping[str, Entry]
    removed: tuple[str, ...]
    before: Mapping[str, Entry]
    """What the other one has where this one differs."""
    new: Mapping[str, int]
    """The contents that the other one has not, with their sizes."""

    @classmethod
    def between(cls, base: Manifest, manifest: Manifest) -> Delta:
        """What makes the one into the other."""
        differences = base.differences(manifest)
        changed = {path: new for path, (_, new) in differences.items() if new is not None}
        removed = sorted(path for path, (_, new) in differences.items() if new is None)
        before = {path: old for path, (old, _) in differences.items() if old is not None}
        return cls(base.digest, changed, tuple(removed), before, _new_contents(base, changed))

    @classmethod
    def of(cls, base: Manifest, changed: Mapping[str, Entry], removed: Sequence[str]) -> Delta:
        """What is made of the one by these entries, and by taking these away."""
        before = {path: old for path in (*changed, *removed) if (old := base.get(path)) is not None}
        return cls(base.digest, changed, tuple(removed), before, _new_contents(base, changed))

    @property
    def is_small(self) -> bool:
        """Whether it can be made without a manifest: a few files, each with a content that the other one has not."""
        files = contents(self.changed.values())
        return (
            len(self.changed) + len(self.removed) <= FEW
            and files.keys() == self.new.keys()
            and sum(files.values()) <= EAGER_BYTES
        )

    @property
    def record(self) -> bytes:
        """As the machine takes a small one."""
        paths = (*self.changed, *self.removed)
        return encode_changes(
            self.base, {path: (self.before.get(path), self.changed.get(path)) for path in paths}
        )


def _new_contents(base: Manifest, changed: Mapping[str, Entry]) -> dict[str, int]:
    """The contents of these entries that are nowhere in ``base``, with their sizes."""
    new = contents(changed.values())
    for _, entry in base.files_with(set(new)):
        new.pop(entry[3], None)
    return new


@dataclass(frozen=True)
class _Request:
    fields: Mapping[str, Any]
    entries: Mapping[str, Entry]
    """Where the contents are found here."""
    missing: Mapping[str, int]
    """The contents to send along, with their sizes."""


@dataclass(frozen=True)
class Delivery:
    """One tree on its way to one machine."""

    root: Path
    project: str
    manifest: Manifest
    session: TreeSession
    progress: Progress

    def deliver(self, delta: Delta | None) -> Sent:
        """The machine has the tree, as its current one. ``delta`` is from a tree that it has.

        Raises what the agent's verbs raise, `runctl.project.manifest.FileChanged`, and `MachineError`
        (``sync-failed``) when the machine loses files as fast as they come.
        """
        sent = Sent()
        if delta is not None and delta.is_small and self._apply_small(delta, sent):
            return sent
        request = self._full() if delta is None else self._change(delta)
        if sum(request.missing.values()) > EAGER_BYTES:
            answer = self._ask(request, sent)
            if not answer["known"]:
                answer = self._ask(self._full(), sent)
            if answer["have"]:
                return sent
            request = self._rest(answer)
        for _ in range(_ROUNDS):
            answer = self._apply(request, sent)
            if answer["applied"]:
                sent.removed = answer.get("removed", 0)
                return sent
            request = self._rest(answer)
        raise MachineError(
            f"the machine keeps asking for more of {self.project}",
            hint="something on it removes the project's files while they arrive; try again",
            code="sync-failed",
        )

    def _apply_small(self, delta: Delta, sent: Sent) -> bool:
        record = delta.record
        pack = pack_of(self.root, delta.changed)
        sent.bytes += len(record) + len(pack)
        answer = self.session.change(self.manifest.digest, record, pack)
        if not answer["applied"]:
            return False
        sent.files, sent.removed = len(delta.new), answer["removed"]
        return True

    def _name(self) -> dict[str, Any]:
        return {"project": self.project, "digest": self.manifest.digest}

    def _full(self) -> _Request:
        fields = {**self._name(), "manifest": _encoded(self.manifest.text.encode("ascii"))}
        return _Request(fields, self.manifest.entries, contents(self.manifest.entries.values()))

    def _change(self, delta: Delta) -> _Request:
        changes = json.dumps({"set": delta.changed, "remove": delta.removed}, separators=(",", ":"))
        fields = {**self._name(), "base": delta.base, "changes": _encoded(changes.encode("ascii"))}
        return _Request(fields, delta.changed, delta.new)

    def _rest(self, answer: Mapping[str, Any]) -> _Request:
        """What the machine asks for; it may know the manifest by now."""
        there = contents(self.manifest.entries.values())
        missing: Mapping[str, int] = there
        if answer["missing"] != "all":
            missing = {sha: there[sha] for sha in answer["missing"] if sha in there}
        fields = self._name() if answer["known"] else self._full().fields
        return _Request(fields, self.manifest.entries, missing)

    def _ask(self, request: _Request, sent: Sent) -> Mapping[str, Any]:
        sent.bytes += _weight(request.fields)
        return self.session.manifest(request.fields)

    def _apply(self, request: _Request, sent: Sent) -> Mapping[str, Any]:
        sent.bytes += _weight(request.fields)
        if not request.missing:
            return self.session.apply(request.fields)
        total = sum(request.missing.values())
        self.progress.step(f"packing {counted(len(request.missing), 'changed file')}")
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as spool:
            # TemporaryFile's stub is not a BinaryIO; it is one.
            pack: Any = spool
            files = write_pack(self.root, request.entries, request.missing, pack)
            packed = pack.tell()
            pack.seek(0)
            self.progress.step(f"sending {counted(files, 'file')} ({size(total)}, {size(packed)} packed)")
            body = pack.read() if packed <= _IN_MEMORY else _Counted(pack, packed, self.progress.update)
            sent.files += files
            sent.bytes += packed
            return self.session.apply(request.fields, body, packed)


class _Counted(BytesIO):
    """A file that says how far it has been read."""

    def __init__(self, file: BinaryIO, size: int, report: Callable[..., None]) -> None:
        super().__init__()
        self._file = file
        self._size = size
        self._report = report

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        data = self._file.read(-1 if size is None else size)
        self._report(done=self._file.tell(), total=self._size)
        return data

    def read1(self, size: int | None = -1, /) -> bytes:
        """As `read`: nothing here waits."""
        return self.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As in the file."""
        return self._file.tell()


def _encoded(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, compresslevel=3, mtime=0)).decode("ascii")


def _weight(fields: Mapping[str, Any]) -> int:
    return sum(len(value) for value in fields.values() if isinstance(value, str))
