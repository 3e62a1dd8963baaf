"""Which Python of the machine runs a script: one that the project accepts, with the image's packages if it has them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runctl._dataclasses import dataclass

PROBE_SECONDS = 20.0

# Deep-learning images keep their frameworks in an environment of their own.
KNOWN = ("/opt/pytorch/bin/python3", "/opt/tensorflow/bin/python3", "/opt/conda/bin/python3")
NAMES = ("python3", "python")
OTHER_NAMES = ("python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9")
FRAMEWORKS = ("torch", "tensorflow", "jax")

PROBE = f"""
import importlib.util, json, site, sys
def has(name):
    try:
        return importlib.util.find_spec(name) is not None
    except Exception:
        return False
print(json.dumps({{
    "version": list(sys.version_info[:3]),
    "frameworks": [name for name in {FRAMEWORKS!r} if has(name)],
    "pip": has("pip"), "venv": has("venv"), "ensurepip": has("ensurepip"),
    "nested": sys.prefix != sys.base_prefix,
    "site": [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))],
}}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that answers."""

    path: str
    version: tuple[int, ...]
    frameworks: tuple[str, ...] = ()
    pip: bool = False
    venv: bool = False
    ensurepip: bool = False
    nested: bool = False
    """It is a virtual environment itself."""
    site: tuple[str, ...] = ()
    """Where its packages are."""

    @property
    def description(self) -> str:
        """For a person: ``/usr/bin/python3 (3.11.2)``."""
        extra = ", with " + " and ".join(self.frameworks) if self.frameworks else ""
        return "{} ({}{})".format(self.path, ".".join(str(n) for n in self.version), extra)


_CLAUSE = re.compile(r"^(~=|===|==|!=|<=|>=|<|>)\s*v?(\d+(?:\.\d+)*)(\.\*)?(?:[a-z].*)?$")


def satisfies(version: Sequence[int], wanted: str | None) -> bool:
    """Whether a Python version is allowed by a ``Requires-Python`` (PEP 440 specifiers on release numbers).

    Raises `ValueError` for a clause that is none.
    """
    for clause in (wanted or "").split(","):
        if clause.strip() and not _satisfies_clause(tuple(version), clause.strip()):
            return False
    return True


def _satisfies_clause(version: tuple[int, ...], clause: str) -> bool:
    match = _CLAUSE.match(clause)
    if match is None:
        raise ValueError(f"{clause!r} is not a version specifier")
    operator, digits, star = match.groups()
    given = tuple(int(part) for part in digits.split("."))
    width = max(len(version), len(given))
    padded = version + (0,) * (width - len(version))
    bound = given + (0,) * (width - len(given))
    if star:
        same = version[: len(given)] == given
        return same if operator == "==" else not same
    if operator == "~=":
        return padded >= bound and version[: len(given) - 1] == given[:-1]
    return {
        "==": padded == bound,
        "===": padded == bound,
        "!=": padded != bound,
        "<=": padded <= bound,
        ">=": padded >= bound,
        "<": padded < bound,
        ">": padded > bound,
    }[operator]


def best(found: Sequence[Interpreter], requires_python: str | None) -> Interpreter | None:
    """The first that the project accepts, those with a framework before the others; ``None`` if none does."""
    allowed = [interpreter for interpreter in found if satisfies(interpreter.version, requires_python)]
    with_framework = [interpreter for interpreter in allowed if interpreter.frameworks]
    ranked = with_framework or allowed
    return ranked[0] if ranked else None


def probe(paths: Sequence[str], env: Mapping[str, str]) -> list[Interpreter]:
    """Ask several Pythons about themselves, all at once; those that do not answer are left out."""
    asked = []
    for path in paths:
        try:
            child = subprocess.Popen(
                [path, "-c", PROBE],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            continue
        asked.append((path, child))
    deadline = time.monotonic() + PROBE_SECONDS
    found = []
    for path, child in asked:
        with child:
            try:
                said, _ = child.communicate(timeout=max(0.1, deadline - time.monotonic()))
                found.append(_interpreter(path, json.loads(said)))
            except (ValueError, KeyError, subprocess.TimeoutExpired):
                child.kill()
    return found


def _interpreter(path: str, facts: Mapping[str, Any]) -> Interpreter:
    return Interpreter(
        path=path,
        version=tuple(facts["version"]),
        frameworks=tuple(facts["frameworks"]),
        pip=facts["pip"],
        venv=facts["venv"],
        ensurepip=facts["ensurepip"],
        nested=facts["nested"],
        site=tuple(facts["site"]),
    )


def candidates(env: Mapping[str, str], known: Sequence[str] = KNOWN) -> list[list[str]]:
    """Every Python worth asking, each once, in two rounds: the login shell's own and those in known places; then
    any other version that is installed."""
    path = env.get("PATH")
    rounds = [
        [*(shutil.which(name, path=path) for name in NAMES), *known],
        [*(shutil.which(name, path=path) for name in OTHER_NAMES), "/usr/bin/python3", sys.executable],
    ]
    seen = set()
    found: list[list[str]] = []
    for names in rounds:
        kept = []
        for name in names:
            if not name or not Path(name).is_file():
                continue
            # A virtual environment's python is a link to another one's: the folder tells them apart.
            key = (Path(name).parent.resolve(), Path(name).resolve().name)
            if key not in seen:
                seen.add(key)
                kept.append(name)
        found.append(kept)
    return found


def choose(
    env: Mapping[str, str], requires_python: str | None
) -> tuple[Interpreter | None, list[Interpreter]]:
    """The best Python for a project, and all that were asked until it was found."""
    asked: list[Interpreter] = []
    for names in candidates(env):
        asked += probe(names, env)
        found = best(asked, requires_python)
        if found is not None:
            return found, asked
    return None, asked
