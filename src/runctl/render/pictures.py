"""Pictures in files, drawn by matplotlib, which is optional and imported when one is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runctl.core.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png", ".pdf")
COLOURS = ("#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#0072B2", "#D55E00", "#999999")
"""Okabe and Ito's, which people who see colours differently can tell apart."""


@contextmanager
def drawing(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure of so many inches to draw on, which is in the file after the block. Raises `UsageError`."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path.name} does not end with {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "pictures are drawn by matplotlib, which is not installed", hint="pip install 'runctl[plot]'"
        ) from error

    # Text stays text in an SVG, and the same numbers give the same file.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "runctl"}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        try:
            figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
