"""What ``docker pull`` says to a terminal, read as numbers: layers, bytes, and whether anything moves.

Without a terminal it says nothing between the beginning and the end of a layer, which can be many minutes apart. With
one it draws a line per layer, over and over; every drawing names its layer, so that where it is drawn does not matter.
"""

from __future__ import annotations

import re
from dataclasses import field

from runctl._dataclasses import dataclass

_ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
_LAYER = re.compile(
    r"^([0-9a-f]{12}): (Pulling fs layer|Waiting|Downloading|Verifying Checksum|Download complete|Extracting"
    r"|Pull complete|Already exists)\b(?:.*?([0-9.]+ ?[kKMGT]?i?B)(?:/([0-9.]+ ?[kKMGT]?i?B))?)?"
)
_NOISE = re.compile(
    r"^([0-9a-f]{12}): |: Pulling from |^Digest: |^Status: |^The push refers to |: digest: sha256:|^$"
)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
DONE = ("Pull complete", "Already exists")


def parse_size(text: str) -> int:
    """``25.01MB`` in bytes: docker counts in thousands."""
    number, unit = re.match(r"([0-9.]+) ?([kKMGT]?)", text).groups()  # type: ignore[union-attr]
    return int(float(number) * _UNITS[unit.lower()])


@dataclass
class Layer:
    """One layer, as it was drawn last."""

    state: str = ""
    done: int = 0
    """Downloaded bytes."""
    total: int = 0
    """0 as long as it is not known."""


@dataclass
class PullProgress:
    """A pull so far."""

    layers: dict[str, Layer] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    """What does not report progress: errors, above all."""
    _rest: bytes = b""

    def feed(self, data: bytes) -> bool:
        """Take in what was drawn; whether anything has moved on. A layer that is tried again has not."""
        *lines, self._rest = re.split(rb"[\r\n]+", _ESCAPE.sub(b"\n", self._rest + data))
        return sum(self._line(line.decode(errors="replace").strip()) for line in lines) > 0

    def close(self) -> None:
        """There will be no more."""
        self.feed(b"\n")

    def _line(self, line: str) -> bool:
        found = _LAYER.match(line)
        if found is None:
            if not _NOISE.search(line):
                self.messages.append(line)
            return False
        name, state, done, total = found.groups()
        layer = self.layers.setdefault(name, Layer())
        before = (layer.state, layer.done)
        if state == "Downloading" and done is not None:
            layer.done = parse_size(done)
            layer.total = parse_size(total) if total is not None else layer.total
        elif state in ("Verifying Checksum", "Download complete", "Extracting", "Pull complete"):
            layer.total = parse_size(total) if total is not None else layer.total or layer.done
            layer.done = layer.total
        # Extracting has numbers of its own: they move, and are not kept.
        layer.state = line if state == "Extracting" else state
        return (layer.state, layer.done) != before

    def numbers(self) -> tuple[int, int, int, int, bool]:
        """Layers that are done, all layers, bytes that are here, bytes in all, and whether these are all known."""
        wanted = [layer for layer in self.layers.values() if layer.state != "Already exists"]
        complete = sum(layer.state in DONE for layer in self.layers.values())
        here, total = sum(layer.done for layer in wanted), sum(layer.total for layer in wanted)
        return complete, len(self.layers), here, total, all(layer.total for layer in wanted)

    def __str__(self) -> str:
        """``layer 3 of 7, 120 of 800 MB``; where not every layer has begun, ``of at least``."""
        complete, layers, here, total, known = self.numbers()
        if not layers:
            return "waiting for the registry"
        extracting = sum(layer.state.find("Extracting") > 0 for layer in self.layers.values())
        unpacked = ", unpacking" if extracting and known and here == total else ""
        unit, size = ("MB", 10**6) if total >= 10**6 else ("kB", 10**3)
        bound = "" if known else "at least "
        amount = f"{here / size:.0f} of {bound}{total / size:.0f} {unit}"
        return f"layer {min(complete + 1, layers)} of {layers}, {amount}{unpacked}"
