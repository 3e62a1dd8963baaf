"""Text for people: what machines say made fit to be shown, bytes, counts and articles."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

_BIDIRECTIONAL = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), *_BIDIRECTIONAL)
}
_LINES = {code: text for code, text in _CONTROLS.items() if code not in (0x09, 0x0A)}


def printable(text: str, *, lines: bool = True) -> str:
    """The text with every control character as its escape: a name or an answer must not drive the terminal.

    Line ends and tabs stay, unless ``lines`` is false.
    """
    return text.translate(_LINES if lines else _CONTROLS)


def with_article(kind: str) -> str:
    """``a volume``, ``an instance``."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def size(count: int) -> str:
    """In binary units: ``512 B``, ``1.5 MiB``."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def counted(number: int, thing: str, things: str | None = None) -> str:
    """``1 file``, ``1,200 files``; ``things`` is the plural where it is not made with an s."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def listed(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def time_span(span: timedelta) -> str:
    """``45s``, ``12m``, ``3h05m``, ``2d4h``: two units at most."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if hours < 1:
        return f"{minutes}m"
    if days < 1:
        return f"{hours}h{minutes % 60:02d}m"
    return f"{days}d{hours % 24}h"


def exact_span(seconds: float) -> str:
    """``12s``, ``1m30s``, ``12h00m``, ``11d13h46m41s``: to the millisecond, for what somebody has asked for."""
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    days, hours = divmod(hours, 24)
    text = (f"{days}d" if days else "") + (f"{hours}h" if days or hours else "")
    if minutes or (hours and not days):
        text += f"{minutes:02d}m" if text else f"{minutes}m"
    return f"{text}{rest:.5g}s" if rest or not text else text
