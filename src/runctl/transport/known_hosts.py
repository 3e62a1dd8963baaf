"""The host keys that runctl has learned: one known_hosts file of its own, one alias per machine."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from runctl._dataclasses import dataclass

_KEY_TYPES = ("ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-")


@dataclass(frozen=True)
class KnownHosts:
    """A known_hosts file that nobody else writes; the name of a host in it is a machine's alias (its id)."""

    path: Path

    def knows(self, alias: str) -> bool:
        """Whether a key is recorded for the machine."""
        return any(line.split(None, 1)[0] == alias for line in self._lines())

    def fingerprints(self, alias: str) -> tuple[str, ...]:
        """Of the machine's recorded keys, as ssh shows them: ``SHA256:`` and base64."""
        blobs = [line.split()[2] for line in self._lines() if line.split(None, 1)[0] == alias]
        return tuple(_fingerprint(blob) for blob in blobs)

    def learn(self, alias: str, keys: Sequence[str]) -> bool:
        """Record the keys for a machine that has none yet.

        ``keys`` are lines such as ``ssh-ed25519 AAAA…``, with or without a comment, as cloud-init prints them
        between its ``BEGIN SSH HOST KEY KEYS`` lines. Returns whether there was one among them.
        """
        good = [" ".join(key.split()[:2]) for key in keys if is_host_key(key)]
        if good and not self.knows(alias):
            self._write([*self._lines(), *(f"{alias} {key}" for key in good)])
        return bool(good)

    def forget(self, alias: str) -> bool:
        """No key is recorded for the machine any more: the next one that answers is believed. Returns whether
        there was one."""
        with self.locked():
            before = self._lines()
            after = [line for line in before if line.split(None, 1)[0] != alias]
            if len(after) != len(before):
                self._write(after)
        return len(after) != len(before)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else of ours changes the file meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.path.with_name(self.path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _lines(self) -> list[str]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]

    def _write(self, lines: Sequence[str]) -> None:
        fd, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name + ".")
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
        Path(name).replace(self.path)


def _fingerprint(blob: str) -> str:
    digest = hashlib.sha256(base64.b64decode(blob)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def is_host_key(line: str) -> bool:
    """Whether it reads like a public key: a type and a base64 blob."""
    fields = line.split()
    return len(fields) >= 2 and fields[0].startswith(_KEY_TYPES) and fields[1].startswith("AAAA")
