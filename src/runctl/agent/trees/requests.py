"""What a sync asks once it is clear that something has changed, and what it is answered."""

from __future__ import annotations

import gc
import json
from typing import Any, BinaryIO, Mapping

from runctl.agent.errors import AgentError, unexpected
from runctl.agent.request import checked
from runctl.agent.trees import verbs as trees


def answer_requests(line: bytes, source: BinaryIO, sink: BinaryIO, state: str | None = None) -> None:
    """Answer ``line`` and the lines of ``source``, until it ends or a tree has been applied.

    Each is a JSON object. ``do`` says what is wanted, the rest is as `runctl.agent.trees.verbs` has it: ``manifest``,
    and ``apply``, whose pack is the ``pack_bytes`` bytes behind the line. The answer is a line, ``{"ok"}`` or
    ``{"error"}``.
    """
    # A short life in which nothing makes cycles: looking for them takes as long as reading a manifest.
    gc.disable()
    while line:
        pack = Pack(source, 0)
        try:
            request = _object(line)
            pack = Pack(source, int(request.get("pack_bytes") or 0))
            answer = {"ok": _answer(request, pack, state)}
        except AgentError as error:
            answer = {"error": error.to_json()}
        except Exception as error:  # noqa: BLE001 (whatever it is, the other side gets JSON)
            answer = {"error": unexpected("sync", error)}
        sink.write(_line(answer))
        sink.flush()
        if answer.get("ok", {}).get("applied"):
            return
        pack.skip()
        line = source.readline()


def refusal(error: AgentError) -> bytes:
    """The answer that it is."""
    return _line({"error": error.to_json()})


class Pack:
    """The bytes behind a request, which end where the next one begins."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        self._source = source
        self._left = size

    def read(self, size: int) -> bytes:
        """The next bytes, at most ``size``."""
        data = self._source.read(min(size, self._left))
        self._left -= len(data)
        return data

    def skip(self) -> None:
        """Nothing of it is left."""
        while self.read(1 << 20):
            pass


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AgentError("bad-request", "the request is not JSON: {}".format(error)) from error
    return checked(request)


def _answer(
    request: Mapping[str, Any],
    pack: Any,
    state: str | None,
) -> dict[str, Any]:
    verb = request.get("do")
    if verb == "manifest":
        return trees.manifest(request, state)
    if verb == "apply":
        whole = {**request, "pack_follows": "pack_bytes" in request}
        return trees.apply(whole, pack, state)
    raise AgentError("bad-request", "a sync cannot {!r}: it has manifest, apply".format(verb))


def _line(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"
