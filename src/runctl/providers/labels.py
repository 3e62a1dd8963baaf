"""Tags in a name, for providers whose machines have a name and nothing else that could say whose they are.

``runctl.TOKEN.o-ann.p-digits.n-mine``: the intent's token, and a part for each tag that is known here. What is not such
a name, to the letter, was not made by runctl. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from runctl.core.machine_models import Instance
from runctl.core.tags import INTENT, OWNED, OWNED_VALUE, is_ours
from runctl.providers.rental_tags import LETTERS

_PREFIX = "runctl"
_TOKEN = re.compile(r"[0-9a-f]{32}")
_PLAIN = re.compile(r"[A-Za-z0-9-]")
_ENCODED = re.compile(r"(?:[A-Za-z0-9-]|_[0-9a-f]{2})+")


def label_of(tags: Mapping[str, str]) -> str:
    """The name that says these tags; those that a label has no room for are left out. Needs the intent's token."""
    parts = [_PREFIX, tags[INTENT]]
    parts += [f"{letter}-{_encode(tags[tag])}" for letter, tag in LETTERS.items() if tags.get(tag)]
    return ".".join(parts)


def tags_of(label: str | None) -> dict[str, str]:
    """What a label says; empty for a name that is no label."""
    prefix, _, rest = (label or "").partition(".")
    token, *parts = rest.split(".")
    if prefix != _PREFIX or not _TOKEN.fullmatch(token):
        return {}
    tags = {OWNED: OWNED_VALUE, INTENT: token}
    for part in parts:
        letter, dash, value = part.partition("-")
        if letter not in LETTERS or not dash or not _ENCODED.fullmatch(value):
            return {}
        tags[LETTERS[letter]] = _decode(value)
    return tags if label_of(tags) == label else {}


def listed(found: Iterable[Instance], *, everyone: bool, include_ended: bool) -> tuple[Instance, ...]:
    """Those that `Provider.instances` is asked for, newest first."""
    wanted = [
        each
        for each in found
        if (everyone or is_ours(each.tags)) and (include_ended or not each.state.is_over)
    ]
    return tuple(sorted(wanted, key=lambda each: each.created_at, reverse=True))


def left_out(tags: Mapping[str, str]) -> tuple[str, ...]:
    """The tags that a label would not keep, by name."""
    return tuple(sorted(set(tags) - set(LETTERS.values()) - {OWNED, INTENT}))


def _encode(text: str) -> str:
    return "".join(
        each if _PLAIN.fullmatch(each) else "".join(f"_{byte:02x}" for byte in each.encode()) for each in text
    )


def _decode(text: str) -> str:
    raw = re.sub(rb"_([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    return raw.decode(errors="replace")
