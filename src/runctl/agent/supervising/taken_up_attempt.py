"""An attempt of a run that this machine has taken up: begun as ``start`` does it, and followed to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from runctl.agent.checkpoints.stores import Store, read_stored
from runctl.agent.encoding import to_json
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.records import AttemptFolder, attempt_folder
from runctl.agent.spec import AttemptStatus, EndRecord, RunSpec
from runctl.agent.stored_run import by_digest, status_key
from runctl.agent.supervising import preparing
from runctl.agent.supervising.status import conclude_if_gone
from runctl.agent.supervising.stop import stop

POLL_SECONDS = 0.5


def rank_of(folder: AttemptFolder) -> int:
    """This machine's in the attempt; 0 where it has no others."""
    spec = folder.spec()
    return spec.node.rank if spec is not None and spec.node is not None else 0


def is_taken_back(folder: AttemptFolder, end: EndRecord) -> bool:
    """Whether this machine, on which the attempt has ended, is taken back by its provider."""
    rehearsed = end.hand_off is not None and end.hand_off.is_rehearsal
    return folder.live().machine_ends_at is not None and not rehearsed


def has_ended_the_run(folder: AttemptFolder) -> bool:
    """Whether the attempt has ended here in a way that no other one follows: a process of its own sees to what comes
    then. Of several machines rank 0 has it."""
    end = folder.end()
    return end is not None and end.run_reason not in RETRIED and rank_of(folder) == 0


def goes_on(folder: AttemptFolder) -> bool:
    """Whether the attempt has not ended: a process before this one may have started it, and was killed."""
    return conclude_if_gone(folder)[0] is None


def with_same_image(spec: RunSpec, number: int, store: Store) -> RunSpec:
    """An image that was pulled is taken by its digest, as an attempt before ``number`` has got it."""
    container = spec.container
    if container is None or container.image is None or "@" in container.image:
        return spec
    for before in range(number - 1, 0, -1):
        status = read_stored(store, status_key(before), AttemptStatus)
        if status is not None and status.image_digest is not None:
            image = by_digest(container.image, status.image_digest)
            return replace(spec, container=replace(container, image=image))
    return spec


def begin(spec: RunSpec, say: Callable[[str], None]) -> AttemptFolder:
    """The attempt has begun. Raises what `runctl.agent.supervising.start.start` raises."""
    from runctl.agent.supervising.start import start

    if spec.node is not None:
        preparing.forget_checkpoints(spec, attempt_folder(spec.run_id, spec.attempt))
    start({"spec": to_json(spec)})
    say(f"attempt {spec.attempt} has begun")
    return attempt_folder(spec.run_id, spec.attempt)


def followed(folder: AttemptFolder, meanwhile: Callable[[], None]) -> EndRecord:
    """How the attempt ended. ``meanwhile`` is called for as long as it goes on, every `POLL_SECONDS`."""
    while True:
        end = conclude_if_gone(folder)[0]
        if end is not None:
            if end.reason is EndReason.LOST:
                # Its supervisor was killed: nothing of the script may outlive the lease, or meet the next attempt.
                stop({"run_id": folder.run_id, "attempt": folder.attempt, "force": True})
            return end
        meanwhile()
        time.sleep(POLL_SECONDS)
