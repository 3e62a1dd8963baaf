"""Answers about prices that are kept on this computer: a file for each question, replaced whole.

Several processes may write the same one: each writes an answer that is true, and the last stays. A file that cannot be
read is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock, parse_rfc3339, rfc3339


@dataclass(frozen=True)
class Kept:
    """An answer, and when it was given."""

    at: datetime
    content: Any
    """As JSON has it; money as text."""


class PriceCache:
    """The answers that one account was given."""

    def __init__(self, directory: Path | None, clock: Clock) -> None:
        """Without a directory nothing is kept."""
        self._directory = directory
        self._clock = clock

    def read(self, name: str, at_most: timedelta | None = None) -> Kept | None:
        """The answer of that name, where it is there and not older than that."""
        if self._directory is None:
            return None
        try:
            found = json.loads(self._file(self._directory, name).read_bytes())
            kept = Kept(parse_rfc3339(found["at"]), found["content"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        age = self._clock.now() - kept.at
        # One from the future was written by a clock that was wrong.
        too_old = at_most is not None and age > at_most
        return None if too_old or age < timedelta(minutes=-1) else kept

    def write(self, name: str, content: Any) -> None:
        """Keep it as of now; where that is not possible it is asked again the next time."""
        if self._directory is None:
            return
        file = self._file(self._directory, name)
        text = json.dumps({"at": rfc3339(self._clock.now()), "content": content})
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as sink:
                sink.write(text)
            os.replace(sink.name, file)  # noqa: PTH105 (pathlib's would do the same)
        except OSError:
            return

    @staticmethod
    def _file(directory: Path, name: str) -> Path:
        return directory / f"{re.sub(r'[^a-z0-9.-]', '_', name.lower())}.json"


def digest_of(*parts: str | None) -> str:
    """A short name of whose answers they are, which does not tell."""
    return hashlib.sha256("\n".join(part or "" for part in parts).encode()).hexdigest()[:16]
