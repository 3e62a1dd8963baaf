"""The parent of one attempt: from the intent on disk to the end record on disk, with nobody watching."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from runctl.agent import sagemaker
from runctl.agent.attempt.attempt import Attempt, EndedEarlyError, Outcome
from runctl.agent.attempt.children import Children
from runctl.agent.attempt.log import FULL, Log
from runctl.agent.disks import mountns, run_folders
from runctl.agent.end_reason import BY_ERROR, EndReason
from runctl.agent.errors import AgentError
from runctl.agent.machine import processes
from runctl.agent.machine.daemon import daemonise, redirect
from runctl.agent.machine.root import (
    LOGIN_VARIABLE,
    PASSED_ON,
    agent_command,
    folder_root,
    login_user,
    state_directory,
)
from runctl.agent.records import AttemptFolder, attempt_folder, attempts
from runctl.agent.spec import EndRecord, RunSpec, RunState
from runctl.agent.supervising.hand_off import HandOver
from runctl.agent.supervising.host import copy_project, run_on_host
from runctl.agent.supervising.log_copy import END_SECONDS, LogCopier

if TYPE_CHECKING:
    from runctl.agent.supervising.publishing import Publishing


CAUSE_LENGTH = 300
_CAUSE = re.compile(r"\s*(×|error|fatal|failed|E:)", re.IGNORECASE)


def supervise(arguments: list[str]) -> int:
    """Be the supervisor: ``[--namespace] [--foreground] [--cannot-mount WHY] RUN_ID ATTEMPT``."""
    flags, why = [], ""
    rest = list(arguments)
    while rest and rest[0].startswith("--"):
        flags.append(rest.pop(0))
        if flags[-1] == "--cannot-mount":
            why = rest.pop(0)
    run_id, number = rest
    folder = attempt_folder(run_id, int(number))
    if "--namespace" in flags:
        return _in_own_namespace(folder, [flag for flag in flags if flag != "--namespace"])
    if "--foreground" not in flags and not daemonise():
        return 0
    spec = folder.spec()
    if spec is None:
        raise AgentError("no-such-run", f"there is no spec in {folder.path}")
    redirect(folder.path / "supervisor.err")
    Supervisor(folder, sagemaker.with_mounts(spec, folder)).run(why)
    return 0


def _in_own_namespace(folder: AttemptFolder, flags: list[str]) -> int:
    """As root: make the mounts, become the login user for good, and start over as that user."""
    spec = folder.spec()
    if spec is None:
        raise AgentError("no-such-run", f"there is no spec in {folder.path}")
    spec = sagemaker.with_mounts(spec, folder)
    user, extra = login_user(), []
    try:
        run_folders.make_inner_targets(spec.mounts)
        mountns.enter(mountns.to_bind(spec), state_directory() / "targets")
    except (AgentError, OSError) as error:
        extra = ["--cannot-mount", str(error)]
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env.pop(LOGIN_VARIABLE, None)
    env.update(HOME=user.home, USER=user.name, LOGNAME=user.name, SHELL=user.shell)
    argv = [*agent_command(), "supervise", *flags, *extra, folder.run_id, str(folder.attempt)]
    mountns.drop_root(user)
    os.execve(argv[0], argv, env)  # noqa: S606 (an argument list of our own)


def told_once(message: str, log: str) -> str:
    """An error's first line, with the one that names the cause of what it quotes from the log; the rest stands
    there already."""
    first, *quoted = [line for line in message.splitlines() if line.strip()] or [message]
    there = {line.strip() for line in log.splitlines()}
    if not quoted or not all(line.strip() in there for line in quoted):
        return message
    causes = [line.strip() for line in quoted if _CAUSE.match(line)] or [quoted[-1].strip()]
    return "{}: {}".format(first.rstrip(": "), causes[-1][:CAUSE_LENGTH])


class Supervisor:
    """Runs an attempt to its end and writes that down, whatever happens."""

    def __init__(self, folder: AttemptFolder, spec: RunSpec) -> None:
        self.folder = folder
        self.spec = spec
        self.children = Children()
        self.log = Log(folder.log)
        self.attempt = Attempt(folder, spec, self.log, self.children)
        self.copier: LogCopier | None = None
        if self.attempt.live.saved is not None:
            self.copier = LogCopier(folder.log, self.attempt.folders.checkpoints.parent, folder.attempt)
        self.publishing: Publishing | None = None
        if spec.store is not None:
            from runctl.agent.supervising.publishing import Publishing

            self.publishing = Publishing(self.attempt)
            if spec.saves_for_all:
                self.attempt.publish_seconds = self.publishing.seconds_for_next
            self.attempt.each_second.append(self.publishing.keep_going)

    def run(self, cannot_mount: str = "") -> None:
        """The attempt has ended and `EndRecord` says how."""
        folders = self.attempt.folders
        self.attempt.update(
            state=RunState.SETTING_UP,
            phase="setting up",
            supervisor=processes.identity(os.getpid()),
            checkpoint_dir=str(folders.checkpoints),
            output_dir=str(folders.output),
        )
        if self.copier is not None:
            self.copier.start()
        self.attempt.notices.start()
        outcome = self._outcome(lambda: self._begin(cannot_mount))
        while self.attempt.restarts(outcome):
            self.children.end_all(1.0)
            self.attempt.next_round()
            outcome = self._outcome(self._restart)
        self.children.end_all(1.0)
        self._finish(self.attempt.tell_nodes(outcome))

    def _begin(self, cannot_mount: str) -> Outcome:
        if cannot_mount:
            raise AgentError("cannot-mount", cannot_mount)
        if self.attempt.peers is not None:
            self.attempt.peers.start()
        self.attempt.volumes.check_start()
        if self.spec.store is not None or self.spec.resume_from is not None:
            self._restore()
        if self.publishing is not None:
            self.publishing.start()
        self._settle()
        for warning in filter(None, (*self.attempt.volumes.warnings(), self.attempt.progress.trouble)):
            self.log.line(warning)
        return self._run()

    def _restart(self) -> Outcome:
        """On the machines that are left, all from the checkpoint that rank 0 has settled on."""
        self.spec = dataclasses.replace(self.spec, node=self.attempt.spec.node)
        peers = self.attempt.peers
        if self.publishing is not None and self.spec.saves_for_all and peers is not None:
            left = self.publishing.finish().left
            self.attempt.check()
            if left:
                raise AgentError("lost", f"not all machines can begin again: {left[0]}")
            # What the script was writing when it had to end may be broken here, and the one before in the store.
            self.publishing.stop()
            self._restore_for_restart(None)
            # Another, which looks at what there is now.
            self.publishing.start()
            peers.settle(self._settle())
        else:
            # Whatever this machine has in its folder, or has saved since: all go on from the same.
            name = self.attempt.wait_for_checkpoint()
            if name:
                self._restore_for_restart(name)
            if self._settle(name) != name:
                raise AgentError("lost", f"{name}, from which rank 0 begins again, is not complete here")
        return self._run()

    def _restore_for_restart(self, name: str | None) -> None:
        """As `_restore`. A machine that cannot have it is lost to the run, which may go on on others."""
        from runctl.agent.supervising.publishing import restore

        try:
            restore(self.attempt, self.spec, name)
        except AgentError as error:
            self.attempt.check()
            raise AgentError("lost", f"this machine cannot begin again: {error.message}") from error

    def _settle(self, name: str | None = None) -> str:
        """What the script goes on from is in the spec: the newest, or of the run's own the one of that ``name``.

        The name of the one of the run's own, from its folder of checkpoints on; empty where it is none of those.
        """
        from runctl.agent.checkpoints import resume

        folders = self.attempt.folders
        self.attempt.spec, resumed = resume.settled(self.spec, folders, self.log.line, name)
        self.attempt.update(resumed=resumed)
        path = None if resumed is None else Path(resumed.path)
        is_own = path is not None and folders.checkpoints in (path, *path.parents)
        return path.relative_to(folders.checkpoints).as_posix() if path is not None and is_own else ""

    def _outcome(self, run: Callable[[], Outcome]) -> Outcome:
        try:
            return run()
        except EndedEarlyError as early:
            return early.outcome
        except AgentError as error:
            return self._failed(error)
        except OSError as error:
            if error.errno in FULL:
                return Outcome(EndReason.DISK_FULL, f"a disk is full: {error}")
            return self._broken(error)
        except Exception as error:  # noqa: BLE001 (an attempt always ends with a record)
            return self._broken(error)

    def _restore(self) -> None:
        from runctl.agent.checkpoints.stores import is_prefix
        from runctl.agent.supervising.publishing import restore

        if self.spec.store is not None or is_prefix(self.spec.resume_from):
            self.spec = restore(self.attempt, self.spec)

    def _run(self) -> Outcome:
        container = self.spec.container
        if container is None:
            return run_on_host(self.attempt)
        copy_project(self.attempt)
        if container.compose is not None and container.compose_file is not None:
            from runctl.agent.containers.compose import run_with_compose

            return run_with_compose(self.attempt, container, container.compose, container.compose_file)
        from runctl.agent.containers.container import run_in_container

        return run_in_container(self.attempt, container)

    def _failed(self, error: AgentError) -> Outcome:
        reason = BY_ERROR.get(error.code, EndReason.SETUP_FAILED)
        # What the failed program said is in the log as it said it; here it is one line.
        message = told_once(error.message, self.log.tail().decode(errors="replace"))
        message += "\nhint: " + error.hint if error.hint else ""
        if reason in (EndReason.SETUP_FAILED, EndReason.IMAGE_FAILED):
            from runctl.agent.attempt.evidence import full_folder
            from runctl.agent.attempt.log import says_no_space

            spoken, last = says_no_space(self.log.tail())
            full = full_folder([self.folder.path])
            if (spoken and (last or full)) or self.log.disk_full:
                reason, message = EndReason.DISK_FULL, "a disk is full: " + message
        return Outcome(reason, message)

    def _broken(self, error: BaseException) -> Outcome:
        sys.stderr.write(traceback.format_exc())
        started = self.attempt.live.started_at is not None
        message = f"the agent itself failed: {type(error).__name__}: {error}"
        return Outcome(EndReason.LOST if started else EndReason.SETUP_FAILED, message)

    def _finish(self, outcome: Outcome) -> None:
        self.children.end_all(1.0)
        self.attempt.collector.finish()
        self.attempt.progress.finish()
        self._tidy()
        self._forget_credentials()
        self._report(outcome)
        hand_over = self._hand_over(outcome)
        self._publish_last(hand_over)
        if self.copier is not None and self.copier.trouble:
            self.log.line(f"warning: the log is not kept on the volume: {self.copier.trouble}")
        self.log.line(f"{outcome.reason.value}: {outcome.message}")
        length, checksum = self.log.sealed()
        end = EndRecord(
            reason=outcome.reason,
            ended_at=time.time(),
            exit_code=outcome.exit_code,
            signal=outcome.signal,
            message=outcome.message,
            log_bytes=length,
            log_sha256=checksum,
            max_rss_bytes=outcome.max_rss_bytes,
            cpu_seconds=outcome.cpu_seconds,
            hand_off=None if hand_over is None else hand_over.record(),
            caused_by=self.attempt.caused_by if outcome.reason is not EndReason.COMPLETED else None,
            script_ended_at=self.attempt.stages.get("script_ended"),
            cause=self.attempt.cause if outcome.reason is not EndReason.COMPLETED else None,
            gone=self.attempt.gone,
        )
        end = self._copied(end)
        if hand_over is not None:
            # The volume has the end record by now, without the stages that follow.
            try:
                hand_over.release_volumes()
            except Exception:  # noqa: BLE001 (an attempt always ends with a record)
                sys.stderr.write(traceback.format_exc())
            end = dataclasses.replace(end, hand_off=hand_over.record())
        self._write_end(end)
        self.attempt.update(state=RunState.ENDED, phase="")

    def _report(self, outcome: Outcome) -> None:
        """To whoever expects what SageMaker leaves."""
        if not sagemaker.asked(self.spec):
            return
        try:
            sagemaker.report(self.attempt.folders, outcome.reason, outcome.message)
        except OSError as error:
            self.log.line(f"warning: how the run ended is not in /opt/ml/output: {error}")

    def _hand_over(self, outcome: Outcome) -> HandOver | None:
        """For a run that was still going on when its machine's end was announced."""
        notice = self.attempt.notice
        if notice is None or outcome.reason is EndReason.COMPLETED:
            return None
        hand_over = HandOver(self.attempt, notice)
        if self.attempt.live.started_at is not None:
            hand_over.verify(killed=outcome.killed)
        return hand_over

    def _publish_last(self, hand_over: HandOver | None) -> None:
        """The newest checkpoint is in the run's store, or the log and the hand-off say why it is not."""
        if self.publishing is not None and self.spec.saves_for_all:
            self._finish_publishing(self.publishing, hand_over)
        if hand_over is not None:
            hand_over.compute_checksum()

    def _finish_publishing(self, publishing: Publishing, hand_over: HandOver | None) -> None:
        if hand_over is None:
            self.attempt.update(phase="publishing the last checkpoint")
            for sentence in publishing.finish().left:
                self.log.line("warning: " + sentence)
            return
        answer = publishing.finish()
        for sentence in answer.left:
            hand_over.leave(sentence)
        if not answer.left and answer.published is not None:
            hand_over.published(answer.published, answer.sha256)
        elif answer.left and publishing.stays_on is None:
            hand_over.goes_with_the_machine(answer.published, answer.step, answer.sha256)

    def _copied(self, end: EndRecord) -> EndRecord:
        """Before the end is known to anybody: whoever reads it may give the machine back at once."""
        if self.publishing is not None:
            sealed = self.publishing.seal(end)
            self.publishing.stop()
            if not sealed:
                sys.stderr.write("the log in the store is not complete\n")
        if self.copier is None:
            return end
        kept = dataclasses.replace(end, log_kept=True)
        if self.copier.finish(kept, self._copy_seconds()):
            return kept
        sys.stderr.write("the log's copy is not complete: {}\n".format(self.copier.trouble or "too slow"))
        return dataclasses.replace(end, log_kept=False)

    def _copy_seconds(self) -> float:
        """How long the log's copy on the volume is waited for: a volume may hang."""
        ends_at = self.attempt.live.machine_ends_at
        return END_SECONDS if ends_at is None else min(END_SECONDS, max(1.0, (ends_at - time.time()) / 2))

    def _write_end(self, end: EndRecord) -> None:
        # The reserve makes this work on a full disk; another's writing may still take the room before us.
        for wait in (0.1, 1.0, 5.0, 30.0, None):
            try:
                self.folder.write_end(end)
            except OSError as error:
                if error.errno not in FULL or wait is None:
                    raise
                time.sleep(wait)
            else:
                return

    def _tidy(self) -> None:
        binds = mountns.to_bind(self.spec)
        if binds and folder_root() is None:
            with contextlib.suppress(OSError):
                mountns.leave(binds, state_directory() / "targets", self._targets_of_others)

    def _forget_credentials(self) -> None:
        """Also where the attempt has ended before it had its image."""
        from runctl.agent.images import credentials

        credentials.forget(self.spec.run_id)

    def _targets_of_others(self) -> list[str]:
        found: list[str] = []
        for other in attempts():
            if other.path == self.folder.path or other.end() is not None:
                continue
            spec: RunSpec | None = other.spec()
            if spec is not None and spec.container is None:
                shown = sagemaker.with_mounts(spec, other)
                found.extend(mount.target for mount in shown.mounts)
        return found
