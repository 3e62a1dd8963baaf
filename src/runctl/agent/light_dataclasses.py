"""What the agent uses of the standard library's ``dataclasses``, for the packed agent, which imports this in its place.

To import ``dataclasses``, and what it imports, and to have it write and compile the methods of each class takes longer
than all else that a quick verb does. Here a class's methods are closures. The sources have the standard library's own,
which type checkers know; tests hold both against each other.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FIELDS = "__dataclass_fields__"


class _Missing:
    """No default."""


MISSING = _Missing()


class FrozenInstanceError(AttributeError):
    """An attempt to change what is frozen."""


class Field:
    """One field of a class."""

    __slots__ = ("default", "default_factory", "name", "repr")

    def __init__(self, default: Any, default_factory: Any, *, shown: bool) -> None:
        self.name = ""
        self.default = default
        self.default_factory = default_factory
        self.repr = shown


def field(*, default: Any = MISSING, default_factory: Any = MISSING, repr: bool = True) -> Any:  # noqa: A002 (as the other is called)
    """A field that is more than its default."""
    return Field(default, default_factory, shown=repr)


def dataclass(cls: Any = None, *, frozen: bool = False) -> Any:
    """The class with ``__init__``, ``__repr__``, ``__eq__`` and ``__hash__`` by its fields, as far as it has none."""
    return (lambda given: _made(given, frozen)) if cls is None else _made(cls, frozen)


def is_dataclass(value: Any) -> bool:
    """A class of these, or an instance of one."""
    return hasattr(value if isinstance(value, type) else type(value), _FIELDS)


def fields(value: Any) -> tuple[Field, ...]:
    """Of a class or of an instance."""
    return tuple(getattr(value, _FIELDS).values())


def replace(value: Any, /, **changes: Any) -> Any:
    """Another one, with these values in place of the others."""
    for name in getattr(value, _FIELDS):
        if name not in changes:
            changes[name] = getattr(value, name)
    return value.__class__(**changes)


def asdict(value: Any) -> Any:
    """The values by their names, and so what is in them."""
    if is_dataclass(value):
        return {name: asdict(getattr(value, name)) for name in getattr(value, _FIELDS)}
    if isinstance(value, dict):
        return {asdict(key): asdict(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([asdict(inner) for inner in value])
    return value


def _made(cls: Any, frozen: bool) -> Any:
    found: dict[str, Field] = {}
    for base in cls.__mro__[:0:-1]:
        found.update(base.__dict__.get(_FIELDS, {}))
    for name in _own_annotations(cls):
        default = cls.__dict__.get(name, MISSING)
        if isinstance(default, Field):
            one = default
            if one.default is MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, one.default)
        else:
            one = Field(default, MISSING, shown=True)
        one.name = name
        found[name] = one
    setattr(cls, _FIELDS, found)
    methods: dict[str, Any] = {
        "__init__": _init(cls.__qualname__, found),
        "__repr__": _repr([name for name, one in found.items() if one.repr]),
        "__eq__": _eq(tuple(found)),
    }
    if frozen:
        methods.update(
            __setattr__=_refuse(cls, found, "assign to"), __delattr__=_refuse(cls, found, "delete")
        )
    if "__eq__" not in cls.__dict__ and "__hash__" not in cls.__dict__:
        methods["__hash__"] = _hash(tuple(found)) if frozen else None
    for name, method in methods.items():
        if name not in cls.__dict__:
            setattr(cls, name, method)
    return cls


def _own_annotations(cls: Any) -> Any:
    """Names and what is written of them, without those of its bases."""
    if sys.version_info < (3, 10):
        return cls.__dict__.get("__annotations__", {})  # noqa: RUF063 (this Python's way)
    return cls.__annotations__


def _init(title: str, found: dict[str, Field]) -> Callable[..., None]:
    names = tuple(found)

    def initialize(self: Any, *args: Any, **kwargs: Any) -> None:
        # By this way, frozen ones get their values too.
        values = self.__dict__
        if len(args) > len(names):
            raise TypeError(f"{title}() takes {len(names)} arguments but {len(args)} were given")
        values.update(zip(names, args))
        for name in kwargs:
            if name not in found:
                raise TypeError(f"{title}() got an unexpected keyword argument {name!r}")
            if name in values:
                raise TypeError(f"{title}() got multiple values for argument {name!r}")
        values.update(kwargs)
        if len(values) < len(names):
            for name, one in found.items():
                if name in values:
                    continue
                if one.default_factory is not MISSING:
                    values[name] = one.default_factory()
                elif one.default is not MISSING:
                    values[name] = one.default
                else:
                    raise TypeError(f"{title}() missing a required argument: {name!r}")

    return initialize


def _repr(names: list[str]) -> Callable[[Any], str]:
    def show(self: Any) -> str:
        shown = ", ".join([f"{name}={getattr(self, name)!r}" for name in names])
        return f"{self.__class__.__qualname__}({shown})"

    return show


def _eq(names: tuple[str, ...]) -> Callable[[Any, Any], Any]:
    def compare(self: Any, other: Any) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return [getattr(self, name) for name in names] == [getattr(other, name) for name in names]

    return compare


def _hash(names: tuple[str, ...]) -> Callable[[Any], int]:
    def digest(self: Any) -> int:
        return hash(tuple([getattr(self, name) for name in names]))

    return digest


def _refuse(cls: Any, found: dict[str, Field], what: str) -> Callable[..., None]:
    method = "__setattr__" if what == "assign to" else "__delattr__"

    def refuse(self: Any, name: str, *value: Any) -> None:
        if type(self) is cls or name in found:
            raise FrozenInstanceError(f"cannot {what} field {name!r}")
        getattr(super(cls, self), method)(name, *value)

    return refuse
