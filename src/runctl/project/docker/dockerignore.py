"""What ``.dockerignore`` leaves out of a build, by docker's own rules (its reference, ".dockerignore file").

They are not git's: a pattern begins at the root unless it starts with ``**``, and the last line that matches a path,
or a folder above it, decides. No pattern is matched by backtracking, which a file from elsewhere could make endless: it
takes at most the pattern's length times the path's. Own code, as the kept libraries (pathspec among them) know git's
rules only, and docker's own is in Go.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.core.errors import ProjectError

IGNORE_FILE = ".dockerignore"


@dataclass(frozen=True)
class _Rule:
    pattern: Pattern
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
            if rule.brings_back == out and rule.pattern.matches(path):
                out = not rule.brings_back
        return out


def ignore_files(dockerfile: str) -> tuple[str, str]:
    """The first of these that is there holds for a build: the Dockerfile's own (``Dockerfile.dockerignore``), else the
    root's."""
    return f"{dockerfile}.dockerignore", IGNORE_FILE


def ignore_file(root: Path, dockerfile: str) -> str | None:
    """The file whose rules hold for a build."""
    for candidate in ignore_files(dockerfile):
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
    """The rules of a text. Pure. Raises `ProjectError` naming a line that is not a pattern."""
    rules = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#") or not line.strip():
            continue
        pattern = line.strip()
        brings_back = pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip()
        if not pattern:
            raise ProjectError(f"{name}:{number}: {line.strip()!r} is not a pattern")
        clean = posixpath.normpath(pattern).removeprefix("//").removeprefix("/") or "."
        try:
            rules.append(_Rule(Pattern(clean), brings_back))
        except (re.error, ValueError) as error:
            raise ProjectError(f"{name}:{number}: {line.strip()!r} is not a pattern: {error}") from error
    return DockerIgnore(tuple(rules), name)


_MATCHED = -1
"""A state: the folder itself matches, and so does all that is in it."""


class Pattern:
    """A pattern of Go's ``filepath.Match``, with ``**`` for any number of folders.

    All ways in which it can match are followed side by side: bit ``i`` of a state says that the first ``i`` positions
    are behind. ``**/`` has two positions: before the folders, and within them.
    """

    def __init__(self, text: str) -> None:
        """Raises `ValueError` or `re.error` for what is not a pattern."""
        self._singles: list[tuple[int, Callable[[str], object]]] = []
        self._stays = self._stays_in_name = self._leaves_at_slash = self._skips_single = self._skips_two = 0
        bit = 1
        for part in _parts(text):
            if part == "*":
                self._stays_in_name |= bit
                self._skips_single |= bit
            elif part == "**":
                self._stays |= bit
                self._skips_single |= bit
            elif part == "**/":
                self._skips_single |= bit
                self._skips_two |= bit
                bit <<= 1
                self._stays |= bit
                self._leaves_at_slash |= bit
            elif not isinstance(part, str):
                self._singles.append((bit, part))
            bit <<= 1
        self._end = bit
        self._takes: dict[str, int] = {}
        self._folders: dict[str, int] = {"": self._skipped(1)}

    def matches(self, path: str) -> bool:
        """The path itself, or a folder above it."""
        folder, _, name = path.rpartition("/")
        state = self._folders.get(folder)
        if state is None:
            state = self._within(folder)
        return state == _MATCHED or bool(state and self._read(state, name) & self._end)

    def _within(self, folder: str) -> int:
        """The state behind the folder's slash; each folder is read once."""
        state, end = self._folders[""], -1
        while end < len(folder):
            start, end = end + 1, folder.find("/", end + 1)
            end = len(folder) if end < 0 else end
            known = self._folders.get(folder[:end])
            if known is None and state != _MATCHED:
                state = self._read(state, folder[start:end])
                state = _MATCHED if state & self._end else self._read(state, "/")
            elif known is not None:
                state = known
            self._folders[folder[:end]] = state
        return state

    def _read(self, state: int, text: str) -> int:
        for character in text:
            if not state:
                break
            after = (state & self._taking(character)) << 1 | state & self._stays
            if character == "/":
                after |= (state & self._leaves_at_slash) << 1
            else:
                after |= state & self._stays_in_name
            state = self._skipped(after)
        return state

    def _taking(self, character: str) -> int:
        """The positions of single characters that this one fits."""
        mask = self._takes.get(character)
        if mask is None:
            mask = sum(bit for bit, fits in self._singles if fits(character))
            self._takes[character] = mask
        return mask

    def _skipped(self, state: int) -> int:
        """With the positions that are reached by taking nothing."""
        while True:
            more = state | (state & self._skips_single) << 1 | (state & self._skips_two) << 2
            if more == state:
                return state
            state = more


def _parts(pattern: str) -> Iterator[str | Callable[[str], object]]:
    """``*``, ``**/``, ``**`` at the end, and for everything else what tells whether a character fits."""
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*" and pattern.startswith("*", at):
            at += 1
            if pattern.startswith("/", at):
                at += 1
            yield "**" if at >= len(pattern) else "**/"
        elif character == "*":
            yield "*"
        elif character == "?":
            yield re.compile(r"[^/]").fullmatch
        elif character == "\\":
            if at >= len(pattern):
                raise ValueError("it ends with a backslash")
            yield pattern[at].__eq__
            at += 1
        elif character == "[":
            end = pattern.find("]", at + 1)
            if end < 0:
                raise ValueError("a [ is not closed")
            yield _character_set(pattern[at:end])
            at = end + 1
        else:
            yield character.__eq__


def _character_set(inside: str) -> Callable[[str], object]:
    body = inside.removeprefix("^").replace("\\", "\\\\").replace("[", "\\[")
    return re.compile(f"[^/{body}]" if inside.startswith("^") else f"[{body}]").fullmatch
