"""What other installed packages bring: entry points, looked up when they are first needed and loaded one by one.

It stands in the core because configuration has to know the sections that providers bring, and knows nothing else of
them.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

PROVIDERS = "runctl.providers"
"""The group of entry points; each leads to a `runctl.providers.plugin.ProviderPlugin`."""


@cache
def installed() -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of every provider by its name, sorted; none is loaded. Several packages may bring a name."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in sorted(entry_points(group=PROVIDERS), key=lambda entry: entry.name):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


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
