"""What a person answers at the terminal: yes or no, and single keys while something else goes on."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO


def ask(question: str, source: TextIO, screen: TextIO) -> bool:
    """Whether the answer is yes; an empty answer and the end of input are no."""
    while True:
        screen.write(f"{question} [y/N] ")
        screen.flush()
        line = source.readline()
        answer = line.strip().lower()
        if answer in {"y", "yes"}:
            return True
        if answer in {"", "n", "no"}:
            if not line:
                screen.write("\n")
            return False
        screen.write("please answer y or n\n")


class Keys:
    """A thread that calls ``on_key`` with each letter typed. Used with ``with``, it leaves the terminal as it was."""

    def __init__(self, on_key: Callable[[str], None]) -> None:
        self._on_key = on_key
        self._over = threading.Event()
        self.available = False
        """Whether there is anybody who could type."""
        self._before: list[Any] | None = None
        self._thread = threading.Thread(target=self._read, name="keys", daemon=True)

    def __enter__(self) -> Keys:
        try:
            self._fd = sys.stdin.fileno()
        except (AttributeError, OSError, ValueError):
            return self
        if sys.stdin.isatty():
            import termios
            import tty

            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd, termios.TCSANOW)
        self.available = sys.stdin.isatty()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._before is not None:
            import termios

            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _read(self) -> None:
        while not self._over.is_set():
            readable, _, _ = select.select([self._fd], [], [], 0.2)
            if not readable:
                continue
            data = os.read(self._fd, 64)
            if not data:
                return
            for letter in data.decode(errors="replace").strip():
                self._on_key(letter.lower())
