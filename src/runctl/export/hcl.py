"""Terraform's language, written as ``terraform fmt`` writes it. Pure.

Source: "HCL Native Syntax Specification", "Style Guide" in Terraform's documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from runctl.providers.abilities.terraform import Block, Body, Json, Reference

INDENT = "  "
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_KEYWORDS = frozenset({"true", "false", "null", "for", "if"})


def block(head: str, body: Body) -> str:
    """A block at the top level: ``resource "aws_instance" "trainer"`` with its body; without a newline at its end."""
    return "\n".join(_block(head, body, ""))


def header(kind: str, *labels: str) -> str:
    """The line that a block begins with, without its brace."""
    return " ".join((kind, *map(quoted, labels)))


def quoted(text: str) -> str:
    """A string in which nothing is evaluated."""
    written = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    return written.replace("${", "$${").replace("%{", "%%{")


def comment(text: str) -> str:
    """Lines of a comment; what is in the text cannot end it."""
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines() or [""])


def _block(head: str, body: Body, indent: str) -> list[str]:
    if not body:
        return [f"{indent}{head} {{}}"]
    return [f"{indent}{head} {{", *_body(body, indent + INDENT), f"{indent}}}"]


def _body(body: Body, indent: str) -> list[str]:
    """Arguments of one line stand together, aligned; everything else has an empty line around it."""
    groups: list[list[str]] = []
    aligned: list[tuple[str, str]] = []
    for name, argument in body.items():
        blocks = _blocks(argument)
        if blocks is not None:
            groups += [_aligned(aligned, indent)] if aligned else []
            aligned = []
            groups += [_block(name, each.body, indent) for each in blocks]
            continue
        lines = _value(argument, indent)
        if len(lines) == 1:
            aligned.append((name, lines[0]))
            continue
        groups += [_aligned(aligned, indent)] if aligned else []
        aligned = []
        groups.append([f"{indent}{name} = {lines[0]}", *lines[1:]])
    groups += [_aligned(aligned, indent)] if aligned else []
    return list(_parted(groups))


def _parted(groups: Sequence[list[str]]) -> Iterator[str]:
    for index, group in enumerate(groups):
        if index:
            yield ""
        yield from group


def _blocks(argument: object) -> tuple[Block, ...] | None:
    if isinstance(argument, Block):
        return (argument,)
    if isinstance(argument, tuple) and argument and all(isinstance(each, Block) for each in argument):
        return argument
    return None


def _aligned(pairs: Sequence[tuple[str, str]], indent: str) -> list[str]:
    width = max(len(name) for name, _ in pairs)
    return [f"{indent}{name.ljust(width)} = {value}" for name, value in pairs]


def _value(value: object, indent: str) -> list[str]:
    """The lines of a value; the first one without indentation, as it follows a name."""
    if isinstance(value, Json):
        lines = _value(value.document, indent)
        return (
            [f"jsonencode({lines[0]}", *lines[1:-1], f"{lines[-1]})"]
            if lines[1:]
            else [f"jsonencode({lines[0]})"]
        )
    if isinstance(value, Reference):
        return [value.path]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if value is None:
        return ["null"]
    if isinstance(value, int | float):
        return [str(value)]
    if isinstance(value, str):
        return [quoted(value)]
    if isinstance(value, Mapping):
        return _mapping(value, indent)
    if isinstance(value, Sequence):
        return _sequence(value, indent)
    raise TypeError(f"{type(value).__name__} cannot be written in Terraform's language")


def _mapping(value: Mapping[str, object], indent: str) -> list[str]:
    if not value:
        return ["{}"]
    return ["{", *_body({_key(name): each for name, each in value.items()}, indent + INDENT), f"{indent}}}"]


def _key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) and name not in _KEYWORDS else quoted(name)


def _sequence(value: Sequence[object], indent: str) -> list[str]:
    written = [_value(each, indent + INDENT) for each in value]
    if all(len(lines) == 1 for lines in written):
        line = f"[{', '.join(lines[0] for lines in written)}]"
        if len(indent) + len(line) <= 100:
            return [line]
    return ["[", *_items(written, indent + INDENT), f"{indent}]"]


def _items(written: Sequence[list[str]], indent: str) -> Iterator[str]:
    for lines in written:
        first, *rest = lines
        if not rest:
            yield f"{indent}{first},"
            continue
        yield f"{indent}{first}"
        yield from rest[:-1]
        yield f"{rest[-1]},"
