"""Asking a person."""

from __future__ import annotations

from typing import TextIO


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
