"""The dataclasses of this package: the standard library's, written with the first instance."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import pickle
import pkgutil
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from dataclasses import field
from types import FrameType
from typing import Any, Generic, TypeVar

import msgspec
import pytest

import runctl
from runctl._dataclasses import dataclass
from runctl.core.journal import Change, Effect

T = TypeVar("T")


def test_every_dataclass_of_the_package_can_be_written() -> None:
    written = 0
    for module in pkgutil.walk_packages(runctl.__path__, "runctl."):
        if module.name.endswith("__main__") or module.name.startswith("runctl.callbacks."):
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and kind.__module__ == module.name and dataclasses.is_dataclass(kind):
                names = [each.name for each in dataclasses.fields(kind)]
                assert list(dict.fromkeys(names)) == names
                written += 1
    assert written > 500


def test_a_module_that_is_imported_has_no_method_written() -> None:
    code = (
        "import dataclasses; from runctl.core import run_models as models; "
        "written = {n for n in ('__eq__', '__repr__', '__setattr__') if n in vars(models.RunAttempt)}; "
        "assert not written, written; dataclasses.fields(models.RunAttempt); "
        "assert '__eq__' in vars(models.RunAttempt)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def a_pair() -> tuple[Any, Any]:
    """The same class, made here and by the standard library."""
    kinds = []
    for decorate in (dataclass, dataclasses.dataclass):

        @decorate(frozen=True)
        class Volume:
            """Has something of everything."""

            name: str
            size_gib: int = 8
            tags: dict[str, str] = field(default_factory=dict, compare=False)
            kept: str = field(default="yes", repr=False)
            at: int = field(init=False, default=3)

            def __post_init__(self) -> None:
                if self.size_gib < 0:
                    raise ValueError("too small")

        kinds.append(Volume)
    return kinds[0], kinds[1]


def test_it_is_what_the_standard_library_makes() -> None:
    ours, theirs = a_pair()
    one, other = ours("a", tags={"b": "c"}), theirs("a", tags={"b": "c"})

    assert repr(one) == repr(other)
    assert hash(one) == hash(other)
    assert one == ours("a") != ours("b")
    assert dataclasses.asdict(one) == dataclasses.asdict(other)
    assert dataclasses.replace(one, size_gib=9) == ours("a", 9)
    assert ours.__match_args__ == theirs.__match_args__
    assert ours.kept == theirs.kept and not hasattr(ours, "tags")
    assert set(vars(ours)) == set(vars(theirs))
    assert ours.__init__.__qualname__ == theirs.__init__.__qualname__
    assert [repr(each) for each in dataclasses.fields(ours)] == [
        repr(each) for each in dataclasses.fields(theirs)
    ]
    assert copy.deepcopy(one) == one


@pytest.mark.parametrize("act", [lambda it: setattr(it, "name", "b"), lambda it: delattr(it, "name")])
def test_a_frozen_one_is_frozen_from_the_first_instance_on(act: Any) -> None:
    ours, _theirs = a_pair()
    with pytest.raises(dataclasses.FrozenInstanceError):
        act(ours("a"))


def test_the_first_instance_is_checked_as_every_other() -> None:
    ours, theirs = a_pair()
    with pytest.raises(ValueError, match="too small"):
        ours("a", -1)
    for wrong in ({}, {"name": "a", "color": "red"}):
        with pytest.raises(TypeError) as from_ours:
            ours(**wrong)
        with pytest.raises(TypeError) as from_theirs:
            theirs(**wrong)
        assert str(from_ours.value) == str(from_theirs.value)


def test_the_fields_are_known_before_the_first_instance() -> None:
    for look in (dataclasses.fields, dataclasses.is_dataclass, lambda kind: kind.__dataclass_fields__):
        ours, _theirs = a_pair()
        assert look(ours)
        assert "__eq__" in vars(ours)


def test_msgspec_reads_one_that_has_no_instance_yet() -> None:
    ours, _theirs = a_pair()
    assert msgspec.json.decode(b'{"name":"a","size_gib":9}', type=ours) == ours("a", 9)


@dataclass(frozen=True)
class Base:
    """Is inherited from."""

    first: int


@dataclass(frozen=True)
class Heir(Base):
    """Has a field more."""

    second: int = 2


class Plain(Heir):
    """No dataclass itself."""

    def __init__(self, number: int) -> None:
        super().__init__(number, second=number)


def test_heirs_have_all_fields_whoever_is_first() -> None:
    assert repr(Plain(5)) == "Plain(first=5, second=5)"
    assert Heir(1) == Heir(1, 2) != Base(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Plain(5).first = 1  # type: ignore[misc]


def test_an_heir_that_was_pickled_is_whole_before_there_is_another() -> None:
    @dataclass
    class Ours:
        a: int

    @dataclass
    class More(Ours):
        b: int = 2

    kept = object.__new__(More)
    kept.__setstate__({"a": 1, "b": 3})  # type: ignore[attr-defined]
    assert repr(kept).endswith("More(a=1, b=3)")
    assert kept == More(1, 3) != Ours(1)


def test_one_of_the_standard_library_may_inherit() -> None:
    @dataclass
    class Ours:
        a: int

    @dataclasses.dataclass
    class Theirs(Ours):
        b: int = field(default=3)

    assert repr(Theirs(1)).endswith("Theirs(a=1, b=3)")
    assert repr(Ours(1)).endswith("Ours(a=1)")


def test_abstract_and_generic_ones_stay_so() -> None:
    @dataclass(frozen=True)
    class Box(ABC, Generic[T]):
        inside: T

        @abstractmethod
        def open(self) -> T: ...

    class Open(Box[int]):
        def open(self) -> int:
            return self.inside

    with pytest.raises(TypeError, match="abstract"):
        Box(1)  # type: ignore[abstract]
    assert Open(4).open() == 4


def test_own_methods_and_the_order_are_respected() -> None:
    @dataclass(order=True)
    class Ordered:
        at: int

        def __repr__(self) -> str:
            return f"<{self.at}>"

    @dataclass
    class Written:
        at: int

        def __init__(self) -> None:
            self.at = 7

    assert sorted([Ordered(2), Ordered(1)]) == [Ordered(1), Ordered(2)]
    assert repr(Ordered(2)) == "<2>"
    assert Written() == Written() and Written().at == 7
    with pytest.raises(TypeError, match="unhashable"):
        hash(Ordered(1))


def test_one_that_was_pickled_is_whole_in_a_process_that_has_made_none() -> None:
    assert pickle.loads(pickle.dumps(Heir(1))) == Heir(1)
    code = "import pickle, sys; one, other = pickle.load(sys.stdin.buffer); print(one, one == other)"
    change = Change("volume", ("vol-1",), Effect.GONE, "volume vol-1 is deleted")
    pair = pickle.dumps((change, dataclasses.replace(change)))
    done = subprocess.run([sys.executable, "-c", code], input=pair, capture_output=True, check=True)
    assert done.stdout.decode().strip() == f"{change} True"


def test_threads_that_make_the_first_instance_at_once_all_get_one() -> None:
    threads = 8
    for _ in range(25):
        ours, _theirs = a_pair()
        gate = threading.Barrier(threads)
        made: list[Any] = []

        def make(kind: Any = ours, gate: threading.Barrier = gate, made: list[Any] = made) -> None:
            gate.wait()
            made.append(kind("a", 1))

        started = [threading.Thread(target=make) for _ in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        assert made == [ours("a", 1)] * threads


WRITERS = {"dataclasses", "runctl._dataclasses"}


def interrupted_at(event: int, act: Any) -> bool:
    """Whether Ctrl-C came: at so many lines of Python from the beginning of what is done."""
    left = event

    def trace(frame: FrameType, what: str, _value: object) -> Any:
        nonlocal left
        # Not in what the collector of garbage calls: whatever is raised there is lost.
        left -= what == "line" and frame.f_globals.get("__name__") in WRITERS
        if left == 0:
            left = -1
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_ctrl_c_while_the_methods_are_written_leaves_them_to_be_written() -> None:
    event = 1
    while True:
        ours, theirs = a_pair()
        came = interrupted_at(event, lambda kind=ours: kind("a"))
        assert repr(ours("a", tags={"b": "c"})) == repr(theirs("a", tags={"b": "c"}))
        assert hash(ours("a")) == hash(theirs("a"))
        assert set(vars(ours)) == set(vars(theirs))
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
            ours()
        if not came:
            break
        event += 1
    assert event > 200


def test_a_wrong_field_is_told_each_time() -> None:
    @dataclass
    class Wrong:
        first: int = 1
        second: str  # type: ignore[misc]

    for _ in range(2):
        with pytest.raises(TypeError, match="non-default argument 'second' follows default argument"):
            Wrong(1, "x")
