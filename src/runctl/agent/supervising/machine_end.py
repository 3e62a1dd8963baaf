"""A machine that was rented for a run ends itself when that has ended and its results are safe, with nobody watching.

A process of its own waits for that from the run's start on, so that the machine ends although the supervisor was
killed, and starts with the machine, so that it ends although it was booted anew.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runctl.agent.after_run import EndedRun, GroupEnd, MachineEnd, Stay, why_it_stays
from runctl.agent.encoding import to_json
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.errors import AgentError
from runctl.agent.guard import boot
from runctl.agent.guard.daemon import FOLDER as GUARD_FOLDER
from runctl.agent.machine import durable
from runctl.agent.machine.daemon import (
    circumstances,
    daemonise,
    leaves_behind,
    redirect,
    systemd_run,
    under_systemd,
)
from runctl.agent.machine.root import agent_command, as_root, call_as_root, folder_root, login_user
from runctl.agent.records import AttemptFolder, attempt_folder, attempts, find, taking_up_folder
from runctl.agent.spec import EndRecord, RunSpec
from runctl.agent.supervising.status import conclude_if_gone

POLL_SECONDS = 1.0
RETRY_SECONDS = 30.0
"""After a shutdown that was refused, or that has not ended the machine."""
ERRORS = "machine-end.err"
"""In the attempt's folder: what went wrong."""
FETCHED, READ = "fetched.json", "read.json"
"""In the attempt's folder, once somebody has said so."""
UPLOADED = "results.json"
"""There, once the results are where they belong."""
TROUBLE = "results-trouble.json"
"""There, after a try to upload the results: why it did not succeed."""


def leave_behind(folder: AttemptFolder, spec: RunSpec) -> None:
    """Where the machine is to end with the run, a process waits for that from now on. Raises `AgentError`."""
    wanted = spec.machine_end
    if wanted is None or (wanted.keep and wanted.results_url is None):
        return
    errors = folder.path / ERRORS
    command = [*agent_command(), "end-machine", spec.run_id, str(spec.attempt)]
    if _starts_at_boot(folder):
        return
    if under_systemd():
        user = login_user()
        unit = f"runctl-{spec.run_id}-{spec.attempt}-end"
        start = systemd_run(unit, (), circumstances(), (user.uid, user.gid))
        if leaves_behind([*as_root(start), *command, "--foreground"], errors):
            return
    if not leaves_behind(command, errors):
        raise AgentError(
            "no-machine-end", "the process that is to end the machine after the run did not start", ""
        )


def _starts_at_boot(folder: AttemptFolder) -> bool:
    """The process waits from now on, and after every boot: a machine that is started anew has lost the run's supervisor
    and ends all the same. Only on machines that were set up for it, as they were by who rented them."""
    if folder_root() is not None or not GUARD_FOLDER.is_dir():
        return False
    try:
        call_as_root("end-machine-at-boot", {"run_id": folder.run_id, "attempt": folder.attempt})
    except AgentError as error:
        with contextlib.suppress(OSError):
            (folder.path / ERRORS).write_text(f"it does not start at boot: {error.message}\n")
        return False
    return True


def at_boot(request: Mapping[str, Any]) -> dict[str, Any]:
    """The process of an attempt waits from now on and after every boot; with ``remove`` it starts no more. As root."""
    folder = attempt_folder(str(request.get("run_id")), int(request.get("attempt", 1)))
    name = f"runctl-{folder.run_id}-{folder.attempt}-end"
    try:
        if request.get("remove"):
            boot.remove(name)
            return {}
        argv = [*agent_command(), "end-machine", folder.run_id, str(folder.attempt), "--foreground"]
        boot.start_at_boot(name, "End this machine after its run", argv, circumstances(), login_user().name)
    except (OSError, RuntimeError) as error:
        raise AgentError("no-machine-end", f"{name} cannot be started at boot: {error}", "") from error
    return {}


