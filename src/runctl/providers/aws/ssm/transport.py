"""Commands and bytes through EC2 Systems Manager: no open port, no key; in pieces of 24,000 characters."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any, BinaryIO, ClassVar

from runctl.core.clock import Clock
from runctl.core.errors import MachineError, RunctlError, Unreachable, Unsupported
from runctl.core.progress import SILENT, Progress
from runctl.core.text import time_span
from runctl.providers.aws.settings import AwsTransport
from runctl.providers.aws.ssm.run_command import RemoteError, RunCommand
from runctl.providers.aws.ssm.terminal import terminal
from runctl.transport.commands import sized
from runctl.transport.executing import Executing
from runctl.transport.interface import CommandTimeout
from runctl.transport.pump import CHUNK
from runctl.transport.silence import StillThere, nothing_known
from runctl.transport.staging import Staging

_INLINE = 27_000
"""Bytes of an input, compressed, that go along in the command: 36,000 characters."""
_SLICE = 17_400
"""Bytes of a compressed output that one answer holds: 23,200 characters."""
_FEW_SLICES = 4
"""Up to here slices are quicker than a round trip through the staging store."""
_WITHOUT_STAGING = 4_000_000
"""Up to here the staging store can be done without, at some hundred commands."""
_AT_ONCE = 4
"""The SSM agent works on five commands of an instance at a time unless configured otherwise."""
_WAIT_SECONDS = 20.0
"""How long one command waits for the machine's command before the next one takes over."""
_TRANSFER_SECONDS = 600.0
"""How long the machine may take to fetch an input from the staging store, or to bring an output there."""
_FIRST_POLL_SECONDS = 0.3
"""After which a stream asks again, and is then answered as soon as there is something."""


