"""A plan carried out: wave after wave, everything in one at the same time, and each looked for until it is gone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock
from runctl.core.errors import Conflict, OutcomeUnknown, RunctlError, Unreachable
from runctl.core.progress import SILENT, Progress
from runctl.core.text import counted, time_span
from runctl.core.waiting import attempts
from runctl.providers.abilities.inventory import Inventory, Resource, ResourceKind

ENDED_TIMEOUT = timedelta(minutes=15)
"""A machine with much memory or a GPU may take as long to shut down."""
GONE_TIMEOUT = timedelta(minutes=2)
FREE_TIMEOUT = timedelta(minutes=1)
"""How long something may still count as used after what used it has gone."""
_FINAL = frozenset({"protected", "not-ours", "not-yours", "profile-in-use"})
"""Codes of conflicts that waiting does not settle."""
_THREADS = 16


@dataclass(frozen=True)
class Failure:
    """What could not be done."""

    resource: Resource
    reason: str
    code: str
    hint: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a plan came to."""

    done: tuple[Resource, ...]
    """Each was looked for afterwards."""
    failed: tuple[Failure, ...]


Act = Callable[[Inventory, Resource], None]
IsDone = Callable[[Inventory, Resource], bool]


def carry_out(
    waves: Sequence[Sequence[Resource]],
    inventories: Mapping[str, Inventory],
    clock: Clock,
    *,
    act: Act | None = None,
    is_done: IsDone | None = None,
    progress: Progress = SILENT,
    verb: str = "removing",
) -> Outcome:
    """Everything in the waves is gone, or its failure is in the outcome. By default each is removed.

    What needs something gone that could not be removed is not tried. A resource that is gone already is fine, so that
    the same plan again finishes what was cut short.
    """
    do = act or (lambda inventory, resource: inventory.remove(resource))
    finished = is_done or (lambda inventory, resource: inventory.is_gone(resource))
    done: list[Resource] = []
    failed: dict[str, Failure] = {}
    total = sum(map(len, waves))
    given_up = threading.Event()

    def removal(resource: Resource) -> Failure | None:
        return _remove(resource, inventories[resource.provider], clock, do, finished, given_up)

    for wave in waves:
        ready = []
        for resource in wave:
            blocking = next((user for user in _needed_gone(resource) if user in failed), None)
            if blocking is None:
                ready.append(resource)
            else:
                failed[resource.id] = Failure(resource, f"{blocking} could not be removed", "blocked")
        if not ready:
            continue
        progress.step(f"{verb} {_named(ready)}")
        with ThreadPoolExecutor(min(_THREADS, len(ready))) as pool:
            try:
                for resource, failure in zip(ready, pool.map(removal, ready), strict=True):
                    if failure is None:
                        done.append(resource)
                    else:
                        failed[resource.id] = failure
                    progress.update(done=len(done) + len(failed), total=total)
            except BaseException:
                # Ctrl-C: nobody goes on waiting for what was begun.
                given_up.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return Outcome(tuple(done), tuple(failed.values()))


def _needed_gone(resource: Resource) -> Sequence[str]:
    return (*resource.attached_to, *([resource.ends_with] if resource.ends_with else []))


def _named(resources: Sequence[Resource]) -> str:
    if len(resources) == 1:
        (only,) = resources
        return only.label
    counts = Counter(each.kind for each in resources)
    return ", ".join(
        counted(number, kind.label, kind.label if kind is ResourceKind.OBJECTS else None)
        for kind, number in counts.items()
    )


def _remove(
    resource: Resource,
    inventory: Inventory,
    clock: Clock,
    act: Act,
    is_done: IsDone,
    given_up: threading.Event,
) -> Failure | None:
    """``None``: it is done, and was seen to be."""
    refused: Conflict | None = None
    try:
        for _ in attempts(clock, FREE_TIMEOUT):
            try:
                act(inventory, resource)
            except OutcomeUnknown:
                # It may have been carried out: that is looked for next.
                refused = None
                break
            except Conflict as error:
                refused = error
                if error.code in _FINAL or given_up.is_set():
                    break
                continue
            refused = None
            break
        if refused is not None:
            return Failure(resource, refused.message, refused.code, refused.hint)
        timeout = ENDED_TIMEOUT if resource.kind in _SLOW else GONE_TIMEOUT
        for _ in attempts(clock, timeout):
            if is_done(inventory, resource):
                return None
            if given_up.is_set():
                break
    except RunctlError as error:
        return Failure(resource, error.message, error.code, error.hint)
    late = Unreachable(
        f"it is still there after {time_span(timeout)}", hint="run the same command again to check"
    )
    return Failure(resource, late.message, late.code, late.hint)


_SLOW = frozenset({ResourceKind.INSTANCE, ResourceKind.GROUP, ResourceKind.FLEET})
