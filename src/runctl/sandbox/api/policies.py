"""Whether IAM policies allow an action: statements, wildcards, conditions. Pure.

After "Policy evaluation logic" in IAM's guide: a denial that matches ends it, else one permission is enough.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

Document = str | Mapping[str, Any]
Value = str | tuple[str, ...]
"""Of a key of the request: of some, such as ``aws:TagKeys``, there are several."""


class Verdict(Enum):
    """What a set of policies says of one action."""

    ALLOWED = "allowed"
    NOT_ALLOWED = "not allowed"
    """No statement applies."""
    DENIED = "denied"
    """A statement denies it."""


def verdict(
    documents: Iterable[Document],
    action: str,
    resource: str | None,
    context: Mapping[str, Value] | None = None,
) -> Verdict:
    """What the policies say of ``action`` (``s3:GetObject``) on ``resource``, an ARN.

    A resource of ``None`` is one that is not known: a permission for any is enough, and only a denial for all of them
    counts. ``context`` holds values for conditions; one that asks for others does not match.
    """
    found = Verdict.NOT_ALLOWED
    for statement in _statements(documents):
        effect = statement.get("Effect")
        if not _is_about(statement, action.lower(), resource, context or {}):
            continue
        if effect == "Deny":
            return Verdict.DENIED
        if effect == "Allow":
            found = Verdict.ALLOWED
    return found


def _is_about(
    statement: Mapping[str, Any], action: str, resource: str | None, context: Mapping[str, Value]
) -> bool:
    denies = statement.get("Effect") == "Deny"

    def is_action(patterns: list[str]) -> bool:
        return _any(patterns, action, fold=True)

    def is_resource(patterns: list[str]) -> bool:
        return _resource(patterns, resource, denies)

    return (
        _covers(statement, "Action", "NotAction", is_action)
        and _covers(statement, "Resource", "NotResource", is_resource)
        and _conditions_hold(statement.get("Condition") or {}, context)
    )


def _statements(documents: Iterable[Document]) -> Iterable[Mapping[str, Any]]:
    for document in documents:
        try:
            parsed = json.loads(document) if isinstance(document, str) else document
            statements = parsed["Statement"]
        except (ValueError, KeyError, TypeError):
            continue
        yield from [statements] if isinstance(statements, Mapping) else statements


def _covers(
    statement: Mapping[str, Any], name: str, negated: str, matches: Callable[[list[str]], bool]
) -> bool:
    if negated in statement:
        return not matches(_list(statement[negated]))
    return matches(_list(statement.get(name, [])))


def _resource(patterns: Sequence[str], resource: str | None, denies: bool) -> bool:
    if resource is None:
        return "*" in patterns or (not denies and bool(patterns))
    return _any(patterns, resource)


def _conditions_hold(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, Value]) -> bool:
    known = {key.lower(): value for key, value in context.items()}
    return all(
        _condition_holds(operator, known.get(key.lower()), _list(wanted))
        for operator, tests in conditions.items()
        for key, wanted in tests.items()
    )


def _condition_holds(operator: str, value: Value | None, wanted: list[str]) -> bool:
    each_of, _, name = operator.rpartition(":")
    if name == "Null":
        return (value is None) is (wanted == ["true"])
    if name.endswith("IfExists"):
        if value is None:
            return True
        name = name.removesuffix("IfExists")
    test = _OPERATORS.get(name.replace("Not", ""))
    if test is None:
        return False
    negated = "Not" in name
    values = () if value is None else (value,) if isinstance(value, str) else value
    if each_of == "ForAllValues":
        # Also where there are none ("Set operators for multivalued context keys").
        return all(test(wanted, each) is not negated for each in values)
    if value is None:
        return negated and not each_of
    return any(test(wanted, each) is not negated for each in values)


def _any(patterns: Iterable[str], text: str, *, fold: bool = False) -> bool:
    return any(_pattern(pattern.lower() if fold else pattern).fullmatch(text) for pattern in patterns)


@lru_cache(maxsize=4096)
def _pattern(pattern: str) -> re.Pattern[str]:
    wild = {"*": ".*", "?": "."}
    tokens = re.findall(r"\$\{[*?$]\}|.", pattern, re.DOTALL)
    # ${*}, ${?} and ${$} are the characters themselves ("IAM policy elements: Variables and tags").
    parts = (re.escape(token[2]) if len(token) > 1 else wild.get(token, re.escape(token)) for token in tokens)
    return re.compile("".join(parts), re.DOTALL)


_OPERATORS: dict[str, Callable[[list[str], str], bool]] = {
    "StringEquals": lambda wanted, value: value in wanted,
    "StringEqualsIgnoreCase": lambda wanted, value: value.lower() in [item.lower() for item in wanted],
    "StringLike": _any,
    "ArnEquals": _any,
    "ArnLike": _any,
    "Bool": lambda wanted, value: value.lower() in [item.lower() for item in wanted],
}


def _list(value: object) -> list[str]:
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [str(item) for item in value]
    return [str(value).lower() if isinstance(value, bool) else str(value)]