class SsmTransport(Executing):
    """Run Command. A command goes on under its own supervisor when SSM's agent restarts or we go away.

    What passes is kept in SSM's command history for 30 days, readable with ``ssm:ListCommands`` and
    ``ssm:GetCommandInvocation``. Not in it, when there is a staging store: private inputs and their commands'
    arguments, inputs above some 27 kB (compressed) and outputs above 70 kB. A stream's output comes some seconds after
    it was written; its stdin is read to its end before the command starts.
    """

    name: ClassVar[str] = AwsTransport.SSM.value
    streams: ClassVar[bool] = False

    def __init__(
        self,
        client: Any,
        instance_id: str,
        *,
        user: str,
        staging: Staging | None = None,
        progress: Progress = SILENT,
        still_there: StillThere = nothing_known,
        clock: Clock | None = None,
    ) -> None:
        """``client`` is boto3's ``ssm`` client; ``user`` the machine's login user, as whom commands run.

        Without ``staging`` large inputs and outputs go in many commands. ``still_there`` raises `InstanceEnded` when
        the provider says that the machine has ended; it is asked when the machine is silent.
        """
        self.instance_id = instance_id
        self.user = user
        self._client = client
        self._commands = RunCommand(client, instance_id, still_there=still_there, clock=clock)
        self._staging = staging
        self._progress = progress

    def put(self, data: bytes | BinaryIO, target: PurePosixPath, *, mode: int = 0o644) -> None:
        """``target`` holds exactly these bytes; written beside it and renamed, parents made."""
        command_id = secrets.token_hex(16)
        request = {"id": command_id, "user": self.user, "target": str(target), "mode": mode}
        try:
            with self._input(command_id, data) as described:
                patience = _TRANSFER_SECONDS if "url" in described else 60
                self._commands.ask("put", {**request, "input": described}, wait=patience)
        except RemoteError as error:
            if error.code == "write":
                raise MachineError(f"cannot write {target} on {error.message}") from error
            raise

    def terminal(self, argv: Sequence[str] = ()) -> int:
        """Hand this terminal to a shell (or ``argv``) through Session Manager. Raises `Unsupported` without its
        plug-in."""
        return terminal(self._client, self._commands.call, self.instance_id, self.user, argv)

    def _where(self) -> str:
        return self.instance_id

    def _execute(
        self,
        argv: Sequence[str],
        stdin: BinaryIO | None,
        on_stdout: Callable[[bytes], Any],
        on_stderr: Callable[[bytes], Any],
        *,
        timeout: timedelta | None,
        as_root: bool,
        live: bool,
        private: bool = False,
    ) -> int:
        command_id = secrets.token_hex(16)
        outputs = {"out": _Output(on_stdout), "err": _Output(on_stderr)}
        request = {
            "id": command_id,
            "user": self.user,
            "root": as_root,
            "timeout": timeout.total_seconds() if timeout is not None else None,
            "wait": _FIRST_POLL_SECONDS if live else _WAIT_SECONDS,
        }
        kept = True
        try:
            with sized(stdin or BytesIO()) as (source, _):
                report = self._start(request, argv, source, outputs, private=private)
            while not report["done"]:
                poll = {"id": command_id, "wait": _WAIT_SECONDS}
                report = self._ask_for_report("poll", poll, outputs)
            for name, output in outputs.items():
                if "packed" in report[name]:
                    self._fetch(command_id, name, int(report[name]["packed"]), output)
                if not output.is_exactly(report[name]):
                    raise MachineError(
                        f"{report[name]['size']} bytes were written on {self.instance_id}, "
                        f"{output.size} arrived, or not the same",
                        code="integrity",
                    )
            kept = bool(report["kept"])
        except Unsupported:
            # Too long to be sent: nothing is there.
            kept = False
            raise
        except RemoteError as error:
            if error.code == "lost":
                raise Unreachable(f"{argv[0]} was lost on {self.instance_id}: {error.message}") from error
            raise
        finally:
            if kept:
                self._drop(command_id)
        if report["timed_out"]:
            raise CommandTimeout(
                f"{argv[0]} did not end within {timeout and time_span(timeout)} on {self.instance_id}"
            )
        return int(report["exit"])

    def _start(
        self,
        request: Mapping[str, Any],
        argv: Sequence[str],
        source: BinaryIO,
        outputs: Mapping[str, _Output],
        *,
        private: bool,
    ) -> dict[str, Any]:
        """The first report. What is private leaves neither input nor arguments in the history."""
        command_id = str(request["id"])
        if private and self._staging is not None:
            begin, encoded_argv = source.tell(), json.dumps(list(argv)).encode()
            try:
                with self._input(command_id, source, private=True, head=encoded_argv) as described:
                    hidden = {**request, "argv_bytes": len(encoded_argv), "input": described}
                    return self._ask_for_report("start", hidden, outputs)
            except RemoteError as error:
                if error.code != "staging":
                    raise
                self._progress.detail(error.message)
                source.seek(begin)
        if private:
            self._warn_of_history()
        with self._input(command_id, source) as described:
            return self._ask_for_report("start", {**request, "argv": list(argv), "input": described}, outputs)

    def _ask_for_report(
        self, verb: str, request: Mapping[str, Any], outputs: Mapping[str, _Output]
    ) -> dict[str, Any]:
        offsets = {name: output.size for name, output in outputs.items()}
        # The machine fetches all of its input before it starts anything, and answers then.
        brings_input = "url" in request.get("input", ())
        patience = request["wait"] + (_TRANSFER_SECONDS if brings_input else 0)
        report = self._commands.ask(verb, {**request, **offsets}, wait=patience)
        for name, output in outputs.items():
            if report[name]["data"]:
                output.take(zlib.decompress(base64.b64decode(report[name]["data"])))
        return report

    @contextlib.contextmanager
    def _input(
        self, command_id: str, data: bytes | BinaryIO, *, private: bool = False, head: bytes = b""
    ) -> Iterator[dict[str, Any]]:
        """How the machine gets the bytes, ``head`` first, valid within the block.

        What is ``private`` goes through the staging store whatever its size: the history keeps an address at which
        nothing is any more.
        """
        with sized(data) as (source, size), tempfile.TemporaryFile() as packed:
            digest = _pack(head, source, packed)
            length = packed.tell()
            packed.seek(0)
            described = {"size": len(head) + size, "sha256": digest}
            if length <= _INLINE and not private:
                yield {**described, "data": base64.b64encode(packed.read()).decode()}
            elif self._staging is not None and (
                url := self._stage(self._staging, f"{command_id}/in", packed)
            ):
                try:
                    yield {**described, "url": url}
                finally:
                    self._unstage(f"{command_id}/in")
            else:
                if private:
                    self._warn_of_history()
                self._append(command_id, packed, length)
                yield described

    def _warn_of_history(self) -> None:
        self._progress.warn(
            f"what is sent to {self.instance_id} passes through Systems Manager's command history, which whoever may"
            " call ssm:ListCommands in this account can read for 30 days; --transport ssh, or a bucket in"
            " aws.staging_bucket that the machine can reach, leaves nothing there"
        )

    def _append(self, command_id: str, packed: BinaryIO, length: int) -> None:
        packed.seek(0)
        for at in range(0, length, _INLINE):
            piece = base64.b64encode(packed.read(_INLINE)).decode()
            self._progress.update("sending", done=at, total=length)
            self._commands.ask("append", {"id": command_id, "at": at, "data": piece})

    def _stage(self, staging: Staging, name: str, packed: BinaryIO) -> str | None:
        """The URL at which the machine finds it; ``None`` when the store cannot be used and the piece is small."""
        key = f"{self.instance_id}/{name}"
        try:
            staging.write(key, packed)
            return staging.get_url(key)
        except RunctlError as error:
            if packed.seek(0, os.SEEK_END) > _WITHOUT_STAGING:
                raise
            self._progress.note(f"{error.message}; sending it in pieces instead")
            return None

    def _unstage(self, name: str) -> None:
        try:
            if self._staging is not None:
                self._staging.delete(f"{self.instance_id}/{name}")
        except RunctlError as error:
            # The transfer itself is over; what is left is small and in the user's own store.
            self._progress.detail(f"could not remove {name} from the staging store: {error.message}")

    def _fetch(self, command_id: str, name: str, length: int, output: _Output) -> None:
        """What did not fit into the reports."""
        if self._staging is not None and length > _FEW_SLICES * _SLICE:
            key = f"{self.instance_id}/{command_id}/{name}"
            with tempfile.TemporaryFile() as packed:
                try:
                    url = self._staging.put_url(key)
                    self._commands.ask(
                        "upload", {"id": command_id, "name": name, "url": url}, wait=_TRANSFER_SECONDS
                    )
                    self._staging.read(key, packed)
                except Unreachable:
                    raise
                except RunctlError as error:
                    if length > _WITHOUT_STAGING:
                        raise
                    self._progress.note(f"{error.message}; fetching {length:,} bytes in pieces instead")
                else:
                    packed.seek(0)
                    output.unpack(iter(lambda: packed.read(CHUNK), b""))
                    return
                finally:
                    self._unstage(f"{command_id}/{name}")

        def cut(at: int) -> bytes:
            asked = {"id": command_id, "name": name, "at": at, "length": _SLICE}
            return base64.b64decode(self._commands.ask("cut", asked)["data"])

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            output.unpack(pool.map(cut, range(0, length, _SLICE)))

    def _drop(self, command_id: str) -> None:
        try:
            self._commands.tell("drop", {"id": command_id})
        except RunctlError as error:
            # Whatever happened before matters more; the machine sweeps old spools by itself.
            self._progress.detail(
                f"could not clean up after a command on {self.instance_id}: {error.message}"
            )


class _Output:
    """One output: handed on as it comes, counted and hashed."""

    def __init__(self, sink: Callable[[bytes], Any]) -> None:
        self._sink = sink
        self._digest = hashlib.sha256()
        self.size = 0

    def take(self, data: bytes) -> None:
        self._digest.update(data)
        self.size += len(data)
        self._sink(data)

    def unpack(self, pieces: Iterator[bytes]) -> None:
        unpacker = zlib.decompressobj()
        for piece in pieces:
            data = unpacker.decompress(piece)
            if data:
                self.take(data)
        rest = unpacker.flush()
        if rest:
            self.take(rest)

    def is_exactly(self, described: Mapping[str, Any]) -> bool:
        return (self.size, self._digest.hexdigest()) == (described["size"], described["sha256"])


def _pack(head: bytes, source: BinaryIO, sink: BinaryIO) -> str:
    digest, packer = hashlib.sha256(head), zlib.compressobj(6)
    sink.write(packer.compress(head))
    while data := source.read(CHUNK):
        digest.update(data)
        sink.write(packer.compress(data))
    sink.write(packer.flush())
    return digest.hexdigest()
