"""What a machine does that takes up a run: it waits for the run's lease, and keeps that while an attempt goes on.

A machine that ended itself for want of the lease would be replaced for ever. It reads first whether the run has ended;
a run that has is never started again. With the lease it gives the attempt its number, attaches and mounts the volumes,
fetches the project and starts the attempt as ``start`` does. Where an attempt has several machines, whoever has the
lease is rank 0, and calls the others (`runctl.agent.supervising.meeting`).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
import traceback
from dataclasses import replace
from typing import Callable

from runctl._dataclasses import dataclass
from runctl.agent.attempt.watchers.interruption_notice import announced
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints.lease_stores import open_lease
from runctl.agent.checkpoints.stores import Store, open_store, read_stored
from runctl.agent.cloud.ec2 import this_machine
from runctl.agent.cloud.metadata import Metadata
from runctl.agent.cloud.spot_notices import TIMEOUT_SECONDS, NoticeReader
from runctl.agent.encoding import dumps
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.errors import AgentError
from runctl.agent.lease import SECONDS, Claim
from runctl.agent.lease_keeper import LeaseKeeper
from runctl.agent.machine import durable
from runctl.agent.machine.root import machine_variables
from runctl.agent.node_spec import NodeSpec
from runctl.agent.records import (
    AttemptFolder,
    HeldLease,
    attempts,
    lease_file,
    taking_up_folder,
)
from runctl.agent.spec import EndRecord, RunSpec, without_values
from runctl.agent.stored_run import (
    SPEC,
    StoredMachine,
    machine_key,
)
from runctl.agent.supervising import machine_end, preparing
from runctl.agent.supervising.meeting import Answer, Meeting, Met, node_of
from runctl.agent.supervising.membership import ASK_PROVIDER_SECONDS, GIVE_UP_SECONDS, Membership
from runctl.agent.supervising.on_demand import OnDemand
from runctl.agent.supervising.preparing import Needs, needs_of, wanted_spec
from runctl.agent.supervising.stop import stop
from runctl.agent.supervising.stored_ends import StoredEnds
from runctl.agent.supervising.taken_up_attempt import (
    begin,
    followed,
    goes_on,
    has_ended_the_run,
    is_taken_back,
    rank_of,
    with_same_image,
)

ASK_SECONDS = 3.0
"""How often a machine that waits asks whose the lease is."""
RETRY_SECONDS = 5.0
"""After an attempt that could not be started, or a store that does not answer."""
YIELD_SECONDS = 120.0
"""For how long a machine that has handed the run over leaves the lease to whoever asked for it."""
TEMPORARY = ("store-away", "s3-unreachable", "ec2-unreachable", "lost")
"""What says nothing about an attempt: it is tried again under the same number."""
INSTANCE = re.compile(r"i-[0-9a-f]+")
"""A holder that is a machine of the provider's, and not a program on a computer."""


