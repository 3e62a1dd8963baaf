"""Values of EC2's filters as EC2 reads them; moto takes them for shell patterns, or compares them as they are.

From "List and filter using the CLI and API" in the EC2 user guide: ``*`` is any text, ``?`` one character or none, a
backslash takes the meaning from the next character, and case counts. Brackets mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import moto.ec2.models.tags
import moto.ec2.utils


@lru_cache(maxsize=4096)
def expression(pattern: str) -> re.Pattern[str]:
    """A regular expression that matches, from beginning to end, what the filter value matches."""
    parts, escaped = [], False
    for character in pattern:
        if not escaped and character == "\\":
            escaped = True
            continue
        wild = {"*": ".*", "?": ".?"}.get(character) if not escaped else None
        parts.append(wild or re.escape(character))
        escaped = False
    if escaped:
        parts.append(re.escape("\\"))
    return re.compile("(?s:" + "".join(parts) + r")\Z")


def matches(value: str, patterns: Iterable[str]) -> bool:
    """Whether any of the filter's values matches."""
    return any(expression(pattern).match(value) for pattern in patterns)


def install() -> None:
    """moto's EC2 in this process reads filter values so."""
    moto.ec2.utils.simple_aws_filter_to_re = _to_text
    moto.ec2.models.tags.simple_aws_filter_to_re = _to_text  # type: ignore[attr-defined]
    setattr(moto.ec2.utils, "fnmatch", _Matching)  # noqa: B010 (moto does not export it)
    moto.ec2.utils.instance_value_in_filter_values = _of_instance


def _to_text(filter_string: str) -> str:
    return expression(filter_string).pattern


class _Matching:
    """In the place of the module ``fnmatch``."""

    @staticmethod
    def fnmatch(name: str, pat: str) -> bool:
        """moto calls it with a value and one of the filter's."""
        return expression(pat).match(name) is not None


def _of_instance(instance_value: Any, filter_values: Any) -> bool:
    values = instance_value if isinstance(instance_value, list) else [instance_value]
    texts = [
        str(value).lower() if isinstance(value, bool) else str(value) for value in values if value is not None
    ]
    return any(matches(text, filter_values) for text in texts)
