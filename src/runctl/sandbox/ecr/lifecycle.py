"""Which images a lifecycle policy of ECR expires. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

Matches = Callable[["Candidate"], bool]


@dataclass(frozen=True)
class Candidate:
    """What a policy looks at in an image."""

    digest: str
    tags: tuple[str, ...]
    pushed: datetime
    in_list: bool = False
    """Whether a list of images that is there names it: such an image stays as long as the list does."""


def expired(policy: str, images: Collection[Candidate], now: datetime) -> list[tuple[Candidate, int]]:
    """The images that the policy takes away, the oldest first, each with the priority of the rule that does it.

    As "How lifecycle policies work" in ECR's guide has it: every rule looks at all images, but an image that meets the
    tagging requirement of a rule is not expired by one of lower priority, and none is expired twice.
    """
    rules = sorted(json.loads(policy)["rules"], key=lambda rule: int(rule["rulePriority"]))
    found: dict[str, tuple[Candidate, int]] = {}
    spoken_for: list[Matches] = []
    for rule in rules:
        selection = rule["selection"]
        matches = _tagging(selection)
        chosen = sorted(filter(matches, images), key=lambda image: (image.pushed, image.digest), reverse=True)
        for image in _beyond(selection, chosen, now):
            taken = image.digest in found or any(earlier(image) for earlier in spoken_for)
            if not taken and not image.in_list:
                found[image.digest] = (image, int(rule["rulePriority"]))
        spoken_for.append(matches)
    return sorted(found.values(), key=lambda item: (item[0].pushed, item[0].digest))


def _tagging(selection: dict[str, Any]) -> Matches:
    status = selection["tagStatus"]
    if status == "any":
        return lambda _: True
    if status == "untagged":
        return lambda image: not image.tags
    patterns = [f"{_literal(prefix)}*" for prefix in selection.get("tagPrefixList") or ()]
    patterns += [_literal(pattern, keep="*") for pattern in selection.get("tagPatternList") or ()]
    return lambda image: bool(image.tags) and all(_any_tag(image.tags, pattern) for pattern in patterns)


def _any_tag(tags: Iterable[str], pattern: str) -> bool:
    return any(fnmatchcase(tag, pattern) for tag in tags)


def _literal(text: str, keep: str = "") -> str:
    """For fnmatch: only what is in ``keep`` has a meaning of its own."""
    return "".join(f"[{c}]" if c in "*?[" and c not in keep else c for c in text)


def _beyond(selection: dict[str, Any], newest_first: list[Candidate], now: datetime) -> list[Candidate]:
    number = int(selection["countNumber"])
    if selection["countType"] == "imageCountMoreThan":
        return newest_first[number:]
    oldest = now - timedelta(days=number)
    return [image for image in newest_first if image.pushed < oldest]
