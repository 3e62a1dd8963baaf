"""The login by which a provider pulls the image that a machine is a container of, good when that is rented."""

from __future__ import annotations

from runctl.core.errors import Unsupported
from runctl.machines.session import Session
from runctl.providers.abilities.image_registry import RegistryLogin
from runctl.providers.interface import Provider
from runctl.providers.registry import plugins
from runctl.runs.images.build import image_registry


def keep_pull_login(session: Session, provider: Provider, image: str | None) -> None:
    """The provider can pull that image now: a token that it was given for an earlier machine may have ended.

    Nothing is to be done for a provider whose machines are no containers, and where this computer has no login to the
    image's registry. Raises what `ImageRegistry.login` and `MachineImages.keep_login` raise.
    """
    images = provider.machine_images
    if image is None or isinstance(images, Unsupported):
        return
    host, slash, _ = image.partition("/")
    login = login_to(session, host) if slash else None
    if login is not None:
        images.keep_login(login, session.progress)


def login_to(session: Session, host: str) -> RegistryLogin | None:
    """A provider's token for its own registry, else what the user's ``docker login`` left; ``None``: neither."""
    from runctl.containers.registry_login import users_credential

    for name in (each.name for each in plugins() if each.registry is not None):
        registry = image_registry(session, name)
        if registry.owns(host):
            login = registry.login()
            if login.host == host:
                return login
    known = users_credential(host)
    return None if known is None else RegistryLogin(known.host, known.username, known.password)
