"""``start``: check everything that can be checked, write the intent down, and leave a supervisor behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from runctl.agent import sagemaker
from runctl.agent.disks import mountns
from runctl.agent.disks.run_folders import saved_folder
from runctl.agent.encoding import from_json, to_json
from runctl.agent.environments.script import NETWORK
from runctl.agent.errors import AgentError
from runctl.agent.interruption import MOST_PUBLISH_SECONDS, RESERVE_SECONDS
from runctl.agent.machine import durable
from runctl.agent.machine.daemon import circumstances, leaves_behind, systemd_run, under_systemd
from runctl.agent.machine.root import (
    agent_as_root,
    agent_command,
    as_root,
    folder_root,
    login_user,
    state_directory,
)
from runctl.agent.records import (
    AttemptFolder,
    Live,
    StopRequest,
    attempt_folder,
    attempts,
    find,
)
from runctl.agent.spec import AttemptStatus, RunSpec, without_values
from runctl.agent.supervising import checks, machine_end
from runctl.agent.supervising.status import observe

LAUNCH_SECONDS = 20.0


def start(request: Mapping[str, Any]) -> AttemptStatus:
    """The attempt is being set up, or has been started before by the same request; returns at once.

    Raises `AgentError`; nothing is left of an attempt that could not be started.
    """
    try:
        spec = from_json(RunSpec, request["spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise AgentError("bad-request", f"the spec cannot be read: {error}") from error
    folder = attempt_folder(spec.run_id, spec.attempt)
    with durable.locked(state_directory() / "start.lock"):
        known, ended = folder.spec(), folder.end() is not None
        same = known == (without_values(spec) if ended else spec)
        if known is not None and not same:
            raise AgentError(
                "run-exists",
                f"attempt {spec.attempt} of run {spec.run_id} exists on this machine and is something else",
                "take another run id, or the next attempt",
            )
        for other in attempts():
            # One that has ended without a record is given it here, and leaves its secrets to no other run.
            if other.path != folder.path:
                observe(other)
        if known is None or (folder.live().supervisor is None and folder.end() is None):
            tree = checks.check(spec)
            _write_intent(folder, spec, tree)
            _make_contract(folder, spec)
            _leave_machine_end(folder, spec)
            _launch(folder, spec)
    return observe(folder)


def restart(request: Mapping[str, Any]) -> AttemptStatus:
    """The next attempt of the run ``run_id`` is being set up as its last one was. ``env`` has the values of variables:
    those of an attempt that has ended are kept nowhere.

    Raises `AgentError`: ``no-such-run``, ``run-goes-on``, ``machine-ends`` (its machine was rented for it, and ends
    with it), ``no-values`` (of variables that it had), and what `start` raises.
    """
    last = find({"run_id": request.get("run_id")})
    spec, given = last.spec(), request.get("env") or {}
    if spec is None or observe(last).end is None:
        raise AgentError("run-goes-on", f"attempt {last.attempt} of {last.run_id} has not ended")
    if spec.machine_end is not None:
        raise AgentError(
            "machine-ends",
            f"the machine of {last.run_id} was rented for it, and ends with it",
            f"runctl launch --resume-from {last.run_id}",
        )
    missing = sorted({name for name in (*spec.env, *spec.compose_env) if name not in given})
    if missing:
        raise AgentError(
            "no-values",
            f"the values of {', '.join(missing)} are no longer on this machine",
            "give them again: " + " ".join(f"--env {name}" for name in missing),
        )
    following = dataclasses.replace(
        spec,
        attempt=last.attempt + 1,
        env={name: str(given[name]) for name in spec.env},
        compose_env={name: str(given[name]) for name in spec.compose_env},
    )
    return start({"spec": to_json(following)})


def _write_intent(folder: AttemptFolder, spec: RunSpec, tree: str | None) -> None:
    try:
        folder.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.reserve()
        stores = spec.store is not None or (
            spec.machine_end is not None and spec.machine_end.results_url is not None
        )
        names = (*NETWORK, "LANG", "PATH", *(store_variables() if stores else ()))
        kept = {name: os.environ[name] for name in names if name in os.environ}
        durable.write_json(folder.path / "environ.json", kept)
        folder.write_live(Live(created_at=time.time(), phase="starting", tree=tree, saved=saved_folder(spec)))
        folder.log.touch(mode=0o600)
        # Last: an attempt exists from the moment on at which it has a spec.
        folder.write_spec(spec)
    except OSError as error:
        _forget(folder)
        raise AgentError(
            "disk-full", f"the attempt cannot be written down: {error}", "free some space"
        ) from error


def store_variables() -> tuple[str, ...]:
    """Those of ours that a store needs; the script does not get them."""
    from runctl.agent.cloud.s3 import VARIABLES

    return VARIABLES


def _forget(folder: AttemptFolder) -> None:
    (folder.path / "spec.json").unlink(missing_ok=True)
    shutil.rmtree(folder.path, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.path.parent.rmdir()


def _make_contract(folder: AttemptFolder, spec: RunSpec) -> None:
    if not sagemaker.asked(spec):
        return
    try:
        sagemaker.make_folders(spec, folder)
    except AgentError:
        _forget(folder)
        raise
    except OSError as error:
        _forget(folder)
        raise AgentError("cannot-write", f"the folders of --contract cannot be made: {error}") from error


def _leave_machine_end(folder: AttemptFolder, spec: RunSpec) -> None:
    """Before the run: none goes on without it."""
    try:
        machine_end.leave_behind(folder, spec)
    except AgentError:
        _forget(folder)
        raise


def _launch(folder: AttemptFolder, spec: RunSpec) -> None:
    namespace = bool(mountns.to_bind(sagemaker.with_mounts(spec, folder))) and folder_root() is None
    with durable.locked(mountns.lock_of(state_directory() / "targets")):
        pass  # made by this user, so that root does not make it root's
    arguments = [*(["--namespace"] if namespace else []), spec.run_id, str(spec.attempt)]
    tried, errors = [], folder.path / "supervisor.err"
    if under_systemd():
        command = as_root(
            systemd_command(
                spec, namespace, agent_command(), circumstances(), login_user().uid, login_user().gid
            )
        )
        if leaves_behind(command, errors):
            tried.append("systemd-run")
            if _appeared(folder):
                return
    command = (
        agent_as_root("supervise", *arguments) if namespace else [*agent_command(), "supervise", *arguments]
    )
    if not tried and leaves_behind(command, errors) and _appeared(folder):
        return
    said = ""
    with contextlib.suppress(OSError):
        said = errors.read_text(errors="replace").strip()[-2000:]
    # Should it come up after all, it finds that it is not wanted.
    folder.write_stop(
        StopRequest(grace_seconds=0.0, requested_at=time.time(), message="it did not start in time")
    )
    if not _appeared(folder, 0.0):
        _forget(folder)
    raise AgentError(
        "supervisor-failed", "the run's supervisor did not start" + (": " + said if said else "")
    )


def _appeared(folder: AttemptFolder, seconds: float = LAUNCH_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        if folder.live().supervisor is not None or folder.end() is not None:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)


def systemd_command(
    spec: RunSpec, namespace: bool, agent: Sequence[str], env: Mapping[str, str], uid: int, gid: int
) -> list[str]:
    """The supervisor as a unit of its own: a logout, or an update of the SSM agent, does not take it along.

    Only the supervisor is told when the machine shuts down; it tells the script, which has its grace. A process
    that the kernel kills for want of memory does not take the unit with it. Where that is the notice of the machine's
    end, there is time for all that follows it.
    """
    following = MOST_PUBLISH_SECONDS + RESERVE_SECONDS if spec.store is not None else 0.0
    properties = [
        "KillMode=mixed",
        "OOMPolicy=continue",
        "TasksMax=infinity",
        f"TimeoutStopSec={spec.grace_seconds + following + 30:.0f}",
    ]
    flags = ["--namespace", "--foreground"] if namespace else ["--foreground"]
    unit = f"runctl-{spec.run_id}-{spec.attempt}"
    return [
        *systemd_run(unit, properties, env, None if namespace else (uid, gid)),
        *(*agent, "supervise", *flags, spec.run_id, str(spec.attempt)),
    ]
