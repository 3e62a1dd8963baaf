"""Names and tags are compared as they are written.

EC2 reads the values of filters as patterns ("List and filter using the CLI and API" in the EC2 user guide): ``*`` and
``?`` stand for other characters, and a backslash takes that meaning from the next one. Every EC2 client of a session
escapes all values of all filters (`keep_literal`), so that no call can look up a pattern, and `describe` compares the
tags that come back once more. Types of machines have no names that users give: there patterns are meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from runctl.providers.aws.calls.parse import tags_of

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

_SPECIAL = re.compile(r"[\\*?]")
_TAG = "tag:"
_PATTERNS = ("DescribeInstanceTypes", "instance-type")
"""The call and the filter whose values are patterns."""
_ITEMS = {
    "describe_instances": "Reservations",
    "describe_volumes": "Volumes",
    "describe_snapshots": "Snapshots",
}


def literal(value: str) -> str:
    """A filter value that matches just this text. Pure."""
    return _SPECIAL.sub(lambda match: "\\" + match.group(), value)


def keep_literal(client: Any) -> None:
    """From now on, the values of every filter of the EC2 client's calls match just themselves."""
    client.meta.events.register("provide-client-params.ec2", _escaped)


def _escaped(params: Mapping[str, Any], *, model: Any = None, **_: Any) -> Mapping[str, Any] | None:
    filters = params.get("Filters")
    if not filters:
        return None
    return {
        **params,
        "Filters": [
            item
            if (getattr(model, "name", None), item.get("Name")) == _PATTERNS
            else {**item, "Values": [literal(value) for value in item.get("Values", ())]}
            for item in filters
        ],
    }


def describe(
    ec2: EC2Client, operation: str, filters: Mapping[str, Iterable[str]], **arguments: Any
) -> list[Mapping[str, Any]]:
    """All items, of every page, for which every filter has just one of its values.

    ``operation`` is ``describe_instances``, ``describe_volumes`` or ``describe_snapshots``.
    """
    wanted = {name: list(values) for name, values in filters.items()}
    arguments["Filters"] = [{"Name": name, "Values": values} for name, values in wanted.items()]
    paginator: Any = ec2.get_paginator(operation)  # type: ignore[call-overload]
    found: list[Mapping[str, Any]] = []
    for page in paginator.paginate(**arguments):
        for item in page[_ITEMS[operation]]:
            found += item["Instances"] if operation == "describe_instances" else [item]
    tags = {name.removeprefix(_TAG): values for name, values in wanted.items() if name.startswith(_TAG)}
    return [item for item in found if has_tags(item, tags)] if tags else found


def has_tags(item: Mapping[str, Any], wanted: Mapping[str, Iterable[str]]) -> bool:
    """Whether each of these tags has one of its values. Pure."""
    tags = tags_of(item.get("Tags"))
    return all(key in tags and tags[key] in values for key, values in wanted.items())
