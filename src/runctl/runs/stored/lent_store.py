"""A run's store in the bucket that a provider has for the account: its machine gets keys that end, and newer ones while
somebody follows the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import PurePosixPath

from runctl.agent.checkpoint_spec import KEYS_FILE, StoreKeys
from runctl.agent.encoding import dumps
from runctl.agent.object_store import parse_source
from runctl.agent.spec import RunSpec
from runctl.checkpoints.keeping import Keeping, is_own
from runctl.core.errors import RunctlError, Unsupported, UsageError
from runctl.machines.machine import Machine
from runctl.providers.interface import Provider, require

USUAL_SECONDS, LEAST_SECONDS = 900.0, 20.0
"""Between two renewals where the end of the keys is not told, and at least."""


def settle_store(provider: Provider, keeping: Keeping) -> Keeping:
    """Where ``own`` is named, the provider's bucket by its name. Raises `Unsupported`, `UsageError`."""
    if keeping.s3 is None or not is_own(keeping.s3):
        return keeping
    bucket = require(provider.lent_bucket)
    if keeping.endpoint is not None:
        raise UsageError(
            f"--checkpoint-s3 {keeping.s3} is {provider.name}'s own store, and --checkpoint-endpoint names another",
            hint="leave one of them out",
        )
    lent = bucket.lend()
    prefix = keeping.s3.partition("/")[2].strip("/")
    address = f"s3://{lent.bucket}/{prefix or 'runctl'}"
    return replace(keeping, s3=address, endpoint=lent.endpoint, region=lent.region, keys_file=KEYS_FILE)


def bring_keys(machine: Machine) -> StoreKeys:
    """The machine has keys that are new. Raises what lending and `Transport.put` raise."""
    keys = require(machine.provider.lent_bucket).lend().keys
    machine.transport.put(dumps(keys).encode(), PurePosixPath(KEYS_FILE), mode=0o600)
    return keys


def bring_first_keys(machine: Machine, spec: RunSpec) -> None:
    """Before a run is started that needs them."""
    if spec.store is not None and spec.store.keys_file:
        bring_keys(machine)


@contextmanager
def keys_renewed(machine: Machine, store: str | None) -> Iterator[None]:
    """While the block runs the machine has keys that are good, if the run's store is the provider's own."""
    in_bucket = store is not None and store.startswith("s3://")
    if store is None or not in_bucket or isinstance(machine.provider.lent_bucket, Unsupported):
        yield
        return
    done = threading.Event()
    threading.Thread(target=_renew, args=(machine, store, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _renew(machine: Machine, store: str, done: threading.Event) -> None:
    """Again at half of the time that the keys are good for."""
    with suppress(RunctlError, ValueError):
        if require(machine.provider.lent_bucket).lend().bucket != parse_source(store).bucket:
            return
    while not done.is_set():
        pause = LEAST_SECONDS
        # What cannot be brought now is brought a moment later: the machine says meanwhile what it misses.
        with suppress(RunctlError, OSError):
            pause = pause_of(bring_keys(machine), time.time())
        done.wait(pause)


def pause_of(keys: StoreKeys, now: float) -> float:
    """Seconds until the next ones are to be brought. Pure."""
    return USUAL_SECONDS if keys.ends_at is None else max((keys.ends_at - now) / 2, LEAST_SECONDS)
