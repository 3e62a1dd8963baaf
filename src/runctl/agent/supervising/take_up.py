"""``take-up``: this machine takes up a run of which it knows nothing but the address of its prefix in a store.

A process of its own waits for the run's lease, for as long as it takes: see `runctl.agent.supervising.run_keeper`.
"""

from __future__ import annotations

import contextlib
import fcntl
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runctl.agent.checkpoints.stores import open_store
from runctl.agent.encoding import from_json
from runctl.agent.errors import AgentError
from runctl.agent.machine import durable
from runctl.agent.machine.daemon import (
    circumstances,
    daemonise,
    leaves_behind,
    redirect,
    systemd_run,
    under_systemd,
)
from runctl.agent.machine.root import agent_command, as_root, login_user
from runctl.agent.records import taking_up_folder
from runctl.agent.stored_run import SPEC
from runctl.agent.supervising.run_keeper import Request, RunKeeper, variables

UNIT_PROPERTIES = ("Restart=on-failure", "RestartSec=5", "TimeoutStopSec=180")
"""It comes back when it was killed, and has time to give the lease up when the machine goes down."""
ERRORS = "errors"


def take_up(request: Mapping[str, Any]) -> dict[str, Any]:
    """A process that takes up the run is there, this one or one from an earlier call; returns at once.

    The request is a `Request`. Raises `AgentError` (``bad-request``, ``supervisor-failed``), and what a store raises
    that cannot be read from here.
    """
    try:
        wanted = from_json(Request, request)
    except (TypeError, ValueError) as error:
        raise AgentError("bad-request", f"the request cannot be read: {error}") from error
    folder = taking_up_folder(wanted.run_id)
    with contextlib.closing(open_store(wanted.store, wanted.run_id, variables())) as store:
        store.read(SPEC)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable.write_json(folder / "request.json", wanted)
    command = [*agent_command(), "keep-run", wanted.run_id]
    if under_systemd():
        user = login_user()
        # A name of its own, so that a second call fails where the first one's process goes on.
        unit = f"runctl-{wanted.run_id}-take-up"
        start = systemd_run(unit, UNIT_PROPERTIES, circumstances(), (user.uid, user.gid))
        if _is_there(folder) or leaves_behind([*as_root(start), *command, "--foreground"], folder / ERRORS):
            return {"run_id": wanted.run_id}
    if not leaves_behind(command, folder / ERRORS):
        raise AgentError("supervisor-failed", f"the process that takes up {wanted.run_id} did not start")
    return {"run_id": wanted.run_id}


def keep_run(arguments: list[str]) -> int:
    """Take up the run and keep it: ``RUN_ID [--foreground]``. One such process for a run goes on at a time."""
    folder = taking_up_folder(arguments[0])
    data = durable.read_json(folder / "request.json")
    if data is None or ("--foreground" not in arguments and not daemonise()):
        return 0
    redirect(folder / ERRORS)
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return 0
        keeper = RunKeeper(from_json(Request, data))
        signal.signal(signal.SIGTERM, lambda *_: keeper.leave())
        keeper.run()
    return 0


def _is_there(folder: Path) -> bool:
    with contextlib.suppress(OSError), (folder / "lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
