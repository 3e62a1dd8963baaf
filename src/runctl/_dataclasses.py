"""``dataclass`` as the standard library has it, but for when its methods are written: with the first instance.

The standard library writes and compiles six methods for each frozen dataclass as its module is imported, which takes
20 to 40 times as long as the rest of the class. A command imports hundreds of them and makes instances of a few.
From the first instance on, or the first look at the fields, it is the standard library's dataclass; type checkers see
no other.

On machines the agent has `runctl.agent.light_dataclasses` in its place. Standard library only, as the agent is.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, **options):
        """As `dataclasses.dataclass`. What is wrong with the fields is told with the first instance, not before."""

        def unwritten(cls):
            if "__init__" in vars(cls) or options.get("slots") or not options.get("init", True):
                return dataclasses.dataclass(**options)(cls)

            def __init__(self, *values, **named):  # noqa: N807 - it becomes the class's
                write()
                cls.__init__(self, *values, **named)

            def __setstate__(self, state):  # noqa: N807 - of one that another process has pickled
                write()
                vars(self).update(state)

            def write():
                with _writing:
                    # Another thread may have done it while this one waited.
                    if vars(cls)["__init__"] is __init__:
                        _write(cls, options, __setstate__)

            cls.__init__ = __init__
            if getattr(cls, "__setstate__", __setstate__).__module__ == __name__:
                cls.__setstate__ = __setstate__
            cls.__dataclass_fields__ = _FieldsToCome(write)
            return cls

        return unwritten if cls is None else unwritten(cls)


_writing = threading.RLock()
"""One for all: to write the methods of a class, those that it inherits from are written first."""


def _write(cls: Any, options: dict[str, Any], stand_in: Any) -> None:
    """Have the standard library write the methods. ``__init__`` comes last and at once: other threads wait in the one
    that there was until all the others are there. Where Ctrl-C, or a wrong field, gets in between, the class is as it
    was: what the standard library has done by half, it cannot do again."""
    before = dict(vars(cls))
    try:
        dataclasses.dataclass(**{**options, "init": False})(cls)
        place = {
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": "Lends its ``__init__``.",
        }
        heir = type(cls)(cls.__name__, (cls,), place)
        only_init = {**options, "repr": False, "eq": False, "order": False}
        if vars(cls).get("__setstate__") is stand_in:
            del cls.__setstate__
        cls.__init__ = dataclasses.dataclass(**only_init)(heir).__init__
    except BaseException:
        _restore(cls, before)
        raise


def _restore(cls: Any, before: dict[str, Any]) -> None:
    now = dict(vars(cls))
    for name in now.keys() - before.keys():
        delattr(cls, name)
    for name, value in before.items():
        if name not in now or now[name] is not value:
            setattr(cls, name, value)


class _FieldsToCome:
    """Stands where the standard library, and others, look for a dataclass's fields."""

    def __init__(self, write: Callable[[], None]) -> None:
        self._write = write

    def __get__(self, _instance: object, owner: Any) -> Any:
        self._write()
        return owner.__dataclass_fields__
