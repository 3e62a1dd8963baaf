"""What other installed packages bring: entry points, looked up when they are first needed and loaded one by one.

It stands in the core because configuration has to know the sections that providers bring, and knows nothing else of
them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any, NamedTuple

PROVIDERS = "runctl.providers"
"""The group of entry points; each leads to a `runctl.providers.plugin.ProviderPlugin`."""
_METADATA = (".dist-info", ".egg-info")


class Extension(NamedTuple):
    """One entry point of an installed package."""

    name: str
    value: str
    """``module:attribute``."""
    package: str | None = None
    """Who brings it, as installers call it."""

    def load(self) -> Any:
        """What it leads to. Raises whatever the import raises."""
        module, _, attributes = self.value.partition("[")[0].partition(":")
        found: Any = import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            found = getattr(found, attribute)
        return found


@cache
def installed() -> dict[str, tuple[Extension, ...]]:
    """The entry points of every provider by its name, sorted; none is loaded. Several packages may bring a name."""
    found: dict[str, tuple[Extension, ...]] = {}
    for entry in sorted(entry_points(PROVIDERS), key=lambda entry: entry.name):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def entry_points(group: str) -> tuple[Extension, ...]:
    """The entry points of a group, as `importlib.metadata.entry_points` finds them.

    That takes 20 ms of every command, most of them for its imports. The installed packages of a usual environment are
    folders below ``sys.path``, whose files are read here; where anything else may bring packages, it is asked.
    """
    found: dict[str, tuple[Extension, ...]] = {}
    if any(hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path):
        return _asked(group)
    for path in sys.path:
        try:
            folders = sorted(name for name in os.listdir(path or ".") if name.lower().endswith(_METADATA))  # noqa: PTH208 - pathlib costs start-up
        except NotADirectoryError:
            return _asked(group)
        except OSError:
            continue
        if path.endswith(".egg"):
            return _asked(group)
        for folder in folders:
            package = folder.rpartition(".")[0].partition("-")[0].lower().replace("_", "-")
            if package not in found:
                found[package] = tuple(_read(os.path.join(path, folder, "entry_points.txt"), group, package))  # noqa: PTH118 - as above
    return tuple(entry for entries in found.values() for entry in entries)


def _asked(group: str) -> tuple[Extension, ...]:
    from importlib import metadata

    return tuple(
        Extension(entry.name, entry.value, entry.dist.name if entry.dist is not None else None)
        for entry in metadata.entry_points(group=group)
    )


def _read(file: str, group: str, package: str) -> Iterator[Extension]:
    """What the file says of the group: its lines are sections, ``name = value`` and comments."""
    try:
        with open(file, encoding="utf-8") as opened:  # noqa: PTH123 - as above
            text = opened.read()
    except (OSError, UnicodeDecodeError):
        return
    if group not in text:
        return
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == group and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield Extension(name.strip(), value.strip(), package)


@cache
def loaded(name: str) -> Any:
    """What the provider's entry point leads to. Raises whatever its import raises."""
    return installed()[name][0].load()


def forget() -> None:
    """Look anew at what is installed; for tests that install something."""
    installed.cache_clear()
    loaded.cache_clear()


def sections() -> dict[str, type]:
    """The configuration sections that providers bring; those of a provider that cannot be loaded are left out."""
    found: dict[str, type] = {}
    for name in installed():
        for section, kind in _sections_of(name).items():
            found.setdefault(section, kind)
    return found


def registries() -> set[str]:
    """The names of the providers' own image registries."""
    return {
        registry for name in installed() if (registry := getattr(_of(name), "registry", None)) is not None
    }


def broken() -> dict[str, str]:
    """The providers that cannot be loaded, each with the reason."""
    reasons: dict[str, str] = {}
    for name in installed():
        try:
            loaded(name)
        except Exception as error:  # noqa: BLE001 - somebody else's code may raise anything
            reasons[name] = f"{type(error).__name__}: {error}"
    return reasons


def _sections_of(name: str) -> dict[str, type]:
    return dict(getattr(_of(name), "sections", {}))


def _of(name: str) -> Any:
    try:
        return loaded(name)
    except Exception:  # noqa: BLE001 - as above; `broken` and `doctor` say it
        return None
