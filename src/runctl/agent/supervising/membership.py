"""This machine's part in an attempt that has several and that another one, rank 0, calls for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

from runctl.agent.checkpoints.stores import Store
from runctl.agent.cloud.ec2 import this_machine
from runctl.agent.errors import AgentError
from runctl.agent.records import AttemptFolder, attempt_folder, attempts
from runctl.agent.supervising import preparing
from runctl.agent.supervising.meeting import Meeting, node_of, rank_in
from runctl.agent.supervising.preparing import Needs, needs_of, wanted_spec
from runctl.agent.supervising.stored_ends import StoredEnds
from runctl.agent.supervising.taken_up_attempt import (
    begin,
    followed,
    goes_on,
    is_taken_back,
    rank_of,
    with_same_image,
)

MEET_SECONDS = 1.0
"""How often a machine of an attempt that has several looks whether it is called."""
ASK_PROVIDER_SECONDS = 10.0
"""How often the provider is asked whether another machine has ended."""
GIVE_UP_SECONDS = 6 * 3600.0
"""For how long a store or a provider is asked that does not answer, or refuses: a machine that can do nothing costs
money."""


class Membership:
    """That of one machine in the attempts of one run."""

    def __init__(
        self, run_id: str, instance_id: str, store: Store, meeting: Meeting, say: Callable[[str], None]
    ) -> None:
        self._run_id, self._instance_id = run_id, instance_id
        self._store, self._meeting, self._say = store, meeting, say
        self._needs: Needs | None = None
        """Of the attempt that this machine is prepared for."""

    def part(self, ends: StoredEnds, meanwhile: Callable[[], None]) -> float:
        """The attempt that this machine is called for has ended here. Seconds until it is to be asked again; less than
        0: never. ``meanwhile`` is called while it goes on."""
        going = [each for each in attempts(self._run_id) if goes_on(each)]
        folder = going[-1] if going else self._begun()
        if folder is None:
            return MEET_SECONDS
        # Its supervisor hears of rank 0's lease from rank 0's agent.
        end = followed(folder, meanwhile)
        ends.publish(folder.attempt, end, rank_of(folder))
        return -1.0 if is_taken_back(folder, end) else MEET_SECONDS

    def _begun(self) -> AttemptFolder | None:
        """The attempt, where this machine has been told its rank in it."""
        start = self._meeting.invited(self._prepare)
        needs = self._needs
        if start is None or needs is None or needs.spec.node is None:
            return None
        rank = rank_in(start, self._instance_id)
        if rank is None or attempt_folder(self._run_id, start.attempt).path.exists():
            return None
        spec = replace(
            with_same_image(needs.spec, start.attempt, self._store),
            attempt=start.attempt,
            node=node_of(start, needs.spec.node, rank, self._run_id),
            # Rank 0's machine ends the group, and this one with it, when the results are where they belong.
            machine_end=None,
        )
        return begin(spec, self._say)

    def _prepare(self) -> None:
        needs = needs_of(self._store, wanted_spec(self._store))
        preparing.prepare(needs.run, needs.spec, self._store, first=False, holds=lambda: True, say=self._say)
        self._needs = needs

    def outlives(self, head: str, waits: Callable[[], bool], now: Callable[[], float]) -> bool:
        """Whether ``head``, the machine on which the run has ended, and which sees to the results and ends the group,
        has ended before that; this one waits until it is known, or ``waits`` says that it does not any more."""
        if head == self._instance_id:
            return True
        until = now() + GIVE_UP_SECONDS
        while waits():
            with contextlib.suppress(AgentError):
                if this_machine().has_terminated(head):
                    return True
                until = now() + GIVE_UP_SECONDS
            if now() >= until:
                return True
            time.sleep(ASK_PROVIDER_SECONDS)
        return False
