"""What configured values must be besides their form: what the options of the same meaning are checked by.

A section's field names its check (``metadata={"check": "ttl"}``). Each imports what it needs when there is a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runctl.core.clock import parse_duration
from runctl.core.config.values import Checks
from runctl.core.names import check_variable


def _ttl(text: str) -> None:
    from runctl.providers.abilities.limits import check_ttl

    check_ttl(parse_duration(text))


def _idle_timeout(text: str) -> None:
    from runctl.providers.abilities.limits import OFF, check_idle_timeout

    check_idle_timeout(OFF if text == "off" else parse_duration(text))


def _instance_type(text: str) -> None:
    from runctl.providers.capacity import check_instance_type

    check_instance_type(text)


def _mounts(texts: Sequence[str]) -> None:
    from runctl.containers.mounts import check_mount

    for text in texts:
        check_mount(text)


def _store(text: str) -> None:
    from runctl.agent.object_store import parse_source
    from runctl.checkpoints.keeping import is_own

    if not is_own(text):
        parse_source(text)


def _store_folder(text: str) -> None:
    from runctl.checkpoints.keeping import check_folder

    check_folder(text)


def _store_endpoint(text: str) -> None:
    from runctl.checkpoints.keeping import check_endpoint

    check_endpoint(text)


def _checkpoint_every(text: str) -> None:
    from runctl.checkpoints.keeping import AUTO, seconds_of

    if text != AUTO:
        seconds_of(text)


def _variables(names: Iterable[str]) -> None:
    for name in names:
        check_variable(name)


CHECKS: Checks = {
    "ttl": _ttl,
    "idle-timeout": _idle_timeout,
    "instance-type": _instance_type,
    "mounts": _mounts,
    "store": _store,
    "store-folder": _store_folder,
    "store-endpoint": _store_endpoint,
    "checkpoint-every": _checkpoint_every,
    "variables": _variables,
}
