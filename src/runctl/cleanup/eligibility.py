"""Whether a resource may be removed, and why, or why not. Pure.

What keeps a resource is asked first, and any of it is enough. Then something must say that nobody needs it any more:
without that it stays, unless the user asks for its kind (`runctl.cleanup.facts.Include`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.cleanup.facts import Facts, Include, RunFact
from runctl.cleanup.unseen import unseen_users
from runctl.core import tags as tag
from runctl.core.clock import parse_rfc3339
from runctl.core.text import time_span
from runctl.providers.abilities.inventory import Resource, ResourceKind

K = ResourceKind


class KeptBecause(StrEnum):
    """Why a resource stays."""

    NOT_OURS = "not-ours"
    NOT_YOURS = "not-yours"
    PERSISTENT = "persistent"
    PROTECTED = "protected"
    IN_USE = "in-use"
    HOLDS_CHECKPOINT = "holds-checkpoint"
    GOES_ALONG = "goes-along"
    """It goes with what it belongs to, whenever that goes."""
    TOO_YOUNG = "too-young"
    UNKNOWN = "unknown"
    """What would decide it cannot be read."""
    WANTED = "wanted"
    """Nothing says that it is not needed any more."""


@dataclass(frozen=True)
class Verdict:
    """Whether a resource may be removed."""

    removable: bool
    why: str
    """In words, for a person."""
    kept: KeptBecause | None = None
    """``None``: it is removable."""


def removable(why: str) -> Verdict:
    """It may go."""
    return Verdict(removable=True, why=why)


def kept(because: KeptBecause, why: str) -> Verdict:
    """It stays."""
    return Verdict(removable=False, why=why, kept=because)


def eligibility(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    """What is to become of the resource. Pure."""
    return (
        not_ours(resource, facts)
        or _kept_on_purpose(resource, facts)
        or _needed_by_a_run(resource, facts)
        or _moving(resource, facts, now)
        or _attached(resource, facts)
        or _perhaps_used(resource, facts)
        or _too_young(resource, facts, now)
        or _JUDGES[resource.kind](resource, facts, now)
    )


SHARED = frozenset(
    {
        K.BUCKET,
        K.OBJECTS,
        K.UPLOAD,
        K.IMAGE,
        K.REPOSITORY,
        K.ROLE,
        K.INSTANCE_PROFILE,
        K.SECURITY_GROUP,
        K.PLACEMENT_GROUP,
        K.KEY_PAIR,
        K.INTENT,
    }
)
"""What an account has for everybody, and which therefore has no owner; all else says whose it is."""


def not_ours(resource: Resource, facts: Facts) -> Verdict | None:
    """Why it is somebody else's; ``None``: it is the caller's own, or shared."""
    if not tag.is_ours(resource.tags):
        return kept(KeptBecause.NOT_OURS, "runctl did not create it")
    user = facts.users.get(resource.provider)
    if resource.owner is None and resource.kind not in SHARED:
        return kept(KeptBecause.NOT_YOURS, "nothing says whose it is")
    if resource.owner is not None and resource.owner != user:
        return kept(KeptBecause.NOT_YOURS, f"it belongs to {resource.owner or 'somebody without a name'}")
    return None


def _kept_on_purpose(resource: Resource, facts: Facts) -> Verdict | None:
    if resource.is_persistent:
        return kept(KeptBecause.PERSISTENT, "it is persistent")
    if resource.id in facts.protected:
        return kept(KeptBecause.PROTECTED, facts.protected[resource.id])
    token = resource.id if resource.kind is K.INTENT else resource.tags.get(tag.INTENT)
    intent = facts.intents.get(token or "")
    if intent is not None and intent.busy:
        return kept(KeptBecause.IN_USE, "a command is making it at this moment")
    return None


def _needed_by_a_run(resource: Resource, facts: Facts) -> Verdict | None:
    unfinished = [run for run in facts.runs if run.unfinished]
    for run in unfinished:
        if resource.kind in {K.OBJECTS, K.UPLOAD} and _is_below(resource, run):
            return kept(
                KeptBecause.HOLDS_CHECKPOINT, f"it holds what {run.id}, which is not finished, goes on from"
            )
        if resource.kind is K.VOLUME and resource.id in run.volumes:
            return kept(KeptBecause.HOLDS_CHECKPOINT, f"{run.id}, which is not finished, has its data on it")
        if (
            resource.kind is K.SNAPSHOT
            and resource.source in run.volumes
            and resource.source not in facts.existing
        ):
            return kept(
                KeptBecause.HOLDS_CHECKPOINT,
                f"it is all that is left of {resource.source}, which {run.id}, which is not finished, has its data on",
            )
        one_of_several = tag.RANK in resource.tags and _run_of(resource) == run.id
        if resource.kind is K.INSTANCE and run.goes_on and (resource.id == run.instance_id or one_of_several):
            return kept(KeptBecause.IN_USE, f"{run.id} is running on it")
        if resource.kind is K.IMAGE and run.image_digest and resource.id.endswith(f"@{run.image_digest}"):
            return kept(KeptBecause.IN_USE, f"{run.id} is not finished, and runs in it")
        if resource.kind is K.GROUP and _run_of(resource) == run.id:
            return kept(KeptBecause.IN_USE, f"it rents the machines of {run.id}, which is not finished")
        if resource.kind in _MADE_FOR_RUNS and resource.tags.get(tag.RUN) == run.id:
            return kept(
                KeptBecause.IN_USE, f"it was made for the machines of {run.id}, which is not finished"
            )
    of_runs = resource.kind in _OF_RUNS or tag.RUN in resource.tags
    if facts.state_error and of_runs and resource.state != "staged":
        return kept(KeptBecause.UNKNOWN, f"which runs are unfinished is not known: {facts.state_error}")
    return None


_OF_RUNS = frozenset({K.INSTANCE, K.GROUP, K.VOLUME, K.SNAPSHOT, K.OBJECTS, K.UPLOAD})
_MADE_FOR_RUNS = frozenset(
    {K.LAUNCH_TEMPLATE, K.INSTANCE_PROFILE, K.ROLE, K.SECURITY_GROUP, K.PLACEMENT_GROUP, K.KEY_PAIR}
)
"""With a run's tag they are for all of its machines: also for the next one, while it has none."""


