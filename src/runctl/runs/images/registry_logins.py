"""The login to an image's registry, for a machine that pulls it or a provider whose machine is a container of it."""

from __future__ import annotations

from collections.abc import Iterable

from runctl.core.errors import ConfigError, CredentialsError, Unsupported
from runctl.machines.session import Session
from runctl.providers.abilities.image_registry import RegistryLogin
from runctl.providers.interface import Provider
from runctl.providers.registry import plugins
from runctl.runs.images.build import image_registry


def keep_pull_login(session: Session, provider: Provider, image: str | None) -> None:
    """The provider can pull that image now: a token that it was given for an earlier machine may have ended.

    Nothing is to be done for a provider whose machines are no containers, and where this computer has no login to the
    image's registry. Raises what `login_to` and `MachineImages.keep_login` raise.
    """
    images = provider.machine_images
    if image is None or isinstance(images, Unsupported):
        return
    host = host_of(image)
    login = None if host is None else login_to(session, host, _with_registry())
    if login is not None:
        images.keep_login(login, session.progress)


def host_of(image: str) -> str | None:
    """The registry of an image's name; ``None`` for one of Docker Hub's own. Pure."""
    host, slash, _ = image.partition("/")
    return host if slash else None


def login_to(session: Session, host: str, providers: Iterable[str]) -> RegistryLogin | None:
    """A token of one of the providers for its own registry, else what the user's ``docker login`` left; ``None``:
    neither.

    Raises what `ImageRegistry.login` raises. A provider with which the user has no account, that is not set up here, or
    that lets the account have no token, is no reason not to use the user's own login: only where there is none it is
    raised.
    """
    try:
        token = token_for(session, host, providers)
    except (ConfigError, CredentialsError):
        known = users_login(host)
        if known is None:
            raise
        return known
    return token or users_login(host)


def token_for(session: Session, host: str, providers: Iterable[str]) -> RegistryLogin | None:
    """What one of these providers gives for its own registry, if that is at this host and of this account.

    Raises what `ImageRegistry.login` raises.
    """
    for name in providers:
        try:
            registry = image_registry(session, name)
        except Unsupported:
            continue
        if registry.owns(host):
            login = registry.login()
            if login.host == host:
                return login
    return None


def users_login(host: str) -> RegistryLogin | None:
    """What the user's own ``docker login`` has left for a registry."""
    from runctl.containers.registry_login import users_credential

    known = users_credential(host)
    return None if known is None else RegistryLogin(known.host, known.username, known.password)


def _with_registry() -> list[str]:
    return [each.name for each in plugins() if each.registry is not None]