def end_machine(arguments: list[str]) -> int:
    """Wait and end the machine: ``RUN_ID ATTEMPT [--foreground]``."""
    folder = attempt_folder(arguments[0], int(arguments[1]))
    if "--foreground" not in arguments and not daemonise():
        return 0
    spec = folder.spec()
    if spec is None or spec.machine_end is None:
        return 0
    redirect(folder.path / ERRORS)
    _MachineEnder(folder, spec, spec.machine_end).run()
    if folder_root() is None and GUARD_FOLDER.is_dir():
        with contextlib.suppress(AgentError):
            request = {"run_id": folder.run_id, "attempt": folder.attempt, "remove": True}
            call_as_root("end-machine-at-boot", request)
    return 0


class _MachineEnder:
    """Waits for the end of the run, and of all else that needs the machine."""

    def __init__(self, folder: AttemptFolder, spec: RunSpec, wanted: MachineEnd) -> None:
        self._folder, self._spec, self._wanted = folder, spec, wanted
        # Read now: keys among the run's variables are forgotten at its end.
        self._env = _leading_there(folder, spec, wanted) if wanted.results_url is not None else {}
        # Found now: whoever may have put another in its place later has no say in what ends the machine.
        self._program = shutil.which("shutdown") or "shutdown"
        self._upload_at = 0.0

    def run(self) -> None:
        """Nothing is left to do; or the machine ends, and this with it."""
        said = ""
        while True:
            try:
                if self._poll():
                    return
            except Exception as error:  # noqa: BLE001 (without this process the machine would go on for good)
                if said != repr(error):
                    said = repr(error)
                    sys.stderr.write(traceback.format_exc())
                    sys.stderr.flush()
            time.sleep(POLL_SECONDS)

    def _poll(self) -> bool:
        """Whether nothing is left to do. Uploads the results and ends the machine as soon as it is time."""
        folder = self._folder
        # One whose supervisor has gone is given its end here: it is not waited for.
        ends = {other.path: conclude_if_gone(other)[0] for other in attempts()}
        if any(other.attempt > folder.attempt for other in attempts(folder.run_id)):
            # It has a process of its own that ends the machine.
            return True
        uploaded = self._wanted.results_url is None or (folder.path / UPLOADED).exists()
        uploaded = uploaded or _was_moved(ends.get(folder.path))
        if self._wanted.keep and (uploaded or folder.path not in ends):
            # There is nothing more to upload, and nothing to end.
            return True
        if ends.get(folder.path) is not None and not uploaded and time.monotonic() >= self._upload_at:
            _upload(folder, self._spec, self._env)
            self._upload_at = time.monotonic() + RETRY_SECONDS
        if _is_over(folder, self._wanted, ends):
            if self._wanted.group is None:
                _shut_down(self._program)
            elif ends.get(folder.path) is not None:
                _end_groups(folder.run_id, self._wanted.group)
            time.sleep(RETRY_SECONDS)
        return False


def _leading_there(folder: AttemptFolder, spec: RunSpec, wanted: MachineEnd) -> dict[str, str]:
    """The variables by which the machine reaches where its results go."""
    # Imported where it is needed: most machines have no more to do than to wait.
    from runctl.agent.supervising.publishing import variables

    own = durable.read_json(folder.path / "environ.json") or {}
    return {**wanted.results_env, **variables(spec, own)}


def _upload(folder: AttemptFolder, spec: RunSpec, env: Mapping[str, str]) -> None:
    """Its results are in S3, or the attempt's folder says why they are not."""
    from runctl.agent.supervising.results import upload_results

    trouble = ""
    try:
        upload_results(folder, spec, env)
        durable.write_json(folder.path / UPLOADED, {"at": time.time()})
    except AgentError as error:
        trouble = error.message + (f"; {error.hint}" if error.hint else "")
    except OSError as error:
        trouble = str(error)
    with contextlib.suppress(OSError):
        durable.write_json(folder.path / TROUBLE, {"why": trouble})


def _is_over(folder: AttemptFolder, wanted: MachineEnd, ends: Mapping[Path, EndRecord | None]) -> bool:
    if folder.path not in ends:
        # The run could not be started after all, or was pruned: only other runs need the machine.
        return None not in ends.values()
    end = ends[folder.path]
    return end is not None and stay_of(folder, wanted, end) is None


