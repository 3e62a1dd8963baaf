"""What might use a resource and was not seen: whoever judges by the absence of users needs all of them listed. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from runctl.cleanup.facts import Facts
from runctl.core import tags as tag
from runctl.providers.abilities.inventory import Resource, ResourceKind

K = ResourceKind

_USERS: Mapping[ResourceKind, frozenset[ResourceKind]] = {
    K.LAUNCH_TEMPLATE: frozenset({K.GROUP}),
    K.INSTANCE_PROFILE: frozenset({K.GROUP, K.INSTANCE}),
    K.ROLE: frozenset({K.GROUP, K.INSTANCE, K.INSTANCE_PROFILE}),
    K.SECURITY_GROUP: frozenset({K.GROUP, K.INSTANCE}),
    K.PLACEMENT_GROUP: frozenset({K.GROUP, K.INSTANCE}),
    K.KEY_PAIR: frozenset({K.GROUP, K.INSTANCE}),
}
"""The kinds that say that they use one; it does not say so itself."""


def unseen_users(resource: Resource, facts: Facts) -> str:
    """Why something that was not listed may use it, in words; empty: all that could was listed."""
    users = _users(resource)
    if not users:
        return ""
    if resource.region is None and facts.region is not None:
        return f"the whole account may use it, and only {facts.region} was looked at"
    for each in facts.unread:
        # What belongs to the account may be used in any region; nothing else is used in another one than its own.
        elsewhere = resource.region is not None and each.region != resource.region
        if each.provider != resource.provider or elsewhere or (each.kinds and users.isdisjoint(each.kinds)):
            continue
        where = f" in {each.region}" if each.region is not None else ""
        return f"what uses it cannot be read ({each.what}{where}): {each.reason}"
    return ""


def _users(resource: Resource) -> frozenset[ResourceKind]:
    if resource.kind is K.SNAPSHOT and tag.MOVE in resource.tags:
        return frozenset({K.VOLUME})
    if resource.kind is K.VOLUME and tag.NODE in resource.tags:
        return frozenset({K.INSTANCE})
    return _USERS.get(resource.kind, frozenset())
