"""Standard output that remembers why it could not be written.

An `OSError` that reaches the top may have come from anywhere; only when stdout itself failed is it the reader's doing.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Watched(io.FileIO):
    def __init__(self, original: io.TextIOWrapper) -> None:
        super().__init__(original.fileno(), "w", closefd=False)
        self.failure: OSError | None = None
        # Were it let go of, it would close the descriptor that both use.
        self._original = original

    def write(self, data: ReadableBuffer, /) -> int:
        """As a file does; the first failure is kept."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise


def watch() -> None:
    """From now on `failure` knows. A character that the terminal cannot show is escaped, and fails no command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.flush()
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Watched(sys.stdout)),
            encoding=sys.stdout.encoding,
            errors="backslashreplace",
            line_buffering=sys.stdout.line_buffering,
        )


def failure() -> OSError | None:
    """Why what was written did not all arrive; ``None`` when it did. Afterwards a failed stdout takes everything."""
    try:
        sys.stdout.flush()
    except OSError as error:
        found: OSError | None = error
    else:
        raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
        found = raw.failure if isinstance(raw, _Watched) else None
    if found is not None:
        # The interpreter flushes once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return found
