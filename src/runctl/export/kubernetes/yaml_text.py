"""Documents of YAML with comments above them, the same bytes for the same values."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from runctl._dataclasses import dataclass

_WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_RESERVED = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"))
"""What some version of YAML takes for something else than text."""


@dataclass(frozen=True)
class Document:
    """One resource."""

    body: Mapping[str, Any]
    comments: tuple[str, ...] = ()
    """Paragraphs, above it."""


class _Dumper(yaml.SafeDumper):
    """Text is quoted wherever a reader could take it for anything else: PyYAML writes YAML 1.1 and leaves ``1e-4``
    bare, which Kubernetes' own reader takes for a number."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Every value is written out where it stands."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    if "\n" in text and all(character == "\n" or character.isprintable() for character in text):
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _RESERVED
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else '"')


_Dumper.add_representer(str, _text)


def render(header: Sequence[str], documents: Sequence[Document]) -> str:
    """One stream: the header's paragraphs as comments, then each document."""
    parts = [_comment(header)]
    for document in documents:
        body = yaml.dump(
            dict(document.body),
            Dumper=_Dumper,
            sort_keys=False,
            default_flow_style=False,
            width=1 << 20,
            allow_unicode=True,
        )
        parts.append("---\n" + _comment(document.comments) + body)
    return "".join(parts)


def _comment(paragraphs: Sequence[str]) -> str:
    """``- `` begins an entry of a list, ``$ `` a command, which stays on one line."""
    lines: list[str] = []
    for paragraph in paragraphs:
        if lines and not paragraph.startswith(("- ", "$ ")):
            lines.append("#")
        printable = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in paragraph)
        if printable.startswith("$ "):
            lines.append(f"#   {printable[2:]}")
            continue
        indent = "  " if printable.startswith("- ") else ""
        wrapped = textwrap.wrap(
            printable, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        lines += [f"# {line}" for line in wrapped]
    return "".join(f"{line}\n" for line in lines)
