"""What a provider may be able to do, and how it makes what it does that with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Self, TypeVar, overload

Ability = TypeVar("Ability")


class lazy_ability(Generic[Ability]):  # noqa: N801 (a decorator)
    """An ability that is made when it is first asked for: a method's decorator, for classes of providers.

    `functools.cached_property` does the same; type checkers take what that makes for read-only, which no ability is.
    """

    def __init__(self, make: Callable[[Any], Ability]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Ability: ...

    def __get__(self, instance: object | None, owner: type) -> Ability | Self:
        if instance is None:
            return self
        created = instance.__dict__
        if self._name not in created:
            created[self._name] = self._make(instance)
        ability: Ability = created[self._name]
        return ability

    def __set__(self, instance: object, ability: Ability) -> None:
        instance.__dict__[self._name] = ability


ABILITIES: Mapping[str, str] = {
    "renting": "rent and end machines",
    "stop_and_start": "stop and start machines",
    "containers": "run a project's image",
    "machine_images": "rent machines that are a project's image",
    "limits": "change the limits of a machine that runs",
    "groups": "replace machines with nobody watching",
    "nodes": "rent several machines for one run",
    "spot_market": "tell how likely spot machines are",
    "catalogue": "list what can be rented",
    "prices": "tell prices",
    "bill": "tell what was billed",
    "volumes": "volumes that outlive machines",
    "snapshots": "snapshots of volumes",
    "clones": "copies of volumes",
    "resizing": "larger and faster volumes",
    "filling": "fill volumes from an object store",
    "object_storage": "an object store",
    "lent_bucket": "a bucket of the account's for its machines",
    "registry": "an image registry",
    "inventory": "list and remove everything that runctl has made",
    "preview": "show a command's calls instead of making them",
    "terraform": "write what runctl has made for Terraform",
    "kubernetes": "describe runs for a Kubernetes cluster",
    "account": "set up an account",
}
"""What a provider may be able to do, in words, by the attribute of `runctl.providers.interface.Provider`."""
