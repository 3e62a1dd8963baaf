"""Names that a shell can be offered without asking a provider: what the last commands have shown.

One small file in the cache folder, its parts by provider and account. What cannot be read or written changes nothing:
a shell then offers less.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from runctl._dataclasses import dataclass
from runctl.providers.registry import names, plugin

INSTANCES = "instances"
VOLUMES = "volumes"
SNAPSHOTS = "snapshots"
_MOST = 200
"""Things of a kind and place that are kept."""


@dataclass(frozen=True)
class Seen:
    """Something that a command has shown."""

    id: str
    name: str | None
    about: str
    """A few words for the shell's list."""
    is_over: bool = False
    """It has ended or is deleted: it is offered no more."""
    region: str = ""


_ACCOUNT = re.compile("[^/]+/[0-9a-f]{16}")
_FIELDS = {field.name for field in fields(Seen)}


def remember(
    kind: str, things: Iterable[Seen], *, provider: str, region: str | None, everything: bool = False
) -> None:
    """These are what is known of a kind in a region, in addition to what was, or instead with ``everything``."""
    with contextlib.suppress(OSError):
        whole, where, here = _read(), _account(provider), region or ""
        before = whole.get(where, {}).get(kind, [])
        known = {old["id"]: old for old in before if not (everything and old["region"] == here)}
        for thing in things:
            known.pop(thing.id, None)
            if not thing.is_over:
                known[thing.id] = asdict(replace(thing, region=here))
        kept = list(known.values())[-_MOST:]
        if kept != before:
            _write({**whole, where: {**whole.get(where, {}), kind: kept}})


def seen(kind: str, provider: str | None = None) -> list[Seen]:
    """What is known of a kind in the account that is used now, the latest first; of one provider, or of all."""
    try:
        whole = _read()
    except OSError:
        return []
    accounts = [_account(name) for name in ((provider,) if provider else names())]
    return [Seen(**found) for account in accounts for found in reversed(whole.get(account, {}).get(kind, []))]


def _account(provider: str) -> str:
    """What tells two accounts or two sandboxes from each other, as far as this computer can know without asking.

    A digest: some of the variables are secret, and this is written to a file.
    """
    from hashlib import sha256

    variables = plugin(provider).account_variables
    values = "\0".join(os.environ.get(variable, "") for variable in variables)
    return f"{provider}/{sha256(values.encode()).hexdigest()[:16]}"


def _file() -> Path:
    from runctl.core.files import cache_folder

    return cache_folder() / "completion.json"


def _read() -> dict[str, dict[str, list[dict[str, Any]]]]:
    try:
        text = _file().read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return (
        {where: kinds for where, kinds in found.items() if _ACCOUNT.fullmatch(where)}
        if _is_sound(found)
        else {}
    )


def _is_sound(found: Any) -> bool:
    """Whether it has the form that this program writes; an older or newer one may have written another."""
    return isinstance(found, dict) and all(
        isinstance(kinds, dict)
        and all(
            isinstance(things, list)
            and all(isinstance(thing, dict) and set(thing) == _FIELDS for thing in things)
            for things in kinds.values()
        )
        for kinds in found.values()
    )


def _write(whole: object) -> None:
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".completion.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(whole, stream)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
