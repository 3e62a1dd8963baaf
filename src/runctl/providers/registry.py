"""Which providers there are: entry points of the group ``runctl.providers``."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from runctl.core.errors import NotFound, RunctlError, Unsupported
from runctl.core.names import did_you_mean
from runctl.core.progress import SILENT, Progress
from runctl.providers.interface import Provider

if TYPE_CHECKING:
    from runctl.core.config import Config

GROUP = "runctl.providers"


def names() -> tuple[str, ...]:
    """Every provider that is installed, sorted; none is imported."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def load(name: str, config: Config, *, progress: Progress = SILENT) -> Provider:
    """The provider of that name, made by its factory.

    Raises `NotFound` for a name that nobody registered, `Unsupported` for a plug-in that does not work, naming it.
    """
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        known = names()
        hint = did_you_mean(name, known) or f"installed: {', '.join(known)}"
        raise NotFound(f"there is no provider {name!r}", hint=hint)
    entry = found[0]
    others = {other.value for other in found} - {entry.value}
    if others:
        progress.warn(
            f"several packages bring a provider {name!r}: using {entry.value}, not {', '.join(others)}"
        )
    try:
        provider = entry.load()(config)
    except RunctlError:
        raise
    except Exception as error:
        raise _broken(entry, f"{type(error).__name__}: {error}") from error
    if not isinstance(provider, Provider):
        raise _broken(entry, f"its factory returned {type(provider).__name__}, not a Provider")
    provider.report_to(progress)
    progress.detail(f"provider {name}: {entry.value}")
    return provider


def _broken(entry: EntryPoint, why: str) -> Unsupported:
    package = entry.dist.name if entry.dist is not None else "an unknown package"
    return Unsupported(
        f"provider {entry.name!r} ({entry.value}, of {package}) does not work: {why}",
        hint=f"upgrade or remove {package}",
        code="broken-plugin",
    )
