"""The drawings in docs/architecture.md are what the imports are."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "runctl"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
_TRIP = re.compile(r"^### (?P<title>.+)\n(?P<body>(?:(?!^#).*\n)*)", re.MULTILINE)
_STOP = re.compile(r"^\d+\. `(?P<file>[\w/.]+\.py)`: \S", re.MULTILINE)
_ELSEWHERE = re.compile(r"^(On .+):$", re.MULTILINE)
"""What comes before the list of whoever goes on with it."""
_NUMBERED = re.compile(r"^\d+\. ", re.MULTILINE)
_FOLDER = re.compile(r"^ {2}(?P<name>[a-z_]+)/ ", re.MULTILINE)


def trips() -> list[tuple[str, tuple[str, ...]]]:
    """Each list of files that one thing passes, with its title; a trip has one for each program that it passes."""
    found = []
    for trip in _TRIP.finditer(PAGE):
        legs = ["Here", *_ELSEWHERE.split(trip["body"])]
        for where, leg in zip(legs[::2], legs[1::2], strict=True):
            stops = tuple(stop["file"] for stop in _STOP.finditer(leg))
            if stops:
                found.append((f"{trip['title']}: {where}", stops))
    return found


@cache
def imported(file: str) -> frozenset[str]:
    """The files that this one imports, wherever in it; the agent's verbs name theirs in a table."""
    found = set()
    for node in ast.walk(ast.parse((SOURCES / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif file == "agent/__main__.py" and isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(f"runctl.agent.{node.value}")
    paths = {name.removeprefix("runctl.").replace(".", "/") for name in found if name.startswith("runctl.")}
    names = {name for path in paths for name in (f"{path}.py", f"{path}/__init__.py")}
    return frozenset(name for name in names if (SOURCES / name).is_file())


@cache
def layers() -> dict[str, int]:
    """How low each room stands, by the contract that ``scripts/lint`` holds."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (rows,) = [contract["layers"] for contract in contracts["contracts"] if contract["id"] == "downwards"]
    return {room: number for number, row in enumerate(rows) for room in row.replace(" ", "").split("|")}


def room(file: str) -> str:
    """The room of a file."""
    return file.partition("/")[0]


def mistakes(stops: tuple[str, ...]) -> list[str]:
    """What is not true of a trip that is drawn so."""
    missing = [f"there is no {file}" for file in stops if not (SOURCES / file).is_file()]
    if missing:
        return missing
    found = [f"{file} is entered {stops.count(file)} times" for file in stops if stops.count(file) > 1]
    rooms = [name for name, _ in groupby(stops, room)]
    found += [f"{name} is left and entered again" for name in rooms if rooms.count(name) > 1]
    for number, file in enumerate(stops[1:], start=1):
        if not any(file in imported(earlier) for earlier in stops[:number]):
            found.append(f"nothing before it imports {file}")
        if layers()[room(file)] < layers()[room(stops[number - 1])]:
            found.append(f"{file} stands above {stops[number - 1]}")
    return found


def test_each_trip_has_a_list_that_can_be_read() -> None:
    drawn = [trip for trip in _TRIP.finditer(PAGE) if _NUMBERED.search(trip["body"])]

    assert len(drawn) >= 4
    for trip in drawn:
        assert len(_STOP.findall(trip["body"])) == len(_NUMBERED.findall(trip["body"])), trip["title"]


@pytest.mark.parametrize(("title", "stops"), trips(), ids=[title for title, _ in trips()])
def test_what_is_drawn_passes_from_room_to_room_downwards_by_imports(
    title: str, stops: tuple[str, ...]
) -> None:
    assert mistakes(stops) == [], title


@pytest.mark.parametrize(
    ("stops", "mistake"),
    [
        (("runs/train/start.py", "runs/gone.py"), "there is no runs/gone.py"),
        (("runs/train/plan.py", "cli/train/command.py"), "nothing before it imports cli/train/command.py"),
        (
            ("runs/train/training.py", "agent/spec.py", "runs/train/start.py"),
            "runs is left and entered again",
        ),
        (
            ("runs/train/training.py", "agent/spec.py", "runs/train/start.py"),
            "runs/train/start.py stands above agent/spec.py",
        ),
        (
            ("runs/train/training.py", "runs/train/start.py", "runs/train/start.py"),
            "runs/train/start.py is entered 2 times",
        ),
    ],
)
def test_a_drawing_that_is_not_true_is_noticed(stops: tuple[str, ...], mistake: str) -> None:
    assert mistake in mistakes(stops)


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`([\w/.-]+/[\w.-]+\.(?:py|md|c))`", PAGE))
    gone = {name for name in named if not (SOURCES / name).is_file() and not (ROOT / name).is_file()}

    assert len(named) > 80
    assert gone == set()


def test_every_folder_that_is_named_is_there() -> None:
    named = set(re.findall(r"`([\w/-]+/)`", PAGE))
    gone = {name for name in named if not any((at / name).is_dir() for at in (SOURCES, SOURCES / "agent"))}

    assert gone == {"providers/NAME/"}


def test_every_watcher_is_named() -> None:
    modules = {path.stem for path in (SOURCES / "agent/attempt/watchers").glob("*.py")} - {
        "__init__",
        "interface",
    }

    assert {name for name in modules if f"`{name}`" not in PAGE} == set()


def test_every_room_is_drawn() -> None:
    drawn = {folder["name"] for folder in _FOLDER.finditer(PAGE.partition("```")[2].partition("```")[0])}
    rooms = {folder.parent.name for folder in SOURCES.glob("*/__init__.py")}

    assert rooms == drawn
