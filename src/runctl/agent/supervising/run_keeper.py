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
from dataclasses import dataclass, replace
from typing import Callable

from runctl.agent.attempt.watchers.interruption_notice import announced
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints import layout
from runctl.agent.checkpoints.lease_stores import open_lease
from runctl.agent.checkpoints.stores import Store, open_store, read_stored
from runctl.agent.cloud.ec2 import this_machine
from runctl.agent.cloud.metadata import Metadata
from runctl.agent.cloud.spot_notices import TIMEOUT_SECONDS, NoticeReader
from runctl.agent.encoding import dumps, from_json, loads, to_json
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
    attempt_folder,
    attempts,
    lease_file,
    taking_up_folder,
)
from runctl.agent.spec import AttemptStatus, EndRecord, RunSpec, without_values
from runctl.agent.stored_run import (
    RUN,
    SPEC,
    StoredMachine,
    StoredRun,
    by_digest,
    machine_key,
    status_key,
)
from runctl.agent.supervising import machine_end, preparing
from runctl.agent.supervising.meeting import Answer, Meeting, Met, node_of, rank_in
from runctl.agent.supervising.on_demand import OnDemand
from runctl.agent.supervising.status import conclude_if_gone
from runctl.agent.supervising.stop import stop

ASK_SECONDS = 3.0
"""How often a machine that waits asks whose the lease is."""
MEET_SECONDS = 1.0
"""How often a machine of an attempt that has several looks whether it is called."""
POLL_SECONDS = 0.5
RETRY_SECONDS = 5.0
"""After an attempt that could not be started, or a store that does not answer."""
YIELD_SECONDS = 120.0
"""For how long a machine that has handed the run over leaves the lease to whoever asked for it."""
PUBLISH_SECONDS = 600.0
"""For how long the end of a run is tried to be written into the store, before the machine goes on with its own end."""
GIVE_UP_SECONDS = 6 * 3600.0
"""For how long a store is asked that does not answer, or refuses: a machine that can do nothing costs money."""
TEMPORARY = ("store-away", "s3-unreachable", "ec2-unreachable", "lost")
"""What says nothing about an attempt: it is tried again under the same number."""
HOLDER_SECONDS = 10.0
"""How often the provider is asked whether the machine that has the lease has ended."""
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


