"""Which providers there are: entry points of the group ``runctl.providers``, each a `ProviderPlugin`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runctl.core import extensions
from runctl.core.errors import NotFound, RunctlError, Unsupported
from runctl.core.extensions import Extension
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.names import did_you_mean
from runctl.core.progress import SILENT, Progress
from runctl.providers.plugin import Defaults, IdKind, ProviderPlugin, VolumeGroup

if TYPE_CHECKING:
    from runctl.core.config import Config
    from runctl.providers.interface import Provider

DEFAULT = "aws"
"""Whose machines are meant where a command names no provider and nothing else tells."""


def names() -> tuple[str, ...]:
    """Every provider that is installed, sorted; none is imported."""
    return tuple(extensions.installed())


def plugin(name: str) -> ProviderPlugin:
    """The description of a provider.

    Raises `NotFound` for a name that nobody registered, `Unsupported` for a plug-in that does not work, naming it.
    """
    if name not in names():
        hint = did_you_mean(name, names()) or f"installed: {', '.join(names())}"
        raise NotFound(f"provider {name!r} is not installed", hint=hint)
    entry = extensions.installed()[name][0]
    try:
        found = extensions.loaded(name)
    except Exception as error:
        raise _broken(entry, f"{type(error).__name__}: {error}") from error
    if not isinstance(found, ProviderPlugin):
        raise _broken(entry, f"it leads to {type(found).__name__}, not to a ProviderPlugin")
    if found.name != name:
        raise _broken(entry, f"it describes a provider called {found.name!r}")
    return found


def plugins() -> tuple[ProviderPlugin, ...]:
    """The descriptions of those that work."""
    found = []
    for name in names():
        try:
            found.append(plugin(name))
        except Unsupported:
            continue
    return tuple(found)


def this_computer() -> str:
    """The name of the provider whose only instance is this computer."""
    return next(each.name for each in plugins() if each.this_computer)


def id_like(kind: str, text: str) -> IdKind | None:
    """How the ids of this kind look that begin as the text does, whoever's they are; ``None``: it is a name."""
    kinds = (each.id_of(kind) for each in plugins())
    return next((own for own in kinds if own is not None and own.claims(text)), None)


def is_like_an_id(text: str) -> bool:
    """Whether it begins as the ids of some provider's resources do."""
    return any(kind.claims(text) for each in plugins() for kind in each.ids)


def owner_of(instance: str) -> str | None:
    """The provider whose instance it is, as far as the form of the id tells."""
    for each in plugins():
        own = each.id_of("instance")
        if instance == each.only_instance or (own is not None and re.fullmatch(own.pattern, instance)):
            return each.name
    return None


def registry_owner(registry: str | None) -> str | None:
    """The provider whose own image registry has this name."""
    named = (each.name for each in plugins() if registry is not None and each.registry == registry)
    return next(named, None)


def usual_registry(provider: str = DEFAULT) -> str | None:
    """The name of the provider's own image registry, or without one of the default provider's."""
    return plugin(provider).registry or plugin(DEFAULT).registry


def is_this_computer(name: str) -> bool:
    """Whether the provider's only instance is this computer. Of one that is not installed, it is not."""
    return any(each.name == name and each.this_computer for each in plugins())


def command(provider: str, *argv: str) -> str:
    """What to type: a provider's command, for hints."""
    return " ".join(("runctl", provider, *argv))


def has_verb(provider: str, verb: str) -> bool:
    """Whether the provider has this command."""
    return any(verb in each.verbs or verb in each.commands for each in plugins() if each.name == provider)


def when_not_running(instance: Instance) -> str:
    """What to type about a machine that does not run, for hints: nothing that its provider has not got."""
    provider = instance.provider
    verb = {InstanceState.PENDING: "wait", InstanceState.STOPPED: "start"}.get(instance.state)
    if verb is not None and has_verb(provider, verb):
        return command(provider, verb, instance.id)
    if instance.state is InstanceState.STOPPED and has_verb(provider, "terminate"):
        end, another = command(provider, "terminate", instance.id), command(provider, "create")
        return f"{provider} cannot start it again: {end} ends it, {another} makes another one"
    return f"{command(provider, 'list')} shows those that run"


def volume_command(provider: str, *argv: str) -> str:
    """What to type: a command of the provider's group about volumes, for hints."""
    groups = (each.volumes.name for each in plugins() if each.name == provider and each.volumes is not None)
    return command(provider, next(groups, "volumes"), *argv)


def volume_creation(provider: str) -> str:
    """What to type to make a volume, for hints. Raises as `volume_group` does."""
    group = volume_group(provider)
    return command(provider, group.creating or f"{group.name} create --size GIB")


def volume_group(provider: str) -> VolumeGroup:
    """The provider's group of commands about volumes. Raises as `plugin` does, `Unsupported` where it has none."""
    group = plugin(provider).volumes
    if group is None:
        raise Unsupported(f"{provider} has no volumes")
    return group


def defaults(name: str, config: Config) -> Defaults:
    """What the configuration says for this provider. Raises as `plugin` does."""
    return plugin(name).defaults(config)


def load(name: str, config: Config, *, progress: Progress = SILENT) -> Provider:
    """The provider of that name, created for this configuration. Raises as `plugin` does."""
    from runctl.providers.interface import Provider

    described = plugin(name)
    entry, *others = extensions.installed()[name]
    ignored = {other.value for other in others} - {entry.value}
    if ignored:
        progress.warn(
            f"several packages bring a provider {name!r}: using {entry.value}, not {', '.join(ignored)}"
        )
    try:
        provider = described.make(config)
    except RunctlError:
        raise
    except Exception as error:
        raise _broken(entry, f"{type(error).__name__}: {error}") from error
    if not isinstance(provider, Provider):
        raise _broken(entry, f"it returned a {type(provider).__name__}, not a Provider")
    provider.report_to(progress)
    progress.detail(f"provider {name}: {entry.value}")
    return provider


def _broken(entry: Extension, why: str) -> Unsupported:
    package = entry.package or "an unknown package"
    return Unsupported(
        f"provider {entry.name!r} ({entry.value}, of {package}) does not work: {why}",
        hint=f"upgrade or remove {package}",
        code="broken-plugin",
    )
