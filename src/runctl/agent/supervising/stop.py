"""``stop`` and ``interrupt``: the attempt ends, with its script and everything below it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from runctl.agent.attempt.attempt import marks as marks_of
from runctl.agent.end_reason import EndReason
from runctl.agent.errors import AgentError
from runctl.agent.interruption import NOTICE_SECONDS, Notice
from runctl.agent.machine import durable, processes
from runctl.agent.machine.shutdown import ProcessStopper, Shutdown
from runctl.agent.records import AttemptFolder, Live, StopRequest, find
from runctl.agent.spec import AttemptStatus, RunState
from runctl.agent.supervising.status import observe, write_end_for

PATIENCE_SECONDS = 60.0
"""For the supervisor to write the end when the grace is over: the log's checksum of a large log takes a while."""


def stop(request: Mapping[str, Any]) -> AttemptStatus:
    """The attempt has ended. One that had ended before is left as it is.

    ``grace_seconds`` between SIGTERM and SIGKILL (default: the run's own); ``force`` means no grace. ``reason`` is
    the end reason to record (default STOPPED). Raises `AgentError` (``stop-timeout``).
    """
    folder = find(request)
    seen = observe(folder)
    if seen.state is RunState.ENDED:
        if seen.end is not None and seen.end.reason is EndReason.LOST:
            _sweep(folder, 0.0)
        return seen
    grace = _grace(request, folder)
    reason = EndReason(request.get("reason", EndReason.STOPPED.value))
    message = str(request.get("message") or "stopped on request")
    folder.write_stop(StopRequest(reason, grace, time.time(), message))
    supervisor = folder.live().supervisor
    if supervisor is not None and processes.alive(supervisor):
        _tell(supervisor.pid)
    elif supervisor is not None:
        return _stop_orphan(folder, reason, message, grace)
    deadline = time.monotonic() + grace + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        seen = observe(folder)
        if seen.state is RunState.ENDED:
            return seen
        live = folder.live()
        if live.supervisor is not None and not processes.alive(live.supervisor):
            return _stop_orphan(folder, reason, message, grace)
        time.sleep(0.05)
    raise AgentError("stop-timeout", f"run {folder.run_id} has not ended in time", "runctl runs stop --force")


def interrupt(request: Mapping[str, Any]) -> AttemptStatus:
    """The attempt is interrupted as if its provider had just announced the machine's end in ``seconds`` (default 120).

    The machine stays, and nothing is unmounted; unless ``moves`` says what the run is moved to another machine for:
    then its volumes are let go. Raises `AgentError` (``has-ended``).
    """
    folder = find(request)
    seen = observe(folder)
    supervisor = folder.live().supervisor
    if seen.state is RunState.ENDED or supervisor is None or not processes.alive(supervisor):
        raise AgentError("has-ended", f"run {folder.run_id} has ended, so it cannot be interrupted")
    given = request.get("seconds")
    seconds = NOTICE_SECONDS if given is None else max(0.0, float(given))
    why = str(request.get("moves") or "")
    folder.write_notice(Notice(time.time() + seconds, is_rehearsal=not why, moves=bool(why), why=why))
    _tell(supervisor.pid)
    return observe(folder)


def _grace(request: Mapping[str, Any], folder: AttemptFolder) -> float:
    if request.get("force"):
        return 0.0
    given: float | None = request.get("grace_seconds")
    if given is not None:
        return max(0.0, float(given))
    spec = folder.spec()
    return spec.grace_seconds if spec is not None else 30.0


def _tell(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGUSR1)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise AgentError(
            "not-yours", "the run belongs to another user of the machine", "stop it as that user"
        ) from error


def _stop_orphan(folder: AttemptFolder, reason: EndReason, message: str, grace: float) -> AttemptStatus:
    """Its supervisor is gone: end what it left, and write the end in its place."""
    live: Live = folder.live()
    if live.container_id is not None or live.compose_project is not None:
        from runctl.agent.containers.orphaned_container import end_container

        end_container(live, grace)
    _sweep(folder, grace)
    with durable.locked(folder.lock):
        if folder.end() is None:
            write_end_for(folder, reason, message + "; its supervisor had gone before")
    return observe(folder)


def _sweep(folder: AttemptFolder, grace: float) -> None:
    """No process that carries this attempt's variables is left."""
    marks = marks_of(folder.run_id, folder.attempt)
    shutdown, stopper = Shutdown(time.monotonic(), grace), ProcessStopper()
    deadline = shutdown.began + grace + PATIENCE_SECONDS
    while True:
        left = processes.with_environment(marks)
        if not left or time.monotonic() >= deadline:
            return
        if shutdown.over:
            processes.send([process.pid for process in left], signal.SIGKILL)
        else:
            table = {process.pid: process for process in left}
            roots = sorted(process.pid for process in left if process.parent not in table)
            stopper.request(roots, table, shutdown)
        time.sleep(0.05)
