"""One attempt as its supervisor holds it: what it may ask of the machine, and when it must end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from runctl._dataclasses import dataclass
from runctl.agent import sagemaker
from runctl.agent.attempt import distributed
from runctl.agent.attempt.children import Children, Exited
from runctl.agent.attempt.collector import Collector, witness
from runctl.agent.attempt.log import FULL, Log
from runctl.agent.attempt.peers import Peers
from runctl.agent.attempt.progress import ProgressReader
from runctl.agent.attempt.watchers import watchers
from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.checkpoint_spec import CHECKPOINT_SIGNALS
from runctl.agent.cloud.metadata import Metadata
from runctl.agent.cloud.spot_notices import TIMEOUT_SECONDS, NoticeReader
from runctl.agent.disks.mount_watch import MountWatch
from runctl.agent.disks.run_folders import RunFolders, run_folders
from runctl.agent.end_reason import EndReason
from runctl.agent.environments.environment import Ready
from runctl.agent.environments.script import NETWORK
from runctl.agent.errors import AgentError
from runctl.agent.interruption import EndPlan, Notice, plan_end
from runctl.agent.machine import durable, processes
from runctl.agent.machine.root import state_directory
from runctl.agent.machine.shutdown import Shutdown, ask_for_checkpoint
from runctl.agent.node_spec import NodeCause, NodeSpec
from runctl.agent.records import AttemptFolder, StopRequest, changed
from runctl.agent.spec import RunSpec, RunState

SETUP_GRACE_SECONDS = 5.0
"""Installers and builders have nothing to save."""

FAILURE_SECONDS = 10.0
"""How long it takes at most, once no machine is silent, until it is known why a script has failed on one of them."""
NODES_SECONDS = 0.2
"""How often it is looked whether the other machines of the run are ready."""
WITNESS_SECONDS = 0.2
"""For a process that has got a signal to run its handler."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended, before it is written down."""

    reason: EndReason
    message: str
    exit_code: int | None = None
    signal: int | None = None
    max_rss_bytes: int | None = None
    cpu_seconds: float | None = None
    killed: bool = False
    """It did not end in the grace."""


class EndedEarlyError(Exception):
    """Somebody, or a limit, ended the attempt before its script could start."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


def marks(run_id: str, attempt: int) -> dict[str, str]:
    """Variables that a process of this attempt has, and one of another agent's on this computer has not."""
    import hashlib

    whole = f"{state_directory()}\0{run_id}\0{attempt}"
    return {"RUNCTL_PROCESS_MARK": hashlib.sha256(whole.encode()).hexdigest()[:16]}


