"""The files in which projects write down what they depend on: which of them pip or uv read, and a way out of the rest.

A new kind of file is a row here. Of the rows follow where a project begins (`runctl.project.root`), what is said of a
file that nobody reads (`runctl.project.dependencies`), and after which changes an image is built again
(`runctl.containers.dev_image`).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from enum import Enum, auto

from runctl._dataclasses import dataclass


class Reader(Enum):
    """Who makes an environment on a machine's host of it."""

    INSTALLER = auto()
    """pip or uv; `runctl.project.dependencies` decides by its content and its neighbours which of them, and how."""
    NOBODY = auto()
    """It may say what is needed, and neither pip nor uv reads it."""
    OTHERS = auto()
    """Another file includes it, or it is for another language: it counts in an image only."""


@dataclass(frozen=True)
class DependencyFile:
    """One kind of file, by its name."""

    name: str
    """As ``fnmatch`` has it; a pattern only where `OTHERS` read it."""
    reader: Reader
    way_out: str = ""
    """Where `NOBODY` reads it: what makes something of it that pip or uv read."""


_CONDA = "conda env export, or a Dockerfile that builds on conda"
_PIXI = "pixi project export conda-environment, or a Dockerfile"
_PIPENV = "pipenv requirements > requirements.txt"


def _others(*names: str) -> Iterable[DependencyFile]:
    return (DependencyFile(name, Reader.OTHERS) for name in names)


DEPENDENCY_FILES = (
    DependencyFile("pyproject.toml", Reader.INSTALLER),
    DependencyFile("uv.lock", Reader.INSTALLER),
    DependencyFile("setup.py", Reader.INSTALLER),
    DependencyFile("setup.cfg", Reader.INSTALLER),
    DependencyFile("requirements.txt", Reader.INSTALLER),
    DependencyFile("environment.yml", Reader.NOBODY, _CONDA),
    DependencyFile("environment.yaml", Reader.NOBODY, _CONDA),
    DependencyFile("conda-lock.yml", Reader.NOBODY, "a Dockerfile that builds on conda"),
    DependencyFile("pixi.toml", Reader.NOBODY, _PIXI),
    DependencyFile("pixi.lock", Reader.NOBODY, _PIXI),
    DependencyFile("Pipfile", Reader.NOBODY, _PIPENV),
    DependencyFile("Pipfile.lock", Reader.NOBODY, _PIPENV),
    DependencyFile("poetry.lock", Reader.NOBODY, "poetry export > requirements.txt"),
    DependencyFile("pdm.lock", Reader.NOBODY, "pdm export > requirements.txt"),
    *_others("requirements*.txt", "requirements*.in", "constraints*.txt"),
    *_others("package.json", "package-lock.json", "yarn.lock", "pnpm-lock.yaml"),
    *_others("Cargo.toml", "Cargo.lock", "Project.toml", "Manifest.toml", "renv.lock", "go.mod", "go.sum"),
)

MARK_A_PROJECT = tuple(file.name for file in DEPENDENCY_FILES if file.reader is not Reader.OTHERS)
"""A folder with one of these is a Python project of its own."""
NOT_READ = {file.name: file.way_out for file in DEPENDENCY_FILES if file.reader is Reader.NOBODY}
"""With the way out of each."""


def is_dependency_file(name: str) -> bool:
    """Whether a file of that name, without its folder, says what a project depends on."""
    return any(fnmatch.fnmatchcase(name, file.name) for file in DEPENDENCY_FILES)
