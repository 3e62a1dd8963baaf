"""What ``.dockerignore`` leaves out of a build, by docker's own rules (its reference, ".dockerignore file").

They are not git's: a pattern begins at the root unless it starts with ``**``, and the last line that matches a path,
or a folder above it, decides.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

from runctl.core.errors import ProjectError

IGNORE_FILE = ".dockerignore"


@dataclass(frozen=True)
class _Rule:
    matches: re.Pattern[str]
    brings_back: bool


@dataclass(frozen=True)
class DockerIgnore:
    """The rules of one file."""

    rules: tuple[_Rule, ...] = ()
    path: str | None = None
    """The file that they came from, from the root; ``None`` when there is none."""

    @property
    def brings_back(self) -> bool:
        """Whether any line starts with ``!``: then folders that are left out must be looked into."""
        return any(rule.brings_back for rule in self.rules)

    def leaves_out(self, path: str) -> bool:
        """Whether docker would not send this path (from the root, with forward slashes)."""
        out = False
        for rule in self.rules:
            if rule.brings_back == out and _matches(rule.matches, path):
                out = not rule.brings_back
        return out


def ignore_file(root: Path, dockerfile: str) -> str | None:
    """The file whose rules hold for a build: the Dockerfile's own (``Dockerfile.dockerignore``), else the root's."""
    for candidate in (f"{dockerfile}.dockerignore", IGNORE_FILE):
        if (root / candidate).is_file():
            return candidate
    return None


def read_ignore(root: Path, dockerfile: str) -> DockerIgnore:
    """The rules for a build from that Dockerfile. Raises `ProjectError` for a file or line that cannot be read."""
    name = ignore_file(root, dockerfile)
    if name is None:
        return DockerIgnore()
    try:
        text = (root / name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{name} cannot be read: {error}") from error
    return parse_ignore(text, name)


def parse_ignore(text: str, name: str = IGNORE_FILE) -> DockerIgnore:
    """The rules of a text. Pure. Raises `ProjectError` naming a line that is no pattern."""
    rules = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#") or not line.strip():
            continue
        pattern = line.strip()
        brings_back = pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip()
        if not pattern:
            raise ProjectError(f"{name}:{number}: {line.strip()!r} is no pattern")
        clean = posixpath.normpath(pattern).removeprefix("//").removeprefix("/") or "."
        try:
            rules.append(_Rule(re.compile(_expression(clean), re.DOTALL), brings_back))
        except (re.error, ValueError) as error:
            raise ProjectError(f"{name}:{number}: {line.strip()!r} is no pattern: {error}") from error
    return DockerIgnore(tuple(rules), name)


def _matches(pattern: re.Pattern[str], path: str) -> bool:
    """The path itself, or a folder above it."""
    parts = path.split("/")
    return any(pattern.fullmatch("/".join(parts[:count])) for count in range(len(parts), 0, -1))


def _expression(pattern: str) -> str:
    """A pattern of Go's ``filepath.Match``, with ``**`` for any number of folders, as a regular expression."""
    out, place = [], 0
    while place < len(pattern):
        character = pattern[place]
        place += 1
        if pattern.startswith("*", place) and character == "*":
            place += 1
            if pattern.startswith("/", place):
                place += 1
            out.append(".*" if place >= len(pattern) else "(?:.*/)?")
        elif character == "*":
            out.append("[^/]*")
        elif character == "?":
            out.append("[^/]")
        elif character == "\\":
            if place >= len(pattern):
                raise ValueError("it ends with a backslash")
            out.append(re.escape(pattern[place]))
            place += 1
        elif character == "[":
            end = pattern.find("]", place + 1)
            if end < 0:
                raise ValueError("a [ is not closed")
            inside = pattern[place:end]
            negated = inside.startswith("^")
            body = inside.removeprefix("^").replace("\\", "\\\\").replace("[", "\\[")
            out.append(f"[^/{body}]" if negated else f"[{body}]")
            place = end + 1
        else:
            out.append(re.escape(character))
    return "".join(out)
