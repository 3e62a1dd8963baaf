"""The agent of a machine in a preview: what it is asked for is told, and it answers as if it had done it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NoReturn

from runctl.core.errors import Unsupported
from runctl.core.journal import Journal
from runctl.core.machine_models import Instance
from runctl.core.progress import SILENT
from runctl.providers.aws.preview.script import Script
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Completed, Transport

READS = frozenset({"mounts", "version", "list", "status", "runs"})
DOES: Mapping[str, str] = {
    "attach": "mounts {volume_id} at {mount_point}, now and after a restart, and makes a file system on a blank volume",
    "detach": "writes everything to {volume_id} and unmounts it",
    "freeze": "flushes the file system of {volume_id} and freezes it",
    "thaw": "lets writers to {volume_id} go on",
    "grow": "grows partition and file system of {volume_id}",
}
NOT_ASKED = "what a machine answers cannot be shown: it is not asked"
ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "mounts": {"mounts": []},
    "list": {"attempts": []},
    "runs": {"runs": []},
    "detach": {"was_mounted": True},
    "freeze": {"how": "frozen"},
    "thaw": {"was_frozen": True},
}


class ShownTransport(Transport):
    """It reaches no machine: a command is told, and taken for one that has succeeded without a word."""

    name = "shown"
    streams = False

    def __init__(self, script: Script, instance: Instance) -> None:
        self._script, self._instance = script, instance

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: timedelta | None = None,
        as_root: bool = False,
        private: bool = False,
    ) -> Completed:
        """A comment."""
        del stdin, timeout, private
        by = " as root" if as_root else ""
        self._script.comment(
            f"On {self._instance.id}, over SSH or Systems Manager{by}: {shlex.join(map(str, argv))}"
        )
        return Completed(tuple(argv), 0, b"", b"")

    def stream(self, argv: Sequence[str], **_: Any) -> int:
        """See `run`."""
        return self.run(argv).exit_code

    def put(self, data: bytes | BinaryIO, target: PurePosixPath, *, mode: int = 0o644) -> None:
        """A comment."""
        del data, mode
        self._script.comment(f"To {self._instance.id}, over SSH or Systems Manager, goes {target}.")

    def get(self, *_: Any) -> NoReturn:
        """Nothing comes from a machine that is not asked."""
        raise Unsupported(NOT_ASKED)


class ShownAgent(AgentClient):
    """It reaches no machine."""

    def __init__(self, script: Script, instance: Instance) -> None:
        self._script, self._instance = script, instance
        self.transport = ShownTransport(script, instance)
        self._progress, self.journal = SILENT, Journal()

    def call(
        self,
        verb: str,
        request: Mapping[str, Any],
        *,
        payload: bytes | BinaryIO | None = None,
        timeout: timedelta | None = None,
        private: bool = False,
    ) -> Any:
        """A comment, for what changes something."""
        del payload, timeout, private
        if verb not in READS:
            does = DOES.get(verb, f"is asked to {verb}").format_map({"mount_point": "", **request})
            self._script.comment(
                f"On {self._instance.id}, over SSH or Systems Manager, runctl's agent {does}."
            )
        answer = dict(ANSWERS.get(verb, {}))
        return {**answer, "mount_point": request["mount_point"]} if "mount_point" in request else answer

    def pour(self, *_: Any, **__: Any) -> NoReturn:
        """Nothing comes from a machine that is not asked."""
        raise Unsupported(NOT_ASKED)
