"""Which Dockerfile a project is built from: the one named, the configured one, a known place, or a search."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.core.errors import Conflict, NotFound, UsageError
from runctl.core.files import expand_user
from runctl.core.names import did_you_mean
from runctl.project.files import ProjectFiles

SEARCHED = (
    "Dockerfile",
    "Dockerfile.train",
    "docker/Dockerfile",
    "deployment/Dockerfile",
    "training/Dockerfile",
    "scripts/Dockerfile",
    "src/Dockerfile",
)
"""Looked at in this order; the first that is there is used. The build's context is the root for all of them."""

FLAG, CONFIG, KNOWN_PATH, SEARCH = "--dockerfile", "config", "known place", "--dockerfile-search"
_DOCKERFILE = re.compile(r"(?i)(dockerfile|containerfile)(\..+)?|.+\.(dockerfile|containerfile)")
_NO_DOCKERFILE = re.compile(r"(?i)\.(dockerignore|md|txt|rst|bak|orig|j2|jinja2?|tmpl|template|py|sh)$")
"""Files beside a Dockerfile that are named after it and are none."""


@dataclass(frozen=True)
class DockerfileChoice:
    """The Dockerfile that an image would be built from."""

    path: str
    """From the root, with forward slashes."""
    reason: str
    """For a person: which one, and which others were passed over."""
    found_by: str = KNOWN_PATH
    """`FLAG`, `CONFIG`, `KNOWN_PATH` or `SEARCH`."""
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class DockerfileRequest:
    """How the user wants it found."""

    named: Path | None = None
    """``--dockerfile``, relative to the folder that the command is given in."""
    configured: str | None = None
    """``[docker] dockerfile_path``, relative to the root."""
    search: bool = False
    """``--dockerfile-search``: look everywhere in the project when it is at none of the known places."""


def choose_dockerfile(
    root: Path, cwd: Path, request: DockerfileRequest, files: ProjectFiles | None = None
) -> DockerfileChoice | None:
    """The Dockerfile by the first rule that has one: flag, configuration, known places, search; else ``None``.

    ``files`` are those that the build will have; by default all on this disk. A Dockerfile that was named need not be
    among them: whoever sends the project sends it too.

    Raises `NotFound` (code ``no-dockerfile``) for one that was named and is not there, or when a search finds none,
    `UsageError` for one outside the project, `Conflict` (code ``several-dockerfiles``) when a search finds several.
    """
    if request.named is not None:
        return _named(root, cwd, request.named)
    if request.configured is not None:
        if not (root / request.configured).is_file():
            raise NotFound(
                f"[docker] dockerfile_path: there is no {request.configured} in {root}",
                hint="the path is relative to the project's root",
                code="no-dockerfile",
            )
        path = _inside(root, root / request.configured, f"[docker] dockerfile_path {request.configured}")
        return DockerfileChoice(path, "[docker] dockerfile_path", CONFIG)
    files = files or ProjectFiles(root)
    return find_dockerfile(files) or (_searched(files) if request.search else None)


def named_dockerfile(root: Path, cwd: Path, request: DockerfileRequest) -> str | None:
    """The path from the root of the one that the user or the configuration names. Raises what `choose_dockerfile`
    raises for it."""
    if request.named is None and request.configured is None:
        return None
    found = choose_dockerfile(root, cwd, request)
    return found.path if found is not None else None


def find_dockerfile(files: ProjectFiles) -> DockerfileChoice | None:
    """The first of `SEARCHED` that is a file, or ``None``."""
    found = [path for path in SEARCHED if files.has(path)]
    if not found:
        return None
    first, *others = found
    passed_over = f"; {', '.join(others)} not used" if others else ""
    return DockerfileChoice(first, f"the project has {first}{passed_over}", KNOWN_PATH, tuple(others))


def no_dockerfile(root: Path) -> NotFound:
    """The error for a project that has none where one is needed."""
    return NotFound(
        f"there is no Dockerfile in {root}; looked for {', '.join(SEARCHED)}",
        hint="name it with --dockerfile PATH, look everywhere with --dockerfile-search, or write one",
        code="no-dockerfile",
    )


def looks_like_dockerfile(path: str) -> bool:
    """Whether a file is named as Dockerfiles are: ``Dockerfile``, ``Dockerfile.gpu``, ``gpu.dockerfile``. Pure."""
    name = path.rsplit("/", 1)[-1]
    return _DOCKERFILE.fullmatch(name) is not None and _NO_DOCKERFILE.search(name) is None


def chosen_of(candidates: Iterable[str], root: Path) -> DockerfileChoice:
    """The only Dockerfile among these paths from the root. Pure. Raises `NotFound`, `Conflict`."""
    found = sorted(path for path in candidates if looks_like_dockerfile(path))
    if not found:
        raise NotFound(
            f"--dockerfile-search: no file of {root} that is not ignored is named as a Dockerfile",
            hint="name it with --dockerfile PATH",
            code="no-dockerfile",
        )
    if len(found) > 1:
        raise Conflict(
            f"--dockerfile-search found {len(found)} Dockerfiles: {', '.join(found)}",
            hint=f"choose one: --dockerfile {found[0]}",
            code="several-dockerfiles",
        )
    return DockerfileChoice(found[0], f"--dockerfile-search found {found[0]}, and no other", SEARCH)


def _searched(files: ProjectFiles) -> DockerfileChoice:
    from runctl.project.listing import list_project

    paths = files.sent if files.sent is not None else list_project(files.root).found
    return chosen_of((path for path in paths if files.has(path)), files.root)


def _named(root: Path, cwd: Path, named: Path) -> DockerfileChoice:
    given = cwd / expand_user(named)
    if given.is_dir():
        raise UsageError(
            f"--dockerfile {named} is a folder", hint=f"did you mean {named.as_posix()}/Dockerfile?"
        )
    if not given.is_file():
        from_root = root / named
        if not from_root.is_file():
            near = did_you_mean(named.as_posix(), [path for path in SEARCHED if (root / path).is_file()])
            raise NotFound(
                f"--dockerfile: there is no {named} in {cwd}",
                hint=near or "the path is relative to the folder that you are in",
                code="no-dockerfile",
            )
        given = from_root
    return DockerfileChoice(_inside(root, given, f"--dockerfile {named}"), "--dockerfile", FLAG)


def _inside(root: Path, given: Path, named_by: str) -> str:
    path = given.parent.resolve() / given.name
    if not path.is_relative_to(root) or not path.resolve().is_relative_to(root):
        raise UsageError(
            f"{named_by} is outside the project {root}",
            hint="the build's context is the project: put the Dockerfile into it",
            code="dockerfile-outside",
        )
    return path.relative_to(root).as_posix()