def end_now(run_id: str, wanted: MachineEnd | None) -> None:
    """The machine, which has nothing to do for the run any more, ends, and its group; tried until it does.

    Returns where it is to stay.
    """
    while wanted is not None and not wanted.keep:
        if wanted.group is None:
            _shut_down(shutil.which("shutdown") or "shutdown")
        else:
            _end_groups(run_id, wanted.group)
        time.sleep(RETRY_SECONDS)


def _end_groups(run_id: str, group: GroupEnd) -> None:
    """The group would replace a machine that only shuts down; it is deleted, and the machine goes with it."""
    # Imported where it is needed: most machines were rented by no group.
    from runctl.agent.cloud.autoscaling import end_groups

    try:
        end_groups(group, own=own_group(run_id))
    except AgentError as error:
        sys.stderr.write(f"{run_id}: {group.group} could not be ended: {error.message}\n")
        sys.stderr.flush()


def own_group(run_id: str) -> str:
    """The group that has rented this machine for the run; empty where nobody has said it."""
    told = durable.read_json(taking_up_folder(run_id) / "request.json") or {}
    return str(told.get("group") or "")


def _shut_down(program: str) -> None:
    """The provider ends a machine that shuts down, and bills it no longer."""
    command = as_root([program, "-h", "now"])
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        problem = f"exit code {done.returncode}: {done.stderr}" if done.returncode else ""
    except OSError as error:
        problem = str(error)
    if problem:
        sys.stderr.write(f"{' '.join(command)}: {problem}\n")
        sys.stderr.flush()


def stay_of(folder: AttemptFolder, wanted: MachineEnd, end: EndRecord, said: str = "") -> Stay | None:
    """Why the machine does not end itself now, after this end of the attempt; ``None``: it does.

    ``said`` is `FETCHED` or `READ` where somebody says that at this moment.
    """
    trouble = durable.read_json(folder.path / TROUBLE) or {}
    return why_it_stays(
        wanted,
        EndedRun(
            seconds=max(0.0, time.time() - end.ended_at),
            completed=end.reason is EndReason.COMPLETED or _was_moved(end),
            taken_back=_is_taken_back(folder, end),
            fetched=said == FETCHED or (folder.path / FETCHED).exists(),
            others=any(other.end() is None for other in attempts() if other.path != folder.path),
            followed=wanted.group is not None and end.run_reason in RETRIED,
            read=said == READ or (folder.path / READ).exists(),
            uploaded=(folder.path / UPLOADED).exists() or _was_moved(end),
            trouble=str(trouble.get("why", "")),
        ),
    )


def _was_moved(end: EndRecord | None) -> bool:
    """The run goes on elsewhere, with all that it needs: its results come from there."""
    return end is not None and end.reason is EndReason.MOVED


def _is_taken_back(folder: AttemptFolder, end: EndRecord) -> bool:
    if end.hand_off is not None and (end.hand_off.is_rehearsal or end.hand_off.moves):
        return False
    # Where another machine of the run is taken back, this one stays until somebody ends it.
    own = end.reason is EndReason.INTERRUPTED and end.caused_by is None
    return own or folder.live().machine_ends_at is not None


def fetched(request: Mapping[str, Any]) -> dict[str, Any]:
    """Whoever asks has everything that they want of the run; with ``only_read`` they have read its end, and the machine
    is to see to its results itself. ``stay`` says why it goes on all the same; ``null``: it ends itself now.

    Raises `AgentError` (``run-goes-on``, ``not-rented``).
    """
    folder = find(request)
    spec, end = folder.spec(), conclude_if_gone(folder)[0]
    if spec is None or spec.machine_end is None:
        raise AgentError("not-rented", f"this machine was not rented for {folder.run_id}")
    if end is None:
        raise AgentError("run-goes-on", f"{folder.run_id} has not ended")
    said = READ if request.get("only_read") else FETCHED
    with contextlib.suppress(OSError):
        # On a full disk the machine waits in vain, for as long as it was told to; whoever asks may end it.
        durable.write_json(folder.path / said, {"at": time.time()})
    return {"stay": to_json(stay_of(folder, spec.machine_end, end, said))}