def _is_below(resource: Resource, run: RunFact) -> bool:
    own = run.store is not None and resource.id.startswith(run.store.rstrip("/") + "/")
    return own or resource.name == run.id


def _moving(resource: Resource, facts: Facts, now: datetime) -> Verdict | None:
    """A move to another zone that may be going on: here, or on another computer that began a step of it lately."""
    token = resource.tags.get(tag.MOVE)
    if token is None:
        return None
    intent = facts.intents.get(token)
    lately = any(
        each.tags.get(tag.MOVE) == token
        and each.created_at is not None
        and now - each.created_at < facts.older_than
        for each in facts.existing.values()
    )
    if lately or (intent is not None and intent.busy):
        return kept(KeptBecause.IN_USE, "it is being moved to another zone")
    return None


def _attached(resource: Resource, facts: Facts) -> Verdict | None:
    users = [user for user in resource.attached_to if user not in facts.going]
    if resource.ends_with is not None and (
        resource.ends_with in users or resource.ends_with in facts.existing
    ):
        return kept(KeptBecause.GOES_ALONG, f"it goes with {resource.ends_with}")
    if users:
        shown = ", ".join(users[:3]) + (f" and {len(users) - 3} more" if users[3:] else "")
        return kept(KeptBecause.IN_USE, f"it is used by {shown}")
    return None


def _perhaps_used(resource: Resource, facts: Facts) -> Verdict | None:
    why = unseen_users(resource, facts)
    return kept(KeptBecause.UNKNOWN, why) if why else None


def _too_young(resource: Resource, facts: Facts, now: datetime) -> Verdict | None:
    if not facts.older_than or _has_expired(resource, facts, now):
        return None
    if resource.existed_at is None:
        if resource.kind in SHARED and Include.SHARED in facts.include:
            return None
        return kept(KeptBecause.TOO_YOUNG, "nobody knows how old it is")
    age = now - resource.existed_at
    if age >= facts.older_than:
        return None
    told = f"it is {time_span(age)} old"
    if resource.created_at is None:
        told = f"its provider does not say how old it is; this computer has known it for {time_span(age)}"
    return kept(KeptBecause.TOO_YOUNG, f"{told}, less than {time_span(facts.older_than)}")


