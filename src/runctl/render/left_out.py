"""What a copy has left out, for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def left_out(skipped: Sequence[str], changed: Sequence[str]) -> Iterator[str]:
    """A sentence for each reason: see `runctl.storage.copying.Copied`."""
    if skipped:
        yield f"not copied, as it is not a file, or a link that leads out of the folder: {_some(skipped)}"
    if changed:
        yield f"not copied, as it was written to whenever it was copied: {_some(changed)}"


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (", ..." if paths[3:] else "")