@dataclass(frozen=True)
class Needs:
    """What an attempt needs, as the prefix has it."""

    spec: RunSpec
    run: StoredRun


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
        self._leaving = False
        self._said = ""
        self._spec: RunSpec | None = None
        self._useful_at = now()
        """When the store, or an attempt, was of use last."""
        self._ask_again_at = now()
        self._unused: int | None = None
        """The number of an attempt that was given to this machine, and has not begun."""
        self._published: set[int] = set()
        """Attempts of this machine whose ends are in the store."""

    def run(self) -> None:
        """The run has ended, or this machine is being taken back."""
        self._notices.start()
        pause = 0.0
        while not self._is_leaving:
            time.sleep(pause)
            try:
                pause = self._round()
                self._useful_at = self._now()
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
        self._publish_ends()
        if self._has_ended():
            return -1.0
        refused = self._claim.take(self._holder_has_ended)
        if refused is not None:
            if refused.ended:
                return self._over(refused.ended)
            self._say(f"{refused.holder or 'another machine'} has the lease: waiting")
            spec = self._spec or self._needs().spec
            if spec.node is not None:
                return self._as_member()
            if refused.holder and self._on_demand.is_this(spec):
                # Its moment has come: the run cannot end in time any more where it is.
                self._claim.ask_holder()
            return ASK_SECONDS
        with LeaseKeeper(self._claim, self._request.lease_seconds, lambda: self._note(keeper)) as keeper:
            self._note(keeper)
            if self._is_leaving:
                return 0.0
            # Only now nobody else can be writing an end.
            if self._has_ended():
                return -1.0
            self._on_demand.took_over(self._needs().spec)
            going = [each for each in attempts(self._run_id) if each.attempt == keeper.attempt]
            if going and conclude_if_gone(going[0])[0] is None:
                # A process before this one has started it, and was killed.
                return self._after(going[0], self._needs(), self._followed(going[0], keeper), keeper)
            return self._attempt(keeper)

    def _holder_has_ended(self, holder: str) -> bool:
        """Whether the lease is that of a machine which died: nobody has to wait until its time is over."""
        if not INSTANCE.fullmatch(holder) or self._now() < self._ask_again_at:
            return False
        self._ask_again_at = self._now() + HOLDER_SECONDS
        with contextlib.suppress(AgentError):
            if this_machine().has_terminated(holder):
                self._say(f"{holder}, which had the lease, has ended")
                return True
        return False

    def _attempt(self, keeper: LeaseKeeper) -> float:
        needs = self._needs()
        before = keeper.attempt - (1 if self._unused == keeper.attempt else 0)
        last = self._last_end(before)
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
                spec = replace(self._with_same_image(needs.spec, number), attempt=number, leased=True)
                if node is not None and met is not None:
                    # From here on the others may have begun the attempt.
                    self._unused = None
                    start = self._meeting.begin(met, number)
                    spec = replace(spec, node=node_of(start, node, 0, self._run_id))
                folder = self._started(spec)
            except AgentError as error:
                if error.code in TEMPORARY and self._unused == number:
                    raise
                trouble = error.message
        self._unused = None
        if trouble:
            self._publish_end(number, EndRecord(EndReason.NOT_STARTED, time.time(), message=trouble))
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

        def goes_on() -> bool:
            self._useful_at = self._now()
            return keeper.holds and not self._is_leaving

        return self._meeting.gathered(node.count, goes_on)

    def _as_member(self) -> float:
        """This machine's part in an attempt that another one calls for; seconds as in `_round`."""
        going = [each for each in attempts(self._run_id) if conclude_if_gone(each)[0] is None]
        if going:
            # A process before this one has started it, and was killed.
            return self._as_member_of(going[-1])
        needs = self._needs()
        node = needs.spec.node
        start = self._meeting.invited(lambda: self._prepare_as_member(needs))
        rank = None if start is None else rank_in(start, self._machine.instance_id)
        if start is None or node is None or rank is None:
            return MEET_SECONDS
        if attempt_folder(self._run_id, start.attempt).path.exists():
            return MEET_SECONDS
        spec = replace(
            self._with_same_image(needs.spec, start.attempt),
            attempt=start.attempt,
            node=node_of(start, node, rank, self._run_id),
            # Rank 0's machine ends the group, and this one with it, when the results are where they belong.
            machine_end=None,
        )
        return self._as_member_of(self._started(spec))

    def _prepare_as_member(self, needs: Needs) -> None:
        preparing.prepare(needs.run, needs.spec, self._store, first=False, holds=lambda: True, say=self._say)

    def _as_member_of(self, folder: AttemptFolder) -> float:
        """The attempt has ended here; its supervisor hears of rank 0's lease from rank 0's agent."""
        while True:
            self._useful_at = self._now()
            end = conclude_if_gone(folder)[0]
            if end is not None:
                break
            time.sleep(POLL_SECONDS)
        if end.reason is EndReason.LOST:
            # Its supervisor was killed: nothing of the script may meet the next attempt.
            stop({"run_id": folder.run_id, "attempt": folder.attempt, "force": True})
        self._publish_end(folder.attempt, end, rank_of(folder))
        return -1.0 if is_taken_back(folder, end) else MEET_SECONDS

    def _with_same_image(self, spec: RunSpec, number: int) -> RunSpec:
        """An image that was pulled is taken by its digest, as an attempt before has got it."""
        container = spec.container
        if container is None or container.image is None or "@" in container.image:
            return spec
        for before in range(number - 1, 0, -1):
            status = read_stored(self._store, status_key(before), AttemptStatus)
            if status is not None and status.image_digest is not None:
                image = by_digest(container.image, status.image_digest)
                return replace(spec, container=replace(container, image=image))
        return spec

    def _started(self, spec: RunSpec) -> AttemptFolder:
        from runctl.agent.supervising.start import start

        if spec.node is not None:
            preparing.forget_checkpoints(spec, attempt_folder(spec.run_id, spec.attempt))
        start({"spec": to_json(spec)})
        self._say(f"attempt {spec.attempt} has begun")
        return attempt_folder(spec.run_id, spec.attempt)

    def _followed(self, folder: AttemptFolder, keeper: LeaseKeeper) -> EndRecord:
        """How the attempt ended. Its supervisor hears of the lease by the file; without one it is stopped here."""
        while True:
            self._useful_at = self._now()
            end, _, _ = conclude_if_gone(folder)
            if end is not None:
                if end.reason is EndReason.LOST:
                    # Its supervisor was killed: nothing of the script may outlive the lease.
                    stop({"run_id": folder.run_id, "attempt": folder.attempt, "force": True})
                return end
            self._on_demand.poll(folder)
            if not keeper.holds:
                with contextlib.suppress(AgentError):
                    stop(
                        {"run_id": folder.run_id, "attempt": folder.attempt, "reason": "LOST", "force": True}
                    )
            time.sleep(POLL_SECONDS)

    def _after(self, folder: AttemptFolder, needs: Needs, end: EndRecord, keeper: LeaseKeeper) -> float:
        asked_by = keeper.wanted_by
        self._publish_end(folder.attempt, end, rank_of(folder))
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

    def _publish_ends(self) -> None:
        """The store has the ends of this machine's attempts that it lacks: those that a process before this one has not
        come to, and one that went on here when the run had already ended."""
        for before in attempts(self._run_id):
            end = before.end()
            if end is not None and before.attempt not in self._published:
                self._publish_end(before.attempt, end, rank_of(before))

    def _has_ended(self) -> bool:
        """Whether an attempt has ended in a way that no other one follows."""
        for key in self._store.keys(layout.ATTEMPTS):
            if layout.is_end_key(key):
                end = read_stored(self._store, key, EndRecord)
                if end is not None and end.run_reason not in RETRIED:
                    self._over(end.run_reason.value)
                    return True
        return False

    def _last_end(self, attempt: int) -> EndRecord | None:
        return read_stored(self._store, layout.end_key(attempt), EndRecord) if attempt else None

    def _publish_end(self, attempt: int, end: EndRecord, rank: int = 0) -> None:
        """The store has the attempt's end, as its machine or this process has written it; tried for a while."""
        until = time.monotonic() + (PUBLISH_SECONDS if end.run_reason not in RETRIED else RETRY_SECONDS)
        while True:
            try:
                self._store.put(layout.end_key(attempt, rank), dumps(end).encode(), only_new=True)
            except AgentError as error:
                self._say(f"the end of attempt {attempt} is not in the store: {error.message}")
                if time.monotonic() >= until:
                    return
                time.sleep(RETRY_SECONDS)
            else:
                self._published.add(attempt)
                return

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
        """Whether the machine on which the run has ended, which sees to the results and ends the group, has ended
        before that; this one waits until it is known, or its own end comes."""
        lease = self._lease.read().lease
        head = (
            read_stored(self._store, machine_key(lease.attempt), StoredMachine) if lease is not None else None
        )
        if head is None or head.instance_id == self._machine.instance_id:
            return True
        until = self._now() + GIVE_UP_SECONDS
        while not self._is_leaving:
            self._publish_ends()
            with contextlib.suppress(AgentError):
                if this_machine().has_terminated(head.instance_id):
                    return True
                until = self._now() + GIVE_UP_SECONDS
            if self._now() >= until:
                return True
            time.sleep(HOLDER_SECONDS)
        return False

    def _needs(self) -> Needs:
        try:
            self._spec = from_json(RunSpec, loads(self._store.read(SPEC)))
            return Needs(self._spec, from_json(StoredRun, loads(self._store.read(RUN))))
        except (TypeError, ValueError) as error:
            raise AgentError("store-corrupt", f"what the run needs cannot be read: {error}") from error

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
