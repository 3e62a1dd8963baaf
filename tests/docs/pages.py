"""The commands in a page, as a script that runs step by step and is compared with what the page shows.

A ``console`` block holds commands after ``$ `` (goes on at ``> `` or after a backslash) and, optionally, what they
print. ``…`` stands for any text; alone on a line for any number of lines. Without shown output any will do. A command
that is meant to fail ends with ``# exits 5``. A block of any language with ``file=NAME`` is written to that
file. ``<!-- needs: docker root -->`` names the markers without which the page cannot be run.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(
    r"^(?P<ticks>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=ticks)\s*$", re.MULTILINE | re.DOTALL
)
_NEEDS = re.compile(r"^<!-- needs: (?P<markers>[a-z ]+) -->$", re.MULTILINE)
_EXITS = re.compile(r"\s+# exits (?P<code>\d+)$")


class BadPage(ValueError):
    """The page cannot be read as commands; the message names the line."""


@dataclass(frozen=True)
class Step:
    """One command, or one file to write."""

    line: int
    """In the page, from 1."""
    command: str
    shown: tuple[str, ...] = ()
    """What the page says it prints; empty for anything."""
    exit_code: int = 0


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    line: int
    """Of the opening fence, from 1."""
    language: str
    options: dict[str, str] = field(default_factory=dict)
    body: str = ""


def blocks(text: str) -> list[Block]:
    """Every fenced block of the page, in order."""
    found = []
    for match in _FENCE.finditer(text):
        language, *argv = match["info"].split() or [""]
        options = dict(word.partition("=")[::2] for word in argv)
        found.append(Block(text.count("\n", 0, match.start()) + 1, language, options, match["body"]))
    return found


def needs(text: str) -> tuple[str, ...]:
    """The markers that the page asks for."""
    match = _NEEDS.search(text)
    return tuple(match["markers"].split()) if match else ()


def steps(text: str) -> list[Step]:
    """What the page does, in order. Raises `BadPage`."""
    found: list[Step] = []
    for block in blocks(text):
        if "file" in block.options:
            here = shlex.quote(block.options["file"])
            found.append(Step(block.line, f"cat >{here} <<'END-OF-FILE'\n{block.body}END-OF-FILE"))
        elif block.language == "console":
            found.extend(_console(block))
    return found


def _console(block: Block) -> list[Step]:
    found: list[Step] = []
    command: list[str] = []
    shown: list[str] = []
    start = block.line

    def finish() -> None:
        if command:
            text = "\n".join(command)
            exits = _EXITS.search(text)
            while shown and not shown[-1]:
                shown.pop()
            code = int(exits["code"]) if exits else 0
            found.append(Step(start, _EXITS.sub("", text), tuple(shown), code))

    goes_on = False
    for number, line in enumerate(block.body.splitlines(), start=block.line + 1):
        if line.startswith("$ "):
            finish()
            command, shown, start = [line[2:]], [], number
        elif goes_on or (line.startswith("> ") and command and not shown):
            command.append(line.removeprefix("> "))
        elif not command:
            raise BadPage(f"line {number}: a console block begins with a command after '$ '")
        else:
            shown.append(line)
        goes_on = line.endswith("\\") and not shown
    finish()
    return found


def matches(shown: tuple[str, ...], printed: str) -> bool:
    """Whether a command printed what the page shows."""
    if not shown:
        return True
    pattern = ""
    for line in shown:
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ \t]*\n"
    text = printed if printed.endswith("\n") or not printed else printed + "\n"
    return re.fullmatch(pattern, text) is not None


def script(page: list[Step], results: Path) -> str:
    """A program for bash that runs the steps in one shell and leaves after the first that ends otherwise.

    Step N leaves ``N.out``, ``N.err`` and ``N.code`` in ``results``.
    """
    lines = []
    for number, step in enumerate(page):
        out, err, code = (shlex.quote(str(results / f"{number}.{kind}")) for kind in ("out", "err", "code"))
        lines += [
            "{",
            step.command,
            f"}} >{out} 2>{err} </dev/null",
            f"code=$?; echo $code >{code}; [ $code -eq {step.exit_code} ] || exit 1",
        ]
    return "\n".join(lines) + "\n"
