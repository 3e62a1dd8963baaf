"""What docstrings and comments point to in backquotes is there: names of ours have one pair, all other words two."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src"
_POINTED = re.compile(r"(?<![`\w])`(?P<name>[A-Za-z_]\w*(?:\.\w+)*)`(?!`)")
_DEFINED = re.compile(
    r"(?:\bdef|\bclass|\bimport|\bas) (\w+)"  # a function, a class, what is imported
    r"|\b(\w+)(?:: [\w\"'\[]|(?:: [^\n=]+)? ?=(?!=))"  # a field, a parameter, a variable
    r"|\b(\w+)(?=(?:, \w+)+ = )"  # each but the last of several variables
    r"|\"(\w+)\""  # a key, or what is imported when it is first used
)
_TWO_DOCSTRINGS = re.compile(r'^ *"""(?:(?!""").)+("""\n *"""\S[^\n]*)', re.MULTILINE | re.DOTALL)
"""The second would be the docstring of what stands two lines above it."""


@cache
def sources() -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in sorted(SOURCES.rglob("*.py"))}


@cache
def defined() -> frozenset[str]:
    """Every name that something of ours has, or Python itself."""
    names = {
        name for text in sources().values() for found in _DEFINED.findall(text) for name in found if name
    }
    modules = {part for path in sources() for part in path.with_suffix("").parts}
    return frozenset(names | modules | set(dir(builtins)))


def leads_nowhere(name: str) -> bool:
    """Whether no module and nothing in one is called that; a dotted name is followed into its module."""
    first, *_ = parts = name.split(".")
    if not (SOURCES / first).is_dir() and not (len(parts) > 1 and (ROOT / first).is_dir()):
        return not defined().issuperset(parts)
    folder = SOURCES if (SOURCES / first).is_dir() else ROOT
    while parts and (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    if not parts:
        return False
    module = folder / f"{parts[0]}.py"
    if module.is_file():
        parts.pop(0)
    else:
        module = folder / "__init__.py"
    text = module.read_text(encoding="utf-8") if module.is_file() else ""
    names = {name for found in _DEFINED.findall(text) for name in found}
    return not names.issuperset(parts)


def wrong(text: str) -> Iterator[str]:
    yield from (found["name"] for found in _POINTED.finditer(text) if leads_nowhere(found["name"]))
    yield from _TWO_DOCSTRINGS.findall(text)


def test_every_name_in_backquotes_is_there() -> None:
    found = {str(path.relative_to(ROOT)): [*wrong(text)] for path, text in sources().items()}

    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "name",
    [
        "costs.no_such_ledger",
        "runctl.costs.no_such_ledger",
        "runctl.costs.ledger.NoSuchEntry",
        "no_such_name",
    ],
)
def test_a_name_that_is_nowhere_is_found(name: str) -> None:
    assert [*wrong(f'"""See `{name}`, not ``{name}``."""')] == [name]


@pytest.mark.parametrize(
    "name", ["runctl.costs.ledger", "runctl.costs.entries.EntryKind", "ledger", "EntryKind"]
)
def test_a_name_that_is_there_is_followed(name: str) -> None:
    assert [*wrong(f"# See `{name}`.")] == []


def test_a_docstring_behind_another_names_docstring_is_found() -> None:
    assert [*wrong('A = 1\n"""Of A."""\n"""Of what?"""\n')] == ['"""\n"""Of what?"""']
