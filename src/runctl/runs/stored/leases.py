"""A run's lease, as this computer takes it: whoever recovers the run has it meanwhile, and nobody else."""

from __future__ import annotations

import getpass
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from runctl.agent import lease
from runctl.agent.lease import SECONDS, Claim, Found, Lease, Refused
from runctl.agent.lease_keeper import LeaseKeeper
from runctl.checkpoints.download import Prefix
from runctl.core.database import StateError
from runctl.core.errors import Conflict
from runctl.core.files import data_folder, make_private_folder

_TRIES = 8


class StoredLease:
    """The lease at a run's prefix; see `runctl.agent.lease.LeaseStore`."""

    def __init__(self, at: Prefix) -> None:
        self._at = at

    def read(self) -> Found:
        """Raises `StateError`, and what the store raises."""
        found = self._at.storage.version(self._at.bucket, self._at.key(lease.KEY))
        if found is None:
            return Found()
        try:
            return Found(lease.decode(found.data), found.etag, found.age_seconds)
        except ValueError as error:
            raise StateError(f"{self._at}/{lease.KEY} is not a lease: {error}") from error

    def write(self, data: bytes, etag: str) -> str | None:
        """Raises what the store raises."""
        return self._at.storage.replace(self._at.bucket, self._at.key(lease.KEY), data, etag)

    def close(self) -> None:
        """Nothing is held open."""


class HeldElsewhere(Conflict):
    """Another computer recovers the run, or a machine that has taken it up keeps it."""

    code = "held-elsewhere"

    def __init__(self, run_id: str, refused: Refused) -> None:
        super().__init__(
            f"{refused.holder or 'another computer'} has the lease of {run_id}",
            hint=f"runctl runs show {run_id} shows how far it is",
        )
        self.refused = refused


def note_attempt(at: Prefix, run_id: str, attempt: int) -> None:
    """The lease knows that this number was given to an attempt. Raises what the store raises."""
    store = StoredLease(at)
    for _ in range(_TRIES):
        found = store.read()
        if found.lease is not None and found.lease.attempt >= attempt:
            return
        known = found.lease or Lease(run_id)
        noted = replace(known, attempt=attempt, write=secrets.token_hex(16))
        if store.write(lease.encode(noted), found.etag) is not None:
            return


def end_lease(at: Prefix, run_id: str, reason: str) -> bool:
    """Nobody takes up the run any more; false, and nothing has changed, while somebody has the lease.

    Raises what the store raises.
    """
    store = StoredLease(at)
    for _ in range(_TRIES):
        found = store.read()
        if found.lease is not None and found.lease.ended:
            return True
        if lease.refusal(found) is not None:
            return False
        known = found.lease or Lease(run_id)
        ended = replace(known, holder="", token="", ended=reason, write=secrets.token_hex(16))
        if store.write(lease.encode(ended), found.etag) is not None:
            return True
    return False


def peek(at: Prefix) -> Found:
    """The lease as it is now. Raises what `StoredLease.read` raises."""
    return StoredLease(at).read()


@contextmanager
def lease_held(
    at: Prefix, run_id: str, has_ended: Callable[[str], bool] = lambda _: False
) -> Iterator[LeaseKeeper]:
    """This computer has the lease, and renews it, until the block is left.

    ``has_ended`` knows of a holder that can certainly do nothing any more: its time is not waited for.

    One process of this computer at a time may ask (`runctl.runs.recovering.recover` sees to that): what one has left
    that was killed, the next one takes over at once. Raises `HeldElsewhere`, and what the store raises.
    """
    claim = Claim(StoredLease(at), run_id, holder_here(), seconds=SECONDS, token=_token(run_id))
    refused = claim.take(has_ended)
    if refused is not None:
        raise HeldElsewhere(run_id, refused)
    with LeaseKeeper(claim, SECONDS) as keeper:
        yield keeper


def holder_here() -> str:
    """Whom others read that this computer recovers the run for."""
    user = "somebody"
    with suppress(OSError, KeyError):
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"


def _token(run_id: str) -> str:
    folder = data_folder() / "recoveries"
    make_private_folder(folder)
    path: Path = folder / f"{run_id}.token"
    with suppress(OSError):
        found = path.read_text("ascii").strip()
        if found:
            return found
    created = secrets.token_hex(16)
    path.write_text(created, "ascii")
    return created