@dataclass(frozen=True)
class Request:
    """What the machine is told."""

    url: str
    """The run's prefix: ``s3://bucket/prefix/RUN_ID``, or a folder."""
    endpoint: str = ""
    region: str = ""
    lease_seconds: float = SECONDS
    group: str = ""
    """That has rented this machine, where the run has several."""
    address: str = ""
    """At which the run's other machines reach this one; empty: at its private address."""

    @property
    def run_id(self) -> str:
        """The run's: the last part of the address."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def store(self) -> StoreSpec:
        """What the prefix is in."""
        return StoreSpec(self.url.rstrip("/").rpartition("/")[0], self.endpoint, self.region)


def _token(run_id: str) -> str:
    """By which the lease is known again when this process was killed: one at a time goes on, and this is it."""
    path = taking_up_folder(run_id) / "token.json"
    known = durable.read_json(path) or {"token": os.urandom(16).hex()}
    durable.write_json(path, known)
    return str(known["token"])


def variables() -> dict[str, str]:
    """The machine's own, as every login has them, and this process's."""
    return {**machine_variables(), **os.environ}


class RunKeeper:
    """This machine's claim to one run, from the first question to the run's end."""

    def __init__(self, request: Request, now: Callable[[], float] = time.monotonic) -> None:
        self._request, self._run_id = request, request.run_id
        self._now = now
        self._env = variables()
        self._store: Store = open_store(request.store, request.run_id, self._env)
        self._machine = preparing.describe(self._env)
        self._notices = NoticeReader(Metadata(self._env, TIMEOUT_SECONDS))
        self._lease = open_lease(request.store, request.run_id, self._env)
        self._claim = Claim(
            self._lease,
            request.run_id,
            self._machine.instance_id,
            seconds=request.lease_seconds,
            token=_token(request.run_id),
        )
        self._on_demand = OnDemand(request.group, self._store, self._say)
        own = Answer(self._machine.instance_id, request.address or preparing.private_address(self._env))
        self._meeting = Meeting(self._store, own, self._say)
        self._membership = Membership(
            request.run_id, self._machine.instance_id, self._store, self._meeting, self._say
        )
        self._ends = StoredEnds(self._store, request.run_id, self._say)
        self._leaving = False
        self._said = ""
        self._spec: RunSpec | None = None
        self._useful_at = now()
        """When the store, or an attempt, was of use last."""
        self._ask_again_at = now()
        self._unused: int | None = None
        """The number of an attempt that was given to this machine, and has not begun."""

    def run(self) -> None:
        """The run has ended, or this machine is being taken back."""
        self._notices.start()
        pause = 0.0
        while not self._is_leaving:
            time.sleep(pause)
            try:
                pause = self._round()
                self._note_use()
            except AgentError as error:
                pause = RETRY_SECONDS
                self._say(f"{error.code}: {error.message}")
            except Exception:  # noqa: BLE001 (without this process nobody on the machine would take up the run)
                pause = RETRY_SECONDS
                self._say(traceback.format_exc())
            if pause < 0:
                break
            if self._spec is not None and self._now() - self._useful_at > GIVE_UP_SECONDS:
                self._say("giving up: the store could not be used for hours")
                machine_end.end_now(self._run_id, self._spec.machine_end)
                break
        self._lease.close()
        self._store.close()

    @property
    def _is_leaving(self) -> bool:
        """This machine takes up nothing more: its end is announced, or it goes down."""
        return self._leaving or announced(self._notices) is not None

    def leave(self) -> None:
        """The machine goes down: what goes on here is followed to its end, and nothing else taken up."""
        self._leaving = True

    def _round(self) -> float:
        """Seconds until it is to be asked again; less than 0: never."""
        self._ends.publish_left()
        ended = self._ends.of_the_run()
        if ended is not None:
            return self._over(ended.value)
        refused = self._claim.take(self._holder_has_ended)
        if refused is not None:
            if refused.ended:
                return self._over(refused.ended)
            self._say(f"{refused.holder or 'another machine'} has the lease: waiting")
            spec = self._spec or self._needs().spec
            if spec.node is not None:
                return self._membership.part(self._ends, self._note_use)
            if refused.holder and self._on_demand.is_this(spec):
                # Its moment has come: the run cannot end in time any more where it is.
                self._claim.ask_holder()
            return ASK_SECONDS
        with LeaseKeeper(self._claim, self._request.lease_seconds, lambda: self._note(keeper)) as keeper:
            self._note(keeper)
            if self._is_leaving:
                return 0.0
            # Only now nobody else can be writing an end.
            ended = self._ends.of_the_run()
            if ended is not None:
                return self._over(ended.value)
            self._on_demand.took_over(self._needs().spec)
            going = [each for each in attempts(self._run_id) if each.attempt == keeper.attempt]
            if going and goes_on(going[0]):
                return self._after(going[0], self._needs(), self._followed(going[0], keeper), keeper)
            return self._attempt(keeper)

    def _holder_has_ended(self, holder: str) -> bool:
        """Whether the lease is that of a machine which died: nobody has to wait until its time is over."""
        if not INSTANCE.fullmatch(holder) or self._now() < self._ask_again_at:
            return False
        self._ask_again_at = self._now() + ASK_PROVIDER_SECONDS
        with contextlib.suppress(AgentError):
            if this_machine().has_terminated(holder):
                self._say(f"{holder}, which had the lease, has ended")
                return True
        return False

    def _attempt(self, keeper: LeaseKeeper) -> float:
        needs = self._needs()
        before = keeper.attempt - (1 if self._unused == keeper.attempt else 0)
        last = self._ends.of_attempt(before)
        if before >= needs.run.max_attempts:
            reason = last.run_reason.value if last is not None else EndReason.LOST.value
            self._say(f"the run has had {before} of {needs.run.max_attempts} attempts")
            keeper.give_up(reason)
            return self._over(reason)
        trouble = ""
        try:
            preparing.prepare(
                needs.run,
                needs.spec,
                self._store,
                first=not before,
                holds=lambda: keeper.holds,
                say=self._say,
            )
        except AgentError as error:
            if error.code in TEMPORARY:
                raise
            trouble = error.message
        node, met = needs.spec.node, None
        if node is not None and not trouble:
            met = self._met(node, keeper)
            if met is None:
                return RETRY_SECONDS
        number = self._number(keeper)
        if number is None:
            return ASK_SECONDS
        if node is not None and met is not None:
            self._meeting.remember(met, number, node.engine, node.enough)
        machine = replace(self._machine, created_at=time.time())
        self._store.put(machine_key(number), dumps(machine).encode())
        if not trouble:
            try:
                spec = replace(with_same_image(needs.spec, number, self._store), attempt=number, leased=True)
                if node is not None and met is not None:
                    # From here on the others may have begun the attempt.
                    self._unused = None
                    start = self._meeting.begin(met, number)
                    spec = replace(spec, node=node_of(start, node, 0, self._run_id))
                folder = begin(spec, self._say)
            except AgentError as error:
                if error.code in TEMPORARY and self._unused == number:
                    raise
                trouble = error.message
        self._unused = None
        if trouble:
            end = EndRecord(EndReason.NOT_STARTED, time.time(), message=trouble)
            self._ends.publish(number, end, 0)
            self._say(f"attempt {number} could not be started: {trouble}")
            return RETRY_SECONDS
        end = self._followed(folder, keeper)
        return self._after(folder, needs, end, keeper)

    def _number(self, keeper: LeaseKeeper) -> int | None:
        """That of the attempt that comes next; the one that was given to this machine before, where its attempt could
        not begin because the store did not answer. ``None``: the lease is not this machine's any more."""
        if self._unused is None or self._unused != keeper.attempt:
            self._unused = keeper.begin_attempt()
        return self._unused

    def _met(self, node: NodeSpec, keeper: LeaseKeeper) -> Met | None:
        """The machines of an attempt that has several, once all are there; ``None``: this one is not to wait."""

        def waits() -> bool:
            self._note_use()
            return keeper.holds and not self._is_leaving

        return self._meeting.gathered(node.count, waits)

    def _followed(self, folder: AttemptFolder, keeper: LeaseKeeper) -> EndRecord:
        """How the attempt ended. Its supervisor hears of the lease by the file; without one it is stopped here."""

        def meanwhile() -> None:
            self._note_use()
            self._on_demand.poll(folder)
            if not keeper.holds:
                with contextlib.suppress(AgentError):
                    stop(
                        {"run_id": folder.run_id, "attempt": folder.attempt, "reason": "LOST", "force": True}
                    )

        return followed(folder, meanwhile)

    def _after(self, folder: AttemptFolder, needs: Needs, end: EndRecord, keeper: LeaseKeeper) -> float:
        asked_by = keeper.wanted_by
        self._ends.publish(folder.attempt, end, rank_of(folder))
        if end.run_reason not in RETRIED:
            keeper.give_up(end.run_reason.value)
            return self._over(end.run_reason.value)
        if needs.spec.node is not None:
            # Else whoever calls the machines next does it.
            with contextlib.suppress(AgentError):
                self._meeting.forget()
        if asked_by:
            preparing.let_go(needs.run, self._say)
        keeper.give_up()
        if is_taken_back(folder, end):
            return -1.0
        return YIELD_SECONDS if asked_by else RETRY_SECONDS

    def _over(self, reason: str) -> float:
        """The run has ended for good, here or elsewhere: the machine has nothing left to do."""
        self._say(f"the run has ended: {reason}")
        spec = self._needs().spec
        bare = without_values(spec)
        if bare != spec:
            # Nobody starts it again: what is secret in it has no use any more.
            self._store.put(SPEC, dumps(bare).encode())
        if spec.node is not None:
            self._meeting.forget()
        known = attempts(self._run_id)
        if any(has_ended_the_run(each) for each in known):
            # A process of the attempt's own sees to the machine's end.
            return -1.0
        may_be_seen_to = EndReason(reason) not in RETRIED and (known or spec.node is not None)
        if not may_be_seen_to or self._head_has_ended():
            machine_end.end_now(self._run_id, spec.machine_end)
        return -1.0

    def _head_has_ended(self) -> bool:
        """Whether nobody but this machine is there any more to end the group; see `Membership.outlives`."""

        def waits() -> bool:
            if self._is_leaving:
                return False
            self._ends.publish_left()
            return True

        lease = self._lease.read().lease
        head = (
            read_stored(self._store, machine_key(lease.attempt), StoredMachine) if lease is not None else None
        )
        return head is None or self._membership.outlives(head.instance_id, waits, self._now)

    def _needs(self) -> Needs:
        # Where the rest cannot be read, the machine knows at least how it is to end.
        self._spec = wanted_spec(self._store)
        return needs_of(self._store, self._spec)

    def _note_use(self) -> None:
        self._useful_at = self._now()

    def _note(self, keeper: LeaseKeeper) -> None:
        """The attempt's supervisor sees how far the lease is."""
        until = max(0.0, keeper.until)
        held = HeldLease(until, self._request.lease_seconds, keeper.wanted_by, keeper.trouble)
        with contextlib.suppress(OSError):
            durable.write_json(lease_file(self._run_id), held)

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            sys.stderr.write(time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()) + text.rstrip() + "\n")
            sys.stderr.flush()
