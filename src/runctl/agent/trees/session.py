"""``sync``: a session about a project's trees with one process, since Python's start takes longer than an answer."""

# Nothing is imported here that the first answer does not need: it is part of every sync, and mostly all of it.

from __future__ import annotations

from runctl.agent.errors import AgentError
from runctl.agent.trees.names import tree_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO


def sync(argv: list[str], source: BinaryIO, sink: BinaryIO, state: str | None = None) -> int:
    """Answer requests until ``source`` ends or a tree has been applied; returns 0, and 1 when it is refused.

    ``argv`` is the project's name and a tree's digest; the first answer is its status. What comes then is a small
    change, `runctl.agent.trees.small_change.answer_change`'s, or
    `runctl.agent.trees.requests.answer_requests`'s.
    """
    project, digest = argv
    try:
        found = tree_status(project, digest, state)
    except AgentError as error:
        from runctl.agent.trees.requests import refusal

        sink.write(refusal(error))
        return 1
    have, current = (b"true" if found[name] else b"false" for name in ("have", "current"))
    sink.write(b'{"ok":{"have":%s,"current":%s}}\n' % (have, current))
    sink.flush()
    # While it is found out on the other side whether anything has changed.
    from runctl.agent.trees.small_change import answer_change

    line = source.readline()
    while line.startswith(b"change "):
        if answer_change(line, project, source, sink, state):
            return 0
        line = source.readline()
    if line:
        from runctl.agent.trees.requests import answer_requests

        answer_requests(line, source, sink, state)
    return 0
