"""Three kinds of pictures as SVG to be put into a page, whose style has their colours. Pure.

Every bar and point has its figure as a title, which browsers show and screen readers read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from html import escape

from runctl._dataclasses import dataclass
from runctl.core.money import usd

WIDTH, HEIGHT = 900, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 40, 20, 30
_ROW = 24
_NAMES = 240
_LONGEST = 34
"""Characters of a name beside a bar."""


@dataclass(frozen=True)
class Bar:
    """One bar: what was paid, and what was saved besides."""

    label: str
    value: Decimal
    saved: Decimal = Decimal(0)

    @property
    def title(self) -> str:
        """What a browser shows over it."""
        saved = f", {usd(self.saved)} saved" if self.saved else ""
        return f"{self.label}: {usd(self.value)}{saved}"


def vertical_bars(bars: Sequence[Bar], description: str) -> str:
    """A bar for each time, in their order."""
    top, ticks = scale(max((bar.value for bar in bars), default=Decimal(0)))
    wide = Decimal(WIDTH - _LEFT - _RIGHT) / max(len(bars), 1)
    parts = [*_grid(top, ticks)]
    for index, bar in enumerate(bars):
        x = _LEFT + wide * index
        y = _y(bar.value, top)
        parts.append(
            f'<rect class="paid" x="{x + wide / 10:.1f}" y="{y:.1f}" width="{wide * 8 / 10:.1f}"'
            f' height="{HEIGHT - _BOTTOM - y:.1f}"><title>{escape(bar.title)}</title></rect>'
        )
    parts += _times([bar.label for bar in bars], wide, wide / 2)
    return _svg(parts, description, HEIGHT)


def horizontal_bars(bars: Sequence[Bar], description: str) -> str:
    """A bar for each name, one below the other."""
    longest = max((bar.value for bar in bars), default=Decimal(0))
    room = WIDTH - _NAMES - 90
    parts = []
    for index, bar in enumerate(bars):
        y = index * _ROW
        length = room * bar.value / longest if longest else Decimal(0)
        name = bar.label if len(bar.label) <= _LONGEST else f"{bar.label[: _LONGEST - 1]}…"
        parts.append(
            f'<text x="{_NAMES - 10}" y="{y + 16}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="paid" x="{_NAMES}" y="{y + 4}" width="{max(length, Decimal(1)):.1f}" height="{_ROW - 8}">'
            f"<title>{escape(bar.title)}</title></rect>"
            f'<text class="axis" x="{_NAMES + length + 8:.1f}" y="{y + 16}">{escape(usd(bar.value))}</text>'
        )
    return _svg(parts, description, max(len(bars), 1) * _ROW)


def two_lines(
    points: Sequence[tuple[str, Decimal, Decimal]], names: tuple[str, str], description: str
) -> str:
    """Two sums that grow with time, and the space between them."""
    top, ticks = scale(max((max(low, high) for _, low, high in points), default=Decimal(0)))
    wide = Decimal(WIDTH - _LEFT - _RIGHT) / max(len(points) - 1, 1)
    # A single point is drawn as a line over all of the width.
    drawn = [points[0], points[0]] if len(points) == 1 else list(points)
    low = [(_LEFT + wide * index, _y(point[1], top)) for index, point in enumerate(drawn)]
    high = [(_LEFT + wide * index, _y(point[2], top)) for index, point in enumerate(drawn)]
    parts = [*_grid(top, ticks)]
    parts.append(f'<polygon class="saved" points="{_points([*low, *reversed(high)])}"/>')
    parts.append(f'<polyline class="line-list" points="{_points(high)}"/>')
    parts.append(f'<polyline class="line-paid" points="{_points(low)}"/>')
    for (label, paid, listed), (x, _) in zip(drawn, low, strict=True):
        title = f"{label}: {names[0]} {usd(paid)}, {names[1]} {usd(listed)}"
        parts.append(
            f'<rect x="{x - wide / 2:.1f}" y="{_TOP}" width="{wide:.1f}" height="{HEIGHT - _TOP - _BOTTOM}"'
            f' fill="transparent"><title>{escape(title)}</title></rect>'
        )
    for index, (name, kind) in enumerate(zip(names, ("paid", "key-list"), strict=True)):
        left = _LEFT + 10 + index * 120
        parts.append(f'<rect class="{kind}" x="{left}" y="2" width="12" height="12"/>')
        parts.append(f'<text x="{left + 18}" y="12">{escape(name)}</text>')
    parts += _times([point[0] for point in points], wide, Decimal(0))
    return _svg(parts, description, HEIGHT)


def scale(largest: Decimal) -> tuple[Decimal, tuple[Decimal, ...]]:
    """The end of an axis with room for the largest value, and its marks, in steps of 1, 2 or 5 times a power of ten."""
    if largest <= 0:
        return Decimal(1), (Decimal(0), Decimal(1))
    rough = largest / 4
    power = Decimal(10) ** rough.adjusted()
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    count = int(largest // step) + (largest % step > 0)
    return step * count, tuple(step * index for index in range(count + 1))


def _grid(top: Decimal, ticks: Sequence[Decimal]) -> Iterator[str]:
    for tick in ticks:
        y = _y(tick, top)
        yield (
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="axis" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(_mark(tick))}</text>'
        )


def _times(labels: Sequence[str], wide: Decimal, shift: Decimal) -> Iterator[str]:
    """As many as there is room for."""
    every = -(-len(labels) * 90 // (WIDTH - _LEFT - _RIGHT)) or 1
    for index in range(0, len(labels), every):
        x = _LEFT + wide * index + shift
        yield f'<text class="axis" x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(labels[index])}</text>'


def _y(value: Decimal, top: Decimal) -> Decimal:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top


def _mark(amount: Decimal) -> str:
    return f"${amount:,.0f}" if amount >= 100 else usd(amount)


def _points(points: Sequence[tuple[Decimal, Decimal]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _svg(parts: Sequence[str], description: str, height: int) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}">'
        f"<desc>{escape(description)}</desc>{''.join(parts)}</svg>"
    )
