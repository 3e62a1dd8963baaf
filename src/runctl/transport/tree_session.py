"""A session with the agent about a project's trees: one command on the machine for a whole sync."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, BinaryIO, Protocol, Self

from runctl.transport.answers import answered, failed, mapping
from runctl.transport.interface import Completed

_CHUNK = 1 << 18


class TreeSession(Protocol):
    """What can be asked about a project's trees, within the context. Raises as `Transport` does."""

    def __enter__(self) -> Self:
        """The first question is on its way, if there is one."""
        ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The machine has nothing left to do for it."""
        ...

    def status(self) -> Mapping[str, Any]:
        """What `runctl.agent.trees.names.tree_status` says of the tree that it began with."""
        ...

    def change(self, digest: str, record: bytes, pack: bytes) -> Mapping[str, Any]:
        """What `runctl.agent.trees.small_change.change` makes of it, and ``applied``: if that is true, it is over."""
        ...

    def manifest(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """What `runctl.agent.trees.verbs.manifest` answers."""
        ...

    def apply(
        self, request: Mapping[str, Any], pack: bytes | BinaryIO | None = None, size: int = 0
    ) -> Mapping[str, Any]:
        """What `runctl.agent.trees.verbs.apply` answers; ``pack`` has ``size`` bytes. Then it is over."""
        ...


class StreamedTreeSession:
    """With the agent's `runctl.agent.trees.session.sync`, over a transport that streams.

    The first question is answered while the caller does something else: by the time of the next one Python has started
    on the machine.
    """

    def __init__(
        self,
        converse: Callable[[BinaryIO, Callable[[bytes], None]], Completed],
        installed: Callable[[Callable[[], Completed]], Completed],
    ) -> None:
        """``converse`` runs the verb with this stdin and hands over what it prints.

        ``installed`` calls what it is given, and again when the agent was not there and is now.
        """
        self._converse = converse
        self._installed = installed
        self._answers: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
        self._rest = b""
        self._over: BaseException | None = None
        self._status: Mapping[str, Any] | None = None
        self._lock = threading.Lock()
        self._writer: int | None = None
        self._left = False
        self._thread = threading.Thread(target=self._run, name="runctl-sync", daemon=True)

    def __enter__(self) -> Self:
        """The first question is on its way."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The command on the machine has ended; after its last answer it only has to end, and is not waited for."""
        with self._lock:
            self._left = True
            self._close()
        if kind is not None or self._status is None:
            self._thread.join()

    def status(self) -> Mapping[str, Any]:
        """What it began with."""
        if self._status is None:
            self._status = self._answer()
        return self._status

    def change(self, digest: str, record: bytes, pack: bytes) -> Mapping[str, Any]:
        """See `TreeSession`."""
        self.status()
        self._send(b"change %s %d %d\n" % (digest.encode(), len(record), len(pack)) + record + pack)
        return self._answer()

    def manifest(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `TreeSession`."""
        self.status()
        self._send(_line(request, "manifest"))
        return self._answer()

    def apply(
        self, request: Mapping[str, Any], pack: bytes | BinaryIO | None = None, size: int = 0
    ) -> Mapping[str, Any]:
        """See `TreeSession`."""
        self.status()
        follows = {} if pack is None else {"pack_bytes": size}
        self._send(_line({**request, **follows}, "apply"))
        source = BytesIO(pack) if isinstance(pack, bytes) else pack
        while source is not None and (data := source.read(_CHUNK)):
            self._send(data)
        return self._answer()

    def _answer(self) -> Mapping[str, Any]:
        found = self._over or self._answers.get()
        if isinstance(found, BaseException):
            self._over = found
            raise found
        return mapping(answered("sync", Completed(("sync",), 0, found, b"")))

    def _send(self, data: bytes) -> None:
        assert self._writer is not None  # noqa: S101 - there has been an answer
        view = memoryview(data)
        # Where nobody reads any more, the answer says why.
        with contextlib.suppress(BrokenPipeError):
            while view:
                view = view[os.write(self._writer, view) :]

    def _run(self) -> None:
        try:
            self._answers.put(failed("sync", self._installed(self._once)))
        except BaseException as error:  # noqa: BLE001 - raised where an answer is waited for
            self._answers.put(error)

    def _once(self) -> Completed:
        """Nothing is sent before the first answer, so that it can begin anew until then."""
        reader, writer = os.pipe()
        with open(reader, "rb", buffering=0) as source:  # noqa: PTH123 - a descriptor
            with self._lock:
                self._close()
                self._writer = writer
                if self._left:
                    self._close()
            return self._converse(source, self._take)

    def _close(self) -> None:
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._answers.put(line)


class PolledTreeSession:
    """The same over a transport that does not stream: a command for every question."""

    def __init__(self, call: Callable[..., Any], first: Mapping[str, Any]) -> None:
        """``call`` is `runctl.transport.agent.AgentClient.call`."""
        self._call = call
        self._first = first
        self._answers: queue.SimpleQueue[Mapping[str, Any] | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._ask_status, name="runctl-sync", daemon=True)

    def __enter__(self) -> Self:
        """The first question is on its way, if there is one."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Nothing of it runs any more."""
        self._thread.join()

    def status(self) -> Mapping[str, Any]:
        """See `TreeSession`; called once."""
        found = self._answers.get()
        self._answers.put(found)
        if isinstance(found, BaseException):
            raise found
        return found

    def change(self, digest: str, record: bytes, pack: bytes) -> Mapping[str, Any]:
        """See `TreeSession`; a question that costs a command of its own is not asked where it may be in vain."""
        del digest, record, pack
        return {"applied": False}

    def manifest(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `TreeSession`."""
        return mapping(self._call("manifest", request))

    def apply(
        self, request: Mapping[str, Any], pack: bytes | BinaryIO | None = None, size: int = 0
    ) -> Mapping[str, Any]:
        """See `TreeSession`."""
        del size
        follows = {} if pack is None else {"pack_follows": True}
        return mapping(self._call("apply", {**request, **follows}, payload=pack))

    def _ask_status(self) -> None:
        try:
            nothing = {"have": False, "current": False}
            asked = self._first["digest"] is not None
            self._answers.put(
                mapping(self._call("manifest", {**self._first, "status_only": True})) if asked else nothing
            )
        except BaseException as error:  # noqa: BLE001 - raised where the answer is waited for
            self._answers.put(error)


def _line(request: Mapping[str, Any], verb: str) -> bytes:
    return json.dumps({**request, "do": verb}, separators=(",", ":")).encode() + b"\n"
