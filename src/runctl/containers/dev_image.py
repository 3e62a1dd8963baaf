"""What an image is made of besides the code: as long as that is the same, dev-mode uses the last one built.

Code is what the synced project replaces in the container, and nothing in the image is made from: files that a ``COPY``
or ``ADD`` brings together with the script or after it, or that no ``RUN`` follows, to where the project has them. What
every other one names, and the files in which projects write down their dependencies, are looked at; so are the
Dockerfile itself, its ignore file, and the options of the build.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from runctl._dataclasses import dataclass
from runctl.containers.dockerfile_text import DockerfileText, Instruction, Stage, parse_dockerfile
from runctl.core.dependency_files import is_dependency_file

DOCKERFILE = "the Dockerfile"
OPTIONS = "the options of the build"
_FLAG = re.compile(r"--\S+")


@dataclass(frozen=True)
class DevImage:
    """What is compared, and what cannot be."""

    parts: Mapping[str, str]
    """SHA-256 by name: of the Dockerfile, of the options, and of each file."""
    notes: tuple[str, ...]
    """Instructions that saw the code when the image was built, and would do something else now."""


def dev_image(
    dockerfile_text: str,
    script: str | None,
    files: Iterable[str],
    read: Callable[[str], bytes],
    *,
    workdir: str = "/workspace",
    target: str | None = None,
    options: Mapping[str, Any] | None = None,
    ignore_files: Sequence[str] = (),
) -> DevImage:
    """Everything but the code that the image is made of; only files that matter are read.

    ``files`` are those of the context, from its root; ``script`` is the one that runs, ``None`` for a command;
    ``workdir`` is where the project is in the container; of the ``ignore_files`` the first that is there says what
    docker leaves out.
    """
    known = sorted(files)
    parsed = parse_dockerfile(dockerfile_text)
    files_read: set[str] = {path for path in known if is_dependency_file(posixpath.basename(path))}
    files_read |= set([name for name in ignore_files if name in known][:1])
    notes: list[str] = []
    folders: dict[str, str] = {}
    for stage in parsed.needed(target) or parsed.stages:
        examined = _Stage(stage, script, workdir, folders.get(stage.base.lower(), "/"))
        examined.examine(known)
        folders[stage.name or str(stage.index)] = examined.folder
        files_read |= examined.files_read
        notes += examined.notes
    parts = {DOCKERFILE: _sha(_bare(parsed)), OPTIONS: _sha(_canonical(options or {}))}
    for path in sorted(files_read):
        parts[path] = hashlib.sha256(read(path)).hexdigest()
    return DevImage(parts, tuple(dict.fromkeys(notes)))


class _Stage:
    """One stage: its code, and what is not code."""

    def __init__(self, stage: Stage, script: str | None, workdir: str, folder: str) -> None:
        self.files_read: set[str] = set()
        self.notes: list[str] = []
        self.folder = folder
        """Of ``WORKDIR``; a base image's own is not known, and taken for /."""
        self._script, self._workdir = script, workdir
        self._instructions = stage.instructions
        runs = [index for index, instruction in enumerate(stage.instructions) if instruction.keyword == "RUN"]
        self._last_run = runs[-1] if runs else -1

    def examine(self, known: Sequence[str]) -> None:
        has_code = False
        for index, instruction in enumerate(self._instructions):
            if instruction.keyword == "WORKDIR":
                self.folder = posixpath.normpath(posixpath.join(self.folder, instruction.rest.strip("\"'")))
            if instruction.keyword == "RUN":
                has_code = self._run(instruction, known, has_code)
            elif instruction.keyword in ("COPY", "ADD"):
                has_code = self._copy(instruction, known, has_code, before_a_run=index < self._last_run)

    def _run(self, instruction: Instruction, known: Sequence[str], has_code: bool) -> bool:
        """A command sees what has been copied, and what is mounted for it."""
        sees_code = has_code
        for source in _mounted(instruction.rest):
            matched = _matching(source, known)
            if _brings_code(matched, self._script, source):
                sees_code = True
            else:
                self.files_read |= matched
        if sees_code:
            self.notes.append(
                f"line {instruction.line} ({_short(instruction)}) ran with the code as it was then"
            )
        return has_code

    def _copy(
        self, instruction: Instruction, known: Sequence[str], has_code: bool, *, before_a_run: bool
    ) -> bool:
        sources, destination = _copied(instruction.rest)
        for source in sources:
            matched = _matching(source, known)
            if _brings_code(matched, self._script, source):
                has_code = True
                continue
            replaced = (
                set() if before_a_run and not has_code else self._replaced(source, destination, matched)
            )
            self.files_read |= matched - replaced
        return has_code

    def _replaced(self, source: str, destination: str, matched: set[str]) -> set[str]:
        """Files that go to where the synced project is put."""
        plain = posixpath.normpath(source.strip("/"))
        found = set()
        for path in matched:
            below = posixpath.relpath(path, plain) if path != plain and not _is_pattern(plain) else ""
            copied_to = posixpath.join(self.folder, destination)
            if below:
                copied_to = posixpath.join(copied_to, below)
            elif destination.endswith("/") or destination in (".", "./"):
                copied_to = posixpath.join(copied_to, posixpath.basename(path))
            if posixpath.normpath(copied_to) == posixpath.join(self._workdir, path) and "$" not in copied_to:
                found.add(path)
        return found


def _mounted(rest: str) -> list[str]:
    """Paths of the context that ``RUN --mount=type=bind`` shows to a command."""
    binds = [m for m in re.findall(r"--mount=(\S+)", rest) if "type=" not in m or "type=bind" in m]
    return [
        (re.findall(r"(?:^|,)(?:source|src)=([^,]+)", mount) or ["."])[0]
        for mount in binds
        if not re.search(r"(^|,)from=", mount)
    ]


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _copied(rest: str) -> tuple[list[str], str]:
    """What of the context is copied, and where to; nothing of it where another stage is copied from."""
    text = rest.split("\n", 1)[0]
    flags = []
    while found := _FLAG.match(text):
        flags.append(found.group())
        text = text[found.end() :].lstrip()
    if any(flag.startswith("--from=") for flag in flags):
        return [], ""
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            return [], ""
        texts = [text for text in listed if isinstance(text, str)]
    else:
        texts = text.split()
    sources = [text for text in texts[:-1] if not text.startswith("<<") and "://" not in text]
    return sources, texts[-1] if texts else ""


def _matching(source: str, known: Iterable[str]) -> set[str]:
    """Files below a folder, the file itself, or what a pattern of Go's ``filepath.Match`` fits."""
    plain = posixpath.normpath(source.strip("/") or ".").removeprefix("./")
    if plain in (".", "..") or "$" in plain:
        # A variable may stand for anything.
        return set(known)
    pattern = plain.split("/")
    found = set()
    for path in known:
        names = path.split("/")
        if len(names) >= len(pattern) and all(
            fnmatch.fnmatchcase(name, part) for name, part in zip(names, pattern, strict=False)
        ):
            found.add(path)
    return found


def _brings_code(matched: set[str], script: str | None, source: str) -> bool:
    if script is not None:
        return script in matched
    return posixpath.normpath(source.strip("/") or ".") == "." or "$" in source


def _bare(parsed: DockerfileText) -> str:
    """Without comments and blanks, which change nothing."""
    return "\n".join(f"{instruction.keyword} {instruction.rest}" for instruction in parsed.instructions)


def _short(instruction: Instruction) -> str:
    return instruction.text if len(instruction.text) <= 60 else instruction.text[:57] + "..."


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
