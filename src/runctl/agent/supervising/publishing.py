"""The supervisor's side of publishing, which is done by a process of its own (`publish_process`)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from runctl._dataclasses import dataclass
from runctl.agent.attempt.attempt import Attempt
from runctl.agent.checkpoints import layout
from runctl.agent.checkpoints.stores import is_prefix, open_prefix, open_store
from runctl.agent.cloud.s3 import VARIABLES
from runctl.agent.disks import run_folders
from runctl.agent.encoding import dumps, to_json
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.environments.script import login_environment
from runctl.agent.errors import AgentError
from runctl.agent.machine import processes
from runctl.agent.machine.root import PASSED_ON, agent_command, login_user, machine_variables
from runctl.agent.spec import EndRecord, RunSpec, without_values
from runctl.agent.stored_run import spec_key

FINISH_SECONDS = 600.0
"""How long the end of a run waits for its last checkpoint to be published where its machine stays."""
SEAL_SECONDS = 30.0
"""And for its log."""
NICE = 10
"""What publishing gives way by: beside a training that uses every processor it still has a tenth of one.
Source: the weights of Linux (``sched_prio_to_weight``), 110 to 1024; at 19 they are 15 to 1024."""
RESTART_SECONDS = 10.0
"""Between two starts of a process that keeps ending."""
_STOP_SECONDS = 3.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class LastPublished:
    """What publishing has come to in the end."""

    published: str | None = None
    """The newest checkpoint that is in the store."""
    step: int | None = None
    sha256: str = ""
    """Of it: see `publish_process.checksum_of`."""
    left: tuple[str, ...] = ()
    """What is not, and why: a sentence each."""


class Publishing:
    """The process beside the training. Nothing here raises, or waits longer than it says."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._pid: int | None = None
        self._commands = self._answers = -1
        self._started_at = 0.0
        self._rest = b""
        self._asking = False

    def start(self) -> None:
        """It publishes from now on, at a low priority."""
        self._started_at = time.monotonic()
        theirs, self._commands = os.pipe()
        self._answers, ours = os.pipe()
        os.set_blocking(self._answers, False)
        spec = self._attempt.spec
        argv = [*low_priority(), *agent_command(), "publish", spec.run_id, str(spec.attempt)]
        try:
            self._pid = self._attempt.children.start(
                argv,
                output=ours,
                errors=sys.stderr.fileno(),
                env=environment(self._attempt),
                cwd=Path("/"),
                stdin=theirs,
            )
            self._attempt.children.spare(self._pid)
        except OSError as error:
            self._attempt.log.line(f"warning: checkpoints are not published: {error}")
        finally:
            os.close(theirs)
            os.close(ours)

    def keep_going(self) -> None:
        """It is started once more if somebody, or the want of memory, has ended it."""
        if self._asking or self._pid is None or not self._attempt.children.ended(self._pid):
            return
        if time.monotonic() - self._started_at < RESTART_SECONDS:
            return
        self._leave()
        self.start()

    def seconds_for_next(self) -> float:
        """How long publishing the next checkpoint takes, by what the last ones took; 0 where none was."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((self._attempt.folder.path / "publishing.json").read_text())
            return float(found["seconds"])
        return 0.0

    def finish(self) -> LastPublished:
        """The run's last checkpoint is in the store, or the answer says what is not. The script has ended."""
        patience = time.time() + FINISH_SECONDS

        def until() -> float:
            plan = self._attempt.end_plan
            return patience if plan is None else min(patience, plan.publish)

        self._ensure()
        answer = self._asked({"finish": until()}, until)
        if answer is None:
            return self._answer_in_its_place()
        left = [
            f"{each['name']} ({each['size']:,} bytes) is not published: {each['why']}{self._stays()}"
            for each in answer["left"]
        ]
        return LastPublished(answer.get("name"), answer.get("step"), answer.get("sha256", ""), tuple(left))

    def _answer_in_its_place(self) -> LastPublished:
        """What it has last written down: there was no time left for more."""
        known = self._attempt.folder.checkpoint()
        why = f"the newest checkpoint could not be published in time{self._stays()}"
        if known is None or known.published_at is None:
            return LastPublished(left=(f"{why}; the store has none",))
        name = os.path.relpath(known.path, self._attempt.folders.checkpoints)
        return LastPublished(name, known.step, known.sha256, (f"{why}; the store has {name}",))

    @property
    def stays_on(self) -> str | None:
        """The volume that a checkpoint is on whether or not it is in the store."""
        spec = self._attempt.spec
        volumes = [mount.volume_id for mount in spec.mounts if mount.target == spec.save_target]
        return volumes[0] if volumes else None

    def _stays(self) -> str:
        return f"; it stays on {self.stays_on}" if self.stays_on else ""

    def seal(self, end: EndRecord) -> bool:
        """Whether the whole log and the end record are in the store; nothing is written to the log meanwhile."""
        # Here it may have completed while another machine was lost: then the run goes on, with its values.
        is_over = end.run_reason not in RETRIED and self._attempt.cause not in RETRIED
        patience = time.time() + SEAL_SECONDS

        def until() -> float:
            plan = self._attempt.end_plan
            return patience if plan is None else min(patience, plan.seal)

        self._ensure()
        answer = self._asked({"seal": to_json(end), "until": until(), "is_over": is_over}, until)
        return answer is not None and bool(answer.get("sealed"))

    def stop(self, patience: float = _STOP_SECONDS) -> None:
        """The process has ended: by itself, where it does so within ``patience`` seconds."""
        if self._pid is None:
            return
        with contextlib.suppress(OSError):
            os.close(self._commands)
        self._commands = -1
        deadline, pid = time.monotonic() + patience, self._pid
        while not self._attempt.children.ended(pid):
            late = time.monotonic() - deadline
            if late >= _STOP_SECONDS:
                # One that waits for a disk which hangs cannot be ended; the run's end does not wait for it.
                self._pid = None
                break
            if late >= 0:
                processes.send([pid], signal.SIGKILL)
            self._attempt.children.pause(_POLL_SECONDS)
        self._leave()

    def _ensure(self) -> None:
        if self._pid is None or self._attempt.children.ended(self._pid):
            self._leave()
            self.start()

    def _leave(self) -> None:
        if self._pid is not None:
            self._attempt.children.wait(self._pid)
        self._pid = None
        for descriptor in (self._commands, self._answers):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._commands = self._answers = -1
        self._rest = b""

    def _asked(self, command: Mapping[str, Any], until: Callable[[], float]) -> dict[str, Any] | None:
        """What it answers; ``None`` where it does not in time, or has ended. Then it is ended, to do nothing late.

        ``until`` is asked again and again: a notice may come meanwhile.
        """
        self._asking = True
        try:
            return self._answered(command, until)
        finally:
            # The run may go on afterwards, and its checkpoints are published as before.
            self._asking = False

    def _answered(self, command: Mapping[str, Any], until: Callable[[], float]) -> dict[str, Any] | None:
        try:
            os.write(self._commands, json.dumps(command).encode() + b"\n")
        except OSError:
            return None
        while time.time() < until() and not self._is_forced():
            self._attempt.children.pause(_POLL_SECONDS, (self._answers,))
            line = self._line()
            if line is not None:
                found: dict[str, Any] = json.loads(line)
                return found
            if self._pid is None or self._attempt.children.ended(self._pid):
                return None
        # What waits for a slow store ends by itself only once that has answered, and a machine that is taken back has
        # no time for that.
        self.stop(_STOP_SECONDS if self._attempt.end_plan is None else 0.0)
        return None

    def _is_forced(self) -> bool:
        """Somebody wants the end at once: the request has no grace left. An interruption's has none for the script."""
        request = self._attempt.stop_request
        return request is not None and request.reason is EndReason.STOPPED and request.grace_seconds == 0

    def _line(self) -> bytes | None:
        with contextlib.suppress(BlockingIOError):
            self._rest += os.read(self._answers, 1 << 16)
        line, newline, rest = self._rest.partition(b"\n")
        if not newline:
            return None
        self._rest = rest
        return line


