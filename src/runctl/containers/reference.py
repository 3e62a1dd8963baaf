"""Names of images and repositories, by the grammar that every engine and registry checks them with.

Source: https://github.com/distribution/reference, ``reference.go``.
"""

from __future__ import annotations

import re

from runctl.core.errors import UsageError

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = rf"{_PART}(?:/{_PART})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(rf"(?:{_HOST}/)?{_PATH}(?::{_TAG})?(?:@{_DIGEST})?")
_REPOSITORY = re.compile(rf"{_HOST}/{_PATH}")
LONGEST_NAME = 255


def check_reference(text: str, option: str) -> str:
    """``text``, which can name an image. ``option`` is where it comes from. Raises `UsageError`."""
    name = text.partition("@")[0]
    if _REFERENCE.fullmatch(text) and len(name) <= LONGEST_NAME:
        return text
    hint = "an image is named like python:3.12-slim or ghcr.io/ada/digits:1"
    if _REFERENCE.fullmatch(text.lower()):
        hint = "the name of an image is in lower case; only its host and its tag may not be"
    raise UsageError(f"{option} {text!r} is not an image's name", hint=hint, code="bad-image")


def is_repository(text: str) -> bool:
    """Whether it is ``HOST/PATH``, a repository to push to."""
    return _REPOSITORY.fullmatch(text) is not None and len(text) <= LONGEST_NAME
