"""The agent of a machine in a preview: what it is asked for is told, and it answers as if it had done it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, BinaryIO, NoReturn

from runctl.core.errors import Unsupported
from runctl.core.journal import Journal
from runctl.core.machine_models import Instance
from runctl.core.progress import SILENT
from runctl.providers.aws.preview.script import Script
from runctl.transport.agent import AgentClient

READS = frozenset({"mounts", "version", "list", "status", "runs"})
DOES: Mapping[str, str] = {
    "attach": "mounts {volume_id} at {mount_point}, now and after a restart, and makes a file system on a blank volume",
    "detach": "writes everything to {volume_id} and unmounts it",
    "freeze": "flushes the file system of {volume_id} and holds it still",
    "thaw": "lets writers to {volume_id} go on",
    "grow": "grows partition and file system of {volume_id}",
}
ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "mounts": {"mounts": []},
    "list": {"attempts": []},
    "runs": {"runs": []},
    "detach": {"was_mounted": True},
    "freeze": {"how": "frozen"},
    "thaw": {"was_frozen": True},
}


class ShownAgent(AgentClient):
    """It reaches no machine."""

    def __init__(self, script: Script, instance: Instance) -> None:
        self._script, self._instance = script, instance
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
        raise Unsupported("what a machine answers cannot be shown: it is not asked")