def restore(attempt: Attempt, spec: RunSpec, name: str | None = None) -> RunSpec:
    """The machine has the newest checkpoint of the run's store, or of the prefix that it is to resume from; the spec
    names that by a path then. With a ``name`` it has that checkpoint of the run's store, whatever it had before.

    Raises `AgentError` (``cannot-restore``): a run that has saved something does not begin anew.
    """
    run_folders.make(attempt.folders)
    argv = [*agent_command(), "restore", spec.run_id, str(spec.attempt)]
    argv += [] if name is None else [name]
    try:
        attempt.run_step("looking for checkpoints in the store", argv, environment(attempt), Path("/"))
    except AgentError as error:
        said = attempt.log.last_lines(0, 1).removeprefix("[runctl] ")
        raise AgentError("cannot-restore", said or error.message) from error
    if not is_prefix(spec.resume_from):
        return spec
    fetched = attempt.folder.path.parent / "resume"
    return dataclasses.replace(spec, resume_from=str(fetched) if fetched.is_dir() else None)


def low_priority() -> list[str]:
    """The words that go before a command that takes little from a training, and yet comes to its end beside one that
    takes all it can get: at the lowest priority of all it would have one hundredth of a processor, and send nothing."""
    nice = ["nice", "-n", str(NICE)] if shutil.which("nice") else []
    return [*nice, *(["ionice", "-c", "2", "-n", "7"] if shutil.which("ionice") else [])]


def environment(attempt: Attempt) -> dict[str, str]:
    """What the processes are run with."""
    return variables(attempt.spec, attempt.own_environment())


def variables(spec: RunSpec, own: Mapping[str, str]) -> dict[str, str]:
    """The login user's, those of ours that lead to the store, and the run's own: keys may be in any of them."""
    kept = {name: value for name, value in {**machine_variables(), **own}.items() if name in VARIABLES}
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**login_environment(login_user(), own), **kept, **spec.env, **passed}


def check_store(spec: RunSpec, own: Mapping[str, str]) -> None:
    """What the run was asked for is in its store, and there is a checkpoint in the prefix that it is to resume from.

    Raises `AgentError`.
    """
    given = variables(spec, own)
    if spec.store is not None:
        store = open_store(spec.store, spec.run_id, given, tries=2, timeout=5.0)
        try:
            rank = spec.node.rank if spec.node is not None else 0
            store.put(spec_key(spec.attempt, rank), dumps(without_values(spec)).encode())
        finally:
            store.close()
    if spec.resume_from is not None and is_prefix(spec.resume_from):
        store = open_prefix(spec.resume_from, spec.store, given, tries=2, timeout=5.0)
        try:
            found = layout.newest_first(store.keys(layout.CHECKPOINTS))
        finally:
            store.close()
        if not found:
            raise AgentError(
                "no-checkpoint",
                f"there is no checkpoint in {spec.resume_from}",
                "leave --resume-from out to start from the beginning",
            )
