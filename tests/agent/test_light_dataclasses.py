"""The packed agent's dataclasses are as the standard library's, in all that the agent uses of these."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from runctl.agent import light_dataclasses, package

SOURCES = Path(package.__file__).parent
OFFERED = {"MISSING", "asdict", "dataclass", "field", "fields", "is_dataclass", "replace"}


def declared(by: Any) -> SimpleNamespace:
    """Classes of every kind that the agent has."""

    @by.dataclass(frozen=True)
    class Point:
        x: int
        y: int = 2
        among: Mapping[str, int] = by.field(default_factory=dict)
        secret: str = by.field(default="", repr=False)

        @property
        def total(self) -> int:
            return self.x + self.y

    @by.dataclass(frozen=True)
    class Placed(Point):
        z: tuple[int, ...] = ()
        y: int = 5

    @by.dataclass
    class Counter:
        """Says."""

        count: int = 0
        points: list[Any] = by.field(default_factory=list)

    @by.dataclass(frozen=True)
    class Own:
        """Has methods of its own."""

        name: str

        def __repr__(self) -> str:
            return f"<{self.name}>"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own) and self.name.lower() == other.name.lower()

        def __hash__(self) -> int:
            return 7

    return SimpleNamespace(Point=Point, Placed=Placed, Counter=Counter, Own=Own)


def outcome(by: Any, ask: Callable[[Any, Any], Any]) -> Any:
    """What comes of it, or the kind of error."""
    try:
        return ask(declared(by), by)
    except (TypeError, AttributeError) as error:
        return type(error).__mro__[-4].__name__, type(error).__name__


@pytest.mark.parametrize(
    "ask",
    [
        lambda of, _: repr([of.Point(1), of.Point(1, 3, {"a": 1}, "hidden"), of.Placed(x=1, z=(2,))]),
        lambda of, _: repr([of.Counter(), of.Counter(3, [1]), of.Own("a")]),
        lambda of, _: (
            of.Point(1).total,
            of.Point.y,
            of.Placed.y,
            of.Placed(4).y,
            of.Placed(1, 2, {}, "", (3,)).z,
        ),
        lambda of, _: hasattr(of.Point, "among"),
        lambda of, _: of.Counter().points is of.Counter().points,
        lambda of, _: (of.Point(1) == of.Point(x=1, y=2), of.Point(1) == of.Point(2), of.Point(1) == 1),
        lambda of, _: (
            of.Point(1) == of.Placed(1, 2),
            of.Placed(1) == of.Placed(1),
            of.Point(1) != of.Point(1, 3),
        ),
        lambda of, _: (of.Own("a") == of.Own("A"), hash(of.Own("a")), of.Counter(1) == of.Counter(1)),
        lambda of, _: {of.Placed(1, among=()), of.Placed(1, among=())} == {of.Placed(x=1, among=())},
        lambda of, _: hash(of.Point(1, among=(), secret="s")) == hash((1, 2, (), "s")),
        lambda of, _: hash(of.Counter()),
        lambda of, _: hash(of.Point(1)),
        lambda of, _: of.Point(),
        lambda of, _: of.Point(1, 2, {}, "", 5),
        lambda of, _: of.Point(1, x=1),
        lambda of, _: of.Point(1, no=1),
        lambda of, _: setattr(of.Point(1), "x", 2),
        lambda of, _: setattr(of.Point(1), "new", 2),
        lambda of, _: setattr(of.Placed(1), "x", 2),
        lambda of, _: delattr(of.Point(1), "x"),
        lambda of, _: of.Counter().__setattr__("count", 4),
        lambda of, by: repr(by.replace(of.Placed(1, z=(1,)), x=3)),
        lambda of, by: by.replace(of.Point(1), no=1),
        lambda of, by: [(each.name, each.default is by.MISSING) for each in by.fields(of.Placed)],
        lambda of, by: [each.default_factory is by.MISSING for each in by.fields(of.Placed(1))],
        lambda of, by: by.asdict(of.Counter(1, [of.Point(1, among={"a": 2}), (of.Placed(2),)])),
        lambda of, by: [by.is_dataclass(each) for each in (of.Point, of.Point(1), of.Own("a"), 1, int)],
    ],
)
def test_whatever_is_asked_of_them_comes_to_the_same(ask: Callable[[Any, Any], Any]) -> None:
    assert outcome(light_dataclasses, ask) == outcome(dataclasses, ask)


@pytest.mark.parametrize("by", [dataclasses, light_dataclasses], ids=lambda by: str(by.__name__))
def test_what_is_frozen_says_so(by: ModuleType) -> None:
    with pytest.raises(AttributeError, match="cannot assign to field 'x'"):
        declared(by).Point(1).x = 2
    with pytest.raises(by.FrozenInstanceError, match="cannot delete field 'x'"):
        del declared(by).Point(1).x


def test_the_agent_uses_no_more_of_dataclasses_than_that() -> None:
    seen = set()
    for path in sorted(SOURCES.rglob("*.py")):
        if path.name == "light_dataclasses.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.ImportFrom(module="dataclasses" | "runctl._dataclasses", names=imported):
                    assert all(item.asname is None for item in imported), path
                    seen |= {item.name for item in imported}
                case ast.Attribute(value=ast.Name(id="dataclasses"), attr=name):
                    seen.add(name)
                case ast.Call(func=ast.Name(id="dataclass"), keywords=words):
                    assert {word.arg for word in words} == {"frozen"}, f"{path}:{node.lineno}"
                case ast.Call(func=ast.Name(id="field"), keywords=words):
                    assert {word.arg for word in words} <= {"default", "default_factory", "repr"}, path
                case ast.ClassDef(decorator_list=[_, *_], body=body):
                    own = {item.name for item in body if isinstance(item, ast.FunctionDef)}
                    assert not own & {"__post_init__", "__init__", "__setattr__"}, f"{path}:{node.lineno}"
                    written = [
                        ast.unparse(item.annotation) for item in body if isinstance(item, ast.AnnAssign)
                    ]
                    assert not [text for text in written if "ClassVar" in text or "InitVar" in text], path
    assert seen == OFFERED


def test_the_packed_agent_has_them_in_each_place() -> None:
    source = (
        "import os\nimport dataclasses\nfrom runctl._dataclasses import dataclass\n"
        "if 1:\n    from dataclasses import field, fields\nx = 'import dataclasses'"
    )
    assert package.with_light_dataclasses(source).splitlines() == [
        "import os",
        "import runctl.agent.light_dataclasses as dataclasses",
        "from runctl.agent.light_dataclasses import dataclass",
        "if 1:",
        "    from runctl.agent.light_dataclasses import field, fields",
        "x = 'import dataclasses'",
    ]