class Attempt:
    """The spec, the log, the children, and whether they are to end."""

    def __init__(self, folder: AttemptFolder, spec: RunSpec, log: Log, children: Children) -> None:
        self.folder = folder
        self.spec = spec
        self.log = log
        self.children = children
        self.live = folder.live()
        self.folders: RunFolders = run_folders(spec, folder)
        self.volumes = MountWatch(spec)
        self.collector = Collector(folder.path, log, children)
        self.progress = ProgressReader(folder, self.folders.output, spec.progress_pattern)
        self.each_second: list[Callable[[], None]] = [self.progress.poll]
        """Called about once a second while the attempt goes on."""
        self.environment: Ready | None = None
        """What the script's packages are in, once that is made; ``None`` in containers."""
        self._script_began: float | None = None
        self._request: StopRequest | None = None
        self._shutdown: Shutdown | None = None
        self.notices = NoticeReader(Metadata(os.environ, TIMEOUT_SECONDS), children.wake)
        self.publish_seconds: Callable[[], float] = lambda: 0.0
        """How long publishing the next checkpoint is going to take; whoever publishes says it."""
        self.notice: Notice | None = None
        """Of the machine's end; ``None`` while it may stay."""
        self.stages: dict[str, float] = {}
        """When each stage of an interruption was reached, for the hand-off."""
        self.peers: Peers | None = None
        """The other machines of the run."""
        if spec.node is not None:
            lost = distributed.when_lost(spec.node, has_store=spec.store is not None)
            self.peers = Peers(spec.node, lost, lambda: self.live.phase, children.wake)
        watched = Watched(
            folder,
            spec,
            children,
            self.volumes,
            lambda: self._script_began,
            log.line,
            self.notices,
            self._publish_seconds,
            self.ask_for_checkpoint,
            self.update,
            lambda: "script_ended" in self.stages,
            self.peers,
        )
        self._watchers = watchers(watched)

    def _publish_seconds(self) -> float:
        return self.publish_seconds()

    def update(self, **values: Any) -> None:
        """Write down what has changed. A full disk does not stop a training: the old state is shown meanwhile."""
        self.live = changed(self.live, **values)
        try:
            self.folder.write_live(self.live)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.log.disk_full = True

    def contract(self, gpus: int | None = None) -> dict[str, str]:
        """The variables of `RunSpec.contract`, for a script that has so many GPUs (``None``: the machine's); its files
        are there from now on. Raises `OSError`."""
        if not sagemaker.asked(self.spec):
            return {}
        if gpus is None:
            from runctl.agent.machine.gpus import gpus as of_machine

            gpus = len(of_machine())
        known = sagemaker.facts(self.spec, self.folder, os.environ, gpus)
        sagemaker.write_configuration(self.spec, self.folder, known)
        return sagemaker.variables(self.spec, known)

    def phase(self, doing: str) -> None:
        """Say what is being done, in the log and in the status."""
        self.log.line(doing)
        self.update(phase=doing)

    def script_began(self) -> None:
        """The time limit counts from here, the first time."""
        if self._script_began is None:
            self._script_began = time.monotonic()
        if self.peers is not None:
            self.peers.is_running()

    def wait_for_nodes(self) -> None:
        """All machines of the run are ready for the script. Raises `EndedEarlyError`."""
        if self.peers is None:
            return
        self.peers.is_ready()
        told: tuple[int, ...] = ()
        while not self.peers.may_start:
            self.check()
            waiting = self.peers.waiting
            if waiting != told and waiting:
                told = waiting
                self.phase("waiting for node{} {}".format("s" * (len(told) > 1), ", ".join(map(str, told))))
            self.children.pause(NODES_SECONDS)
        self.check()

    @property
    def round(self) -> int:
        """How often the script has begun again, because a machine of the run is gone."""
        return 0 if self.peers is None else self.peers.round

    def restarts(self, outcome: Outcome) -> bool:
        """Whether the script is to begin again on the machines that are left, having ended like this.

        Where it has failed, that is known when no machine is silent any more.
        """
        if self.peers is None or outcome.reason is EndReason.COMPLETED:
            return False
        if self._request is not None:
            stays = self.peers.lost is None and not self.peers.is_left_behind
            return self._request.for_restart and stays
        if outcome.reason is not EndReason.FAILED:
            return False
        self.peers.ends(self._own_cause(self.peers.node, outcome))
        deadline = time.monotonic() + FAILURE_SECONDS + self.peers.node.silence_seconds
        while not self.peers.knows_why and time.monotonic() < deadline:
            self.children.pause(NODES_SECONDS)
        return self.peers.must_restart

    @property
    def is_restart(self) -> bool:
        """The script has run on this machine before, in this attempt."""
        return self.peers is not None and self.peers.round > 0

    def next_round(self) -> None:
        """Nothing is known any more of the script that has ended; the spec is of the machines that are left."""
        assert self.peers is not None  # noqa: S101 - `restarts` has asked them
        gone = self.peers.next_round()
        self.spec = dataclasses.replace(self.spec, node=self.peers.node.without(gone))
        self._request = self._shutdown = None
        # A notice that came meanwhile is still to be answered.
        for stage in set(self.stages) - {"heard"}:
            del self.stages[stage]
        left = self.peers.node.count - len(gone)
        self.phase(f"beginning again on {left} machine{'s' * (left > 1)}")

    def wait_for_checkpoint(self) -> str:
        """The name of the checkpoint from which rank 0 begins again in this round; empty: from none.

        Raises `EndedEarlyError`.
        """
        assert self.peers is not None  # noqa: S101 - see `next_round`
        while self.peers.resumes is None:
            self.check()
            self.children.pause(NODES_SECONDS)
        return self.peers.resumes

    def _own_cause(self, node: NodeSpec, outcome: Outcome) -> NodeCause:
        at = self.stages.get("script_ended", time.time())
        return NodeCause(node.rank, outcome.reason.value, outcome.message, at, self.live.machine_ends_at)

    def tell_nodes(self, outcome: Outcome) -> Outcome:
        """The others know how it ended here; rank 0 stays for as long as they go on where it has completed.

        The outcome, with what had happened elsewhere before where the script has failed because of that.
        """
        if self.peers is None:
            return outcome
        if outcome.reason is not EndReason.COMPLETED and self.caused_by is None:
            self.peers.ends(self._own_cause(self.peers.node, outcome))
        self.peers.has_ended()
        told: tuple[int, ...] = ()
        while outcome.reason is EndReason.COMPLETED and self.peers.others_go_on and self.shutdown() is None:
            going = self.peers.others_go_on
            if going != told:
                told = going
                self.update(
                    phase="waiting for the end of node{} {}".format(
                        "s" * (len(told) > 1), ", ".join(map(str, told))
                    )
                )
            self.children.pause(NODES_SECONDS)
        self.peers.close()
        cause, lost = self.peers.cause, self.peers.lost
        if outcome.reason is EndReason.COMPLETED:
            return outcome
        if lost is not None and self._request is not None and self._request.caused_by is not None:
            # It was ended for rank 0's silence, which has been heard since.
            return dataclasses.replace(outcome, reason=EndReason.LOST, message=lost.message)
        if cause is None or self._request is not None:
            return outcome
        about = cause.message if cause.message.startswith("node ") else f"node {cause.rank}: {cause.message}"
        return dataclasses.replace(outcome, message=f"{about}; {outcome.message}")

    @property
    def caused_by(self) -> int | None:
        """The machine of the run for which this one ends; ``None``: it ends by itself."""
        cause = self.peers.cause if self.peers is not None else None
        return cause.rank if cause is not None else None

    @property
    def gone(self) -> tuple[int, ...]:
        """The machines of the run without which it has gone on."""
        return self.peers.gone if self.peers is not None else ()

    @property
    def cause(self) -> EndReason | None:
        """How it ended on that machine."""
        cause = self.peers.cause if self.peers is not None else None
        return EndReason(cause.reason) if cause is not None else None

    def script_ended(self, told_at: float | None) -> None:
        """It ended now; ``told_at``: when it got SIGTERM, in seconds since the epoch, if it did."""
        if told_at is not None:
            self.stages.setdefault("signalled", told_at)
        self.stages.setdefault("script_ended", time.time())

    @property
    def stop_request(self) -> StopRequest | None:
        """Why the attempt is to end, if it is."""
        self.shutdown()
        return self._request

    def shutdown(self) -> Shutdown | None:
        """The end that was asked for, counted from when that was seen; a later request may shorten the grace."""
        if self.collector.keep_going():
            self.update(follower=self.collector.identity())
        for function in self.each_second:
            function()
        if self._request is None:
            request = next(filter(None, (watcher.stop_request() for watcher in self._watchers)), None)
            if request is None:
                return None
            self._begin_shutdown(request)
        for watcher in self._watchers:
            request = watcher.stop_request() if watcher.sharpens else None
            if request is not None and self._shutdown is not None and not self._began_by(request.notice):
                self._note_end_of_machine(request)
                self._shutdown = sharpened(self._shutdown, request)
        return self._shutdown

    def _began_by(self, notice: Notice | None) -> bool:
        """Whether it ends for this very notice: whoever heard that first has shared out the time that it leaves."""
        return notice is not None and self._request is not None and self._request.notice == notice

    def _begin_shutdown(self, request: StopRequest) -> None:
        told = self.children.terminated and self._everybody_was_told()
        self._request, self._shutdown = request, Shutdown(time.monotonic(), request.grace_seconds, told)
        with contextlib.suppress(OSError):
            self.update(state=RunState.STOPPING, phase=request.message)
        self.log.line(f"{request.message}: SIGTERM, then {request.grace_seconds:.15g} s of grace")
        if self.peers is not None and request.caused_by is None:
            rank, at = self.peers.node.rank, request.requested_at or time.time()
            self.peers.ends(
                NodeCause(rank, request.reason.value, request.message, at, request.machine_ends_at)
            )
        self._note_end_of_machine(request)

    def _note_end_of_machine(self, request: StopRequest) -> None:
        if request.notice is None or request.notice == self.notice:
            return
        if request is not self._request:
            self.log.line(f"{request.message}: at most {request.grace_seconds:.15g} s of grace are left")
        self.notice = request.notice
        self.stages.setdefault("heard", request.requested_at)
        with contextlib.suppress(OSError):
            self.update(machine_ends_at=request.machine_ends_at)

    @property
    def end_plan(self) -> EndPlan | None:
        """How the machine's last seconds are used; ``None`` while it may stay. A notice may come at any time."""
        self.shutdown()
        return None if self.notice is None else self.plan_for(self.notice)

    def plan_for(self, notice: Notice) -> EndPlan:
        """How the machine's last seconds are used, as this notice tells them."""
        has_volumes = any(mount.volume_id for mount in self.spec.mounts)
        return plan_end(notice.machine_ends_at, self.stages.get("heard"), has_volumes=has_volumes)

    def _everybody_was_told(self) -> bool:
        seen = witness(self.folder.path)
        deadline = time.monotonic() + WITNESS_SECONDS
        while not seen.exists() and time.monotonic() < deadline:
            self.children.pause(0.02)
        return seen.exists()

    def ask_for_checkpoint(self) -> bool:
        """Whoever has a handler for the run's signal has been asked to save; false where nobody has (yet)."""
        name = self.spec.checkpoint_signal or CHECKPOINT_SIGNALS[0]
        script = self.live.script
        if name == "none" or script is None or not processes.alive(script):
            return False
        container = self.live.container_id
        if container is not None and not processes.is_first_of(script.pid, container):
            # The engine is behind a virtual machine: the number is that of somebody else here.
            return False
        asked = ask_for_checkpoint(script.pid, getattr(signal, "SIG" + name))
        if asked:
            self.log.line(
                "asking process {} for a checkpoint (SIG{})".format(", ".join(map(str, asked)), name)
            )
        return bool(asked)

    def check(self) -> None:
        """Go on, or raise `EndedEarlyError`."""
        request = self.stop_request
        if request is not None:
            raise EndedEarlyError(Outcome(request.reason, request.message))

    def _setup_shutdown(self) -> Shutdown | None:
        shutdown = self.shutdown()
        if shutdown is None:
            return None
        return Shutdown(shutdown.began, min(shutdown.grace, SETUP_GRACE_SECONDS))

    def wait_setup(self, pid: int) -> Exited:
        """Wait for a child of the set-up. Raises `EndedEarlyError` when the attempt is to end."""
        exited = self.children.wait(pid, self._setup_shutdown)
        if exited.stop_requested:
            self.children.end_all(SETUP_GRACE_SECONDS)
        self.check()
        return exited

    def run_step(self, phase: str, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        """Run a command of the set-up, its output in the log. Raises `AgentError` (``setup-failed``)."""
        self.check()
        self.phase(phase)
        since = self.log.size()
        try:
            pid = self.children.start(argv, output=self.log.fd, env={**env, **self.marks()}, cwd=cwd)
        except OSError as error:
            raise AgentError("setup-failed", f"{phase}: {error}") from error
        exited = self.wait_setup(pid)
        if exited.exit_code != 0:
            how = f"exit code {exited.exit_code}" if exited.signal is None else f"signal {exited.signal}"
            output = self.log.last_lines(since)
            raise AgentError(
                "setup-failed", f"{phase} failed ({how}){':' if output else ''}\n{output}".rstrip()
            )

    def marks(self) -> dict[str, str]:
        """Variables by which processes of this attempt are known, wherever they go."""
        return marks(self.spec.run_id, self.spec.attempt)

    def own_environment(self) -> dict[str, str]:
        """The variables of the agent that `start` was called with: the supervisor's may be systemd's or sudo's."""
        kept = durable.read_json(self.folder.path / "environ.json") or {}
        return {**{name: str(value) for name, value in kept.items()}, **_present(NETWORK)}

    @property
    def state(self) -> Path:
        """The agent's state directory."""
        return state_directory()


def sharpened(shutdown: Shutdown, request: StopRequest) -> Shutdown:
    """A shutdown that has begun, with no more grace than a later request leaves it.

    `stop` counts from the first request on; the machine's end comes when it comes.
    """
    grace = request.grace_seconds
    if request.machine_ends_at is not None:
        grace += shutdown.elapsed
    return dataclasses.replace(shutdown, grace=min(shutdown.grace, grace))


def _present(names: Sequence[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}
