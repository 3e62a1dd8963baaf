"""From an id or a name to an instance."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from runctl.core.errors import Conflict, NotFound, UsageError
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.names import did_you_mean
from runctl.core.tags import NAME
from runctl.core.text import with_article
from runctl.machines.session import Session
from runctl.providers.registry import DEFAULT, owner_of, plugin, plugins, when_not_running


def provider_of(session: Session, reference: str) -> str:
    """Whose instance an id or a name is, where a command does not say.

    That is told from the id's form, then from the names that providers know without asking anybody; else it is the
    default provider's.
    """
    by_form = owner_of(reference)
    known = (each.name for each in plugins() if reference in each.known_instances(session.config))
    return by_form or next(known, DEFAULT)


def find_instance(session: Session, provider: str, reference: str | None = None) -> Instance:
    """The instance as it is now, by its id or its name; without either, the provider's only one.

    Names are compared as they are written; instances that have ended have none any more. Raises `UsageError` (code
    ``ambiguous`` where several have the name), `NotFound`.
    """
    reference = reference if reference is not None else plugin(provider).only_instance
    if reference is None:
        raise UsageError(
            "an instance is needed: its id or its name", hint=f"runctl {provider} list shows them"
        )
    return instance_finder(session, provider)(reference)


def instance_finder(session: Session, provider: str) -> Callable[[str], Instance]:
    """`find_instance` for several references; the instances are listed once for all."""
    machines = session.provider(provider)
    listed = cache(machines.instances)

    def find(reference: str) -> Instance:
        identifier = instance_id_in(provider, reference)
        opaque = plugin(provider).opaque_ids
        if identifier is None or (opaque and _has_name(reference, listed())):
            return _named(reference, listed(), provider)
        return machines.instance(identifier)

    return find


def instance_ids(session: Session, provider: str, references: Iterable[str]) -> list[InstanceId]:
    """The ids of instances that are named by id or name, each once; a provider is asked only about names.

    Raises as `find_instance` does, before anything is done to any of them.
    """
    known: Sequence[Instance] | None = None
    found: dict[InstanceId, None] = {}
    for reference in references:
        identifier = instance_id_in(provider, reference)
        if known is None and (identifier is None or plugin(provider).opaque_ids):
            known = session.provider(provider).instances()
        if identifier is None or (plugin(provider).opaque_ids and _has_name(reference, known or ())):
            identifier = _named(reference, known or (), provider).id
        found[identifier] = None
    return list(found)


def running_instance(session: Session, provider: str, reference: str | None = None) -> Instance:
    """As `find_instance`, and it runs. Raises `Conflict` (code ``not-running``) with what to do about it."""
    instance = find_instance(session, provider, reference)
    if instance.state is not InstanceState.RUNNING:
        raise Conflict(
            f"{instance.id} is {instance.state.value}, not running",
            hint=when_not_running(instance),
            code="not-running",
        )
    return instance


def instance_id_in(provider: str, reference: str) -> InstanceId | None:
    """The id that a reference is; ``None`` where it can only be a name.

    Raises `UsageError` (code ``bad-instance-id``) for what is plainly something else, and says what.
    """
    described = plugin(provider)
    own = described.id_of("instance")
    if own is None or re.fullmatch(own.pattern, reference):
        return InstanceId(reference)
    hint = f"runctl {provider} list shows instances"
    other = next((each for each in described.ids if each is not own and each.claims(reference)), None)
    if other is not None:
        message = f"{reference} is {with_article(other.kind)}, and an instance is needed here"
    elif reference.startswith("run-"):
        message = f"{reference} is a run, and an instance is needed here"
        hint = f"runctl runs show {reference} names its instance"
    elif reference.endswith((".py", ".sh")):
        message = f"{reference} is a script, and an instance is needed here: its id or its name"
    elif own.claims(reference):
        message = f"{reference!r} is not an instance id: they look like {own.example}"
    elif not reference.strip():
        message = "an instance is needed here, and an empty text was given"
    else:
        return None
    raise UsageError(message, hint=hint, code="bad-instance-id")


def _has_name(reference: str, instances: Sequence[Instance]) -> bool:
    """Whether one of them is called so. Pure."""
    return any(each.tags.get(NAME) == reference for each in instances)


def _named(name: str, instances: Sequence[Instance], provider: str) -> Instance:
    """The only instance of that name. Pure. Raises `NotFound`, `UsageError`."""
    matching = [instance for instance in instances if instance.tags.get(NAME) == name]
    if len(matching) > 1:
        raise UsageError(
            f"several instances are called {name}: {', '.join(instance.id for instance in matching)}",
            hint="use the id of one of them",
            code="ambiguous",
        )
    if not matching:
        names = [instance.tags[NAME] for instance in instances if NAME in instance.tags]
        raise NotFound(
            f"there is no instance {name!r}",
            hint=did_you_mean(name, names)
            or f"runctl {provider} list shows instances with their ids and names",
            code="instance-not-found",
        )
    return matching[0]
