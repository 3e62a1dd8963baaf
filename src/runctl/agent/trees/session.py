"""``sync``: a talk about a project's trees with one process, since Python's start takes longer than an answer."""

# Nothing is imported here that a look does not need: it is part of every sync, and mostly all of it.

from __future__ import annotations

from runctl.agent.errors import AgentError
from runctl.agent.trees.look import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO


def sync(words: list[str], source: BinaryIO, sink: BinaryIO, state: str | None = None) -> int:
    """Talk until ``source`` ends or a tree has been applied; returns 0, and 1 when it is refused.

    ``words`` are the project's name and a tree's digest; the first answer is that of a look at it. What comes then
    is `runctl.agent.trees.talk.talk`'s.
    """
    project, digest = words
    try:
        found = look(project, digest, state)
    except AgentError as error:
        from runctl.agent.trees.talk import refusal

        sink.write(refusal(error))
        return 1
    have, current = (b"true" if found[name] else b"false" for name in ("have", "current"))
    sink.write(b'{"ok":{"have":%s,"current":%s}}\n' % (have, current))
    sink.flush()
    line = source.readline()
    if line:
        from runctl.agent.trees.talk import talk

        talk(line, project, digest, source, sink, state)
    return 0
