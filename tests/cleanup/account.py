"""An account that a test makes up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from runctl.core.errors import OutcomeUnknown, RunctlError
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.inventory import Inventory, Listing, Resource, ResourceKind, Unread
from tests.cleanup.resources import ME


class Account(Inventory):
    """What exists, and how removing each goes: the errors in turn, then it is gone after so many looks."""

    def __init__(self, *resources: Resource, unread: tuple[Unread, ...] = ()) -> None:
        self.resources = resources
        self.unread = unread
        self.existing = {each.id for each in resources}
        self.errors: dict[str, list[RunctlError]] = {}
        self.looks: dict[str, int] = {}
        self.removed: list[str] = []

    def user(self) -> str | None:
        return ME

    def list(
        self,
        *,
        regions: Sequence[str] | None = None,
        kinds: Collection[ResourceKind] | None = None,
        stores: Mapping[str, str] | None = None,
        progress: Progress = SILENT,
    ) -> Listing:
        found = [each for each in self.resources if each.id in self.existing]
        return Listing(tuple(found), self.unread, tuple(regions or ("us-east-1",)))

    def take_over(self, resource: Resource, progress: Progress = SILENT) -> None:
        self.resources = tuple(
            replace(each, owner=ME) if each.id == resource.id else each for each in self.resources
        )

    def remove(self, resource: Resource, progress: Progress = SILENT) -> None:
        errors = self.errors.get(resource.id, [])
        error = errors.pop(0) if errors else None
        if not isinstance(error, OutcomeUnknown | None):
            raise error
        self.removed.append(resource.id)
        if error is not None:
            self.existing.discard(resource.id)
            raise error

    def is_gone(self, resource: Resource) -> bool:
        left = self.looks.get(resource.id, 0)
        self.looks[resource.id] = left - 1
        if left <= 0 and resource.id in self.removed:
            self.existing.discard(resource.id)
        return resource.id not in self.existing