def _asked_for(facts: Facts, include: Include, why: str, otherwise: str) -> Verdict:
    """By the option that names its kind, or not at all."""
    if include in facts.include:
        return removable(why)
    return kept(KeptBecause.WANTED, f"{otherwise}; --include {include.value} removes it")


def _cut_short(resource: Resource, facts: Facts) -> bool:
    """Whether a command of this computer was about to make it and did not come to its end."""
    intent = facts.intents.get(resource.tags.get(tag.INTENT, ""))
    return intent is not None and intent.unfinished


def _run_of(resource: Resource) -> str:
    return resource.tags.get(tag.RUN) or resource.tags.get(tag.ATTEMPT, "").partition("/")[0]


def _instance(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    if _has_expired(resource, facts, now):
        return removable(f"it was to end itself at {resource.tags[tag.EXPIRES_AT]}")
    if resource.helper_for is not None:
        return removable(f"it was rented to fill {resource.helper_for}, and was left behind")
    if _cut_short(resource, facts):
        return removable("the command that rented it was interrupted")
    run_id = _run_of(resource)
    runs = [each for each in facts.runs if each.id == run_id]
    on_it = [each for each in facts.runs if each.instance_id == resource.id]
    run = next(
        iter([*(each for each in runs if each in on_it), *runs, *(each for each in on_it if each.rented)]),
        None,
    )
    if run is not None:
        waits = run.fetched_until is not None and run.instance_id == resource.id and run.fetched_until > now
        if waits:
            return kept(
                KeptBecause.WANTED,
                f"it waits for what {run.id} wrote to be fetched: runctl runs results {run.id}",
            )
        return removable(f"it was rented for {run.id}, and none of its attempts is running on it")
    if run_id:
        return _asked_for(
            facts,
            Include.INSTANCES,
            f"it was rented for {run_id}, of which this computer knows nothing",
            f"it was rented for {run_id}, of which this computer knows nothing",
        )
    return _asked_for(
        facts, Include.INSTANCES, "no run of this computer is running on it", "somebody may be using it"
    )


def _has_expired(resource: Resource, facts: Facts, now: datetime) -> bool:
    """Whether it is a machine that has run longer than the time that it was given: nobody makes it, however young.

    The time for which it is stopped does not count, and its tag says what that comes to only when it is started again.
    Where nobody can stop a machine, one that is stopped has shut itself down.
    """
    expires = resource.tags.get(tag.EXPIRES_AT)
    if resource.kind is not K.INSTANCE or not expires:
        return False
    if resource.state in {"stopped", "stopping"} and resource.provider not in facts.cannot_stop:
        return False
    try:
        return parse_rfc3339(expires) < now
    except ValueError:
        return False


def _group(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    del now
    if _cut_short(resource, facts):
        return removable("the command that made it was interrupted")
    if resource.state == "empty":
        return removable("it rents nothing any more")
    run_id = _run_of(resource)
    if any(run.id == run_id for run in facts.runs):
        return removable(f"it rented the machines of {run_id}, which has ended")
    return _asked_for(
        facts,
        Include.INSTANCES,
        "it rents machines for a run that this computer does not know",
        "it rents machines for a run that this computer does not know",
    )


def _fleet(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    del resource, facts, now
    return removable("it goes on asking for machines, which no command of runctl waits for")


def _spot_request(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    del facts, now
    return removable(f"it is {resource.state} and has no instance")


def _volume(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    del now
    if resource.tags.get(tag.UNUSED) == "true" and _cut_short(resource, facts):
        return removable("the command that made it was interrupted; it was never used")
    if resource.state == "error":
        return removable("it could not be created")
    if tag.MOVE in resource.tags:
        if Include.VOLUMES in facts.include:
            return removable("its move to another zone was interrupted; it holds data")
        finish = "the same `move` finishes it, `move --abandon` gives it up"
        return kept(KeptBecause.IN_USE, f"its move to another zone was interrupted: {finish}")
    moved = resource.tags.get(tag.MOVED_TO)
    holds = f"its data is in {moved} as well" if moved else "it may hold data"
    token = resource.tags.get(tag.NODE, "").partition("/")[0]
    if token:
        machines = _machines_of(token, facts)
        intent = facts.intents.get(token)
        if intent is not None and intent.busy:
            return kept(KeptBecause.IN_USE, "a command is renting the machine that it was copied for")
        if machines:
            return kept(KeptBecause.IN_USE, f"it was copied for a machine beside {machines[0]}")
        return removable("it was copied for one of several machines of a run, and was left behind")
    return _asked_for(facts, Include.VOLUMES, f"it is attached to nothing; {holds}", holds)


def _machines_of(token: str, facts: Facts) -> list[str]:
    """Instances of that intent that stay."""
    return [
        each.id
        for each in facts.existing.values()
        if each.kind is K.INSTANCE and each.tags.get(tag.INTENT) == token and each.id not in facts.going
    ]


def _network(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    """A firewall or a placement group."""
    if tag.INTENT in resource.tags:
        return removable("it was made for the machines of one run, and was left behind")
    return _shared(resource, facts, now)


def _snapshot(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    del now
    move = resource.tags.get(tag.MOVE)
    if move is not None:
        volumes = [
            each
            for each in facts.existing.values()
            if each.kind is K.VOLUME and each.tags.get(tag.MOVE) == move and each.id not in facts.going
        ]
        if volumes:
            return kept(KeptBecause.IN_USE, "a volume's move to another zone goes on with it")
        return removable("the move that took it has ended")
    if resource.state == "error":
        return removable("it failed")
    alone = resource.source is not None and resource.source not in facts.existing
    why = f"{resource.source} does not exist any more: this may be the only copy" if alone else "it is a copy"
    return _asked_for(facts, Include.SNAPSHOTS, why, why)


def _launch_template(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    del resource, facts, now
    return removable("no group uses it: a launch that was interrupted left it")


def _upload(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    del resource, facts, now
    return removable("it was not completed")


def _objects(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    del now
    if resource.state == "staged":
        return removable("it was on its way to or from a machine, and was left behind")
    what = f"what {resource.name} has left" if resource.name else "what runs have left"
    return _asked_for(facts, Include.OBJECTS, f"it is {what}", f"it is {what}")


def _image(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    del resource, now
    return _asked_for(facts, Include.IMAGES, "no unfinished run uses it", "a run may use it again")


def _shared(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    del now
    if resource.helper_for is not None:
        helpers = [
            each.id
            for each in facts.existing.values()
            if each.kind is K.INSTANCE
            and each.helper_for == resource.helper_for
            and each.id not in facts.going
        ]
        if helpers:
            return kept(KeptBecause.IN_USE, f"{helpers[0]} fills {resource.helper_for} with it")
        return removable(f"it was made to fill {resource.helper_for}, and was left behind")
    run_id = resource.tags.get(tag.RUN)
    if run_id is not None:
        users = [
            each.id
            for each in facts.existing.values()
            if each.kind in {K.GROUP, K.INSTANCE} and _run_of(each) == run_id and each.id not in facts.going
        ]
        if users:
            return kept(KeptBecause.IN_USE, f"{users[0]} has its rights for {run_id}")
        return removable(f"it was made for the machines of {run_id}, and was left behind")
    return _asked_for(
        facts,
        Include.SHARED,
        "nothing uses it; the next command that needs it makes it again",
        "the account has it once for everybody, and it costs nothing of its own",
    )


def _intent(resource: Resource, facts: Facts, now: datetime) -> Verdict:
    del facts, now
    return removable(f"a command was interrupted as it was about to make {resource.details or 'something'}")


_JUDGES: Mapping[ResourceKind, Callable[[Resource, Facts, datetime], Verdict]] = {
    K.GROUP: _group,
    K.FLEET: _fleet,
    K.SPOT_REQUEST: _spot_request,
    K.INSTANCE: _instance,
    K.VOLUME: _volume,
    K.SNAPSHOT: _snapshot,
    K.LAUNCH_TEMPLATE: _launch_template,
    K.UPLOAD: _upload,
    K.OBJECTS: _objects,
    K.BUCKET: _shared,
    K.IMAGE: _image,
    K.REPOSITORY: _shared,
    K.INSTANCE_PROFILE: _shared,
    K.ROLE: _shared,
    K.SECURITY_GROUP: _network,
    K.PLACEMENT_GROUP: _network,
    K.KEY_PAIR: _shared,
    K.INTENT: _intent,
}
