"""What is remembered of a run: its record, made here only, and how each word of a machine or a provider changes it.
Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath

from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.deadline import MOST_RESTART_SECONDS
from runctl.agent.deadline_spec import DeadlineSpec, ProgressStatus
from runctl.agent.interruption import HandOff as HandOffSpec
from runctl.agent.spec import RETRIED, AttemptStatus, EndReason, EndRecord, RunSpec
from runctl.core.errors import InstanceEnded
from runctl.core.ids import InstanceId, RunId, VolumeId
from runctl.core.machine_models import Instance, Market, Mount
from runctl.core.run_models import (
    GitState,
    MovedVolume,
    Run,
    RunAttempt,
    RunPhase,
    SpotFallback,
    UnattendedRun,
)
from runctl.core.tags import ATTEMPT, NAME, RUN
from runctl.runs.deadlines.standing import shown_deadline, shown_progress
from runctl.runs.records.agent_models import (
    as_hand_off,
    as_mount,
    as_newest,
    machine_after_run,
    moment,
    phase_of,
)
from runctl.runs.records.node_records import KnownNodes

STARTING = timedelta(minutes=2)
"""For an attempt to be told to its machine, once it was written down that it is."""
_MADE_FOR_RUN = frozenset(
    {"attempts", "cost", "elapsed_seconds", "end_reason", "hand_off", "machine_end", "checkpoint", "progress"}
    | {"deadline", "engine", "nodes"}
)
"""What a `Run` has in another form than its record."""


@dataclass(frozen=True)
class KnownAttempt:
    """An attempt, or what is remembered of one that another has followed."""

    attempt: int
    instance_id: InstanceId
    instance_type: str | None
    market: str | None
    zone: str | None
    price_per_hour: Decimal | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    end_reason: EndReason | None
    message: str
    checkpoint: CheckpointStatus | None
    resumed: CheckpointStatus | None
    fallback: SpotFallback | None = None
    progress: ProgressStatus | None = None
    lead_seconds: float | None = None
    machines: tuple[InstanceId, ...] = ()
    """All of them, by rank; empty: ``instance_id`` alone."""
    nodes_token: str | None = None
    """By which what was made beside several machines is found; ``None``: nothing of that is left."""


@dataclass(frozen=True)
class RunRecord:
    """A run, and what is needed to find it again and to say what it cost."""

    id: RunId
    provider: str
    region: str | None
    instance_id: InstanceId
    project: str
    script: str
    args: tuple[str, ...]
    state: RunPhase
    attempt: int
    created_at: datetime
    mounts: tuple[Mount, ...] = ()
    image: str | None = None
    instance_type: str | None = None
    market: str | None = None
    price_per_hour: Decimal | None = None
    """USD, of the instance, when the run began."""
    end_reason: EndReason | None = None
    exit_code: int | None = None
    message: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    checkpoint_dir: str | None = None
    """On the machine."""
    output_dir: str | None = None
    name: str | None = None
    """The user's, for people; not unique."""
    instance_name: str | None = None
    """What the user called the instance when the run began."""
    interpreter: tuple[str, ...] = ()
    workdir: str | None = None
    timeout_seconds: float | None = None
    image_digest: str | None = None
    variables: tuple[str, ...] = ()
    """Names of what the user set in the script's environment; never values."""
    git: GitState | None = None
    saved_volume: VolumeId | None = None
    saved_folder: str | None = None
    """On ``saved_volume``, from the root of its file system: ``checkpoints``, ``output`` and ``logs`` are there."""
    log_bytes: int | None = None
    log_sha256: str | None = None
    """Of the whole log; once the run has ended."""
    hand_off: HandOffSpec | None = None
    """What the attempt has left for the next one, if its machine was taken back."""
    machine_end: MachineEnd | None = None
    """What becomes of the machine, which was rented for the run; ``None``: it was not."""
    results: str | None = None
    """Where what the run wrote is brought after it: a folder of this computer, or an address."""
    zone: str | None = None
    store: str | None = None
    """Where its checkpoints and its log are kept besides: below ``STORE/ID/``."""
    checkpoint: CheckpointStatus | None = None
    """The newest complete one, when the machine was last asked."""
    resumed: CheckpointStatus | None = None
    """What the attempt went on from; ``None``: from the beginning, or not known yet."""
    fallback: SpotFallback | None = None
    """The attempt was to be on a spot machine."""
    moved_volumes: tuple[MovedVolume, ...] = ()
    """Each time that a volume has followed the run to another zone."""
    progress: ProgressStatus | None = None
    """How far the script said last that it is."""
    deadline: DeadlineSpec | None = None
    lead_seconds: float | None = None
    """From the request for the attempt's machine until the attempt was sent there; ``None``: the machine was there."""
    past: tuple[KnownAttempt, ...] = ()
    """The attempts before this one, the first one first."""
    unattended: UnattendedRun | None = None
    """How it goes on with no computer watching it; ``None``: its machine was not rented by a group."""
    nodes: KnownNodes | None = None
    """Its machines, of which ``instance_id`` is rank 0's; ``None``: it has one."""
    search_began_at: datetime | None = None
    """When a machine was looked for first after this attempt; ``None``: not yet. Nobody may have looked for long."""
    account: str | None = None
    """Who is billed for its machines, as the provider names it; ``None``: nobody, or it is not known."""
    clock_ahead: float = 0.0
    """Seconds by which the machine's clock is ahead of this computer's. The times above are by the machine's."""

    def by_its_clock(self, now: datetime) -> datetime:
        """What the machine's clock shows when this computer's shows ``now``."""
        return now + timedelta(seconds=self.clock_ahead)

    @property
    def has_ended(self) -> bool:
        """Whether nothing about it can change any more."""
        return self.state is RunPhase.ENDED

    @property
    def needs_refresh(self) -> bool:
        """Whether the run's group can have changed it, or has left something."""
        return self.unattended is not None and not self.unattended.is_removed

    @property
    def machines(self) -> tuple[InstanceId, ...]:
        """Those of the newest attempt, by rank; empty: it has none yet."""
        if self.nodes is not None:
            return self.nodes.machines
        return (self.instance_id,) if self.instance_id else ()

    @property
    def nodes_token(self) -> str | None:
        """By which what was made beside its machines is found, if it has several."""
        return None if self.nodes is None else self.nodes.token

    def rank_on(self, instance_id: str) -> int | None:
        """The rank that this machine has, or had in an earlier attempt; ``None``: it is none of the run's."""
        for machines in (
            self.machines,
            *(each.machines or (each.instance_id,) for each in reversed(self.past)),
        ):
            if instance_id in machines:
                return machines.index(InstanceId(instance_id))
        return None

    def whole_log(self, rank: int = 0) -> tuple[int | None, str | None]:
        """Length in bytes and SHA-256 of the log that this machine has written, once it has ended there."""
        if self.nodes is None:
            return self.log_bytes, self.log_sha256
        end = self.nodes.ends.get(rank)
        return (None, None) if end is None else (end.log_bytes, end.log_sha256)

    def cost(self, now: datetime) -> Decimal | None:
        """USD for the instances of all attempts, each from the attempt's creation to its end, or to ``now``."""
        if self.price_per_hour is None or not self.instance_id:
            return None
        paid = Decimal(str(self._seconds(self.created_at, now))) * len(self.machines)
        cost = self.price_per_hour * paid / 3600
        for before in self.past:
            if before.price_per_hour is not None and before.ended_at is not None:
                seconds = max((before.ended_at - before.created_at).total_seconds(), 0.0)
                cost += before.price_per_hour * Decimal(str(seconds)) / 3600 * max(1, len(before.machines))
        return cost

    def _seconds(self, since: datetime, now: datetime) -> float:
        until = self.ended_at or self.by_its_clock(now)
        return max((until - since).total_seconds(), 0.0)

    def as_run(self, now: datetime) -> Run:
        """As the JSON contract shows it."""
        shared = {
            field.name: getattr(self, field.name) for field in fields(Run) if field.name not in _MADE_FOR_RUN
        }
        shared["engine"] = None if self.nodes is None else self.nodes.engine
        shared["nodes"] = () if self.nodes is None else tuple(each.as_run_node() for each in self.nodes.nodes)
        shared["attempts"] = attempts_of(self)
        shared["checkpoint"] = None if self.checkpoint is None else as_newest(self.checkpoint)
        ended = self.has_ended
        shared["progress"] = shown_progress(self.progress, self.by_its_clock(now), ended=ended)
        shared["deadline"] = shown_deadline(
            self,
            (*self.past, as_known(self)),
            now,
            is_over=ended and self.end_reason not in RETRIED,
        )
        shared["hand_off"] = None if self.hand_off is None else as_hand_off(self.hand_off)
        shared["machine_end"] = machine_after_run(self.machine_end) if self.machine_end else None
        reason = self.end_reason.value if self.end_reason is not None else None
        elapsed = round(self._seconds(self.started_at, now), 1) if self.started_at else None
        return Run(**shared, end_reason=reason, cost=self.cost(now), elapsed_seconds=elapsed)


def planned(
    spec: RunSpec,
    instance: Instance,
    now: datetime,
    region: str | None,
    *,
    account: str | None = None,
    name: str | None = None,
    git: GitState | None = None,
    fallback: SpotFallback | None = None,
) -> RunRecord:
    """What is remembered of a run before its machine has been told of it."""
    return RunRecord(
        id=RunId(spec.run_id),
        provider=instance.provider,
        region=region,
        instance_id=instance.id,
        project=spec.project,
        script=spec.script,
        args=spec.args,
        state=RunPhase.PENDING,
        attempt=spec.attempt,
        created_at=now,
        account=account,
        mounts=tuple(as_mount(mount) for mount in spec.mounts),
        image=spec.container.image if spec.container else None,
        instance_type=instance.instance_type,
        market=instance.market.value,
        price_per_hour=instance.price_per_hour,
        name=name,
        instance_name=instance.tags.get(NAME),
        interpreter=spec.interpreter,
        workdir=spec.container.workdir if spec.container else spec.workdir,
        timeout_seconds=spec.timeout_seconds,
        variables=tuple(sorted(spec.env)),
        git=git,
        fallback=fallback,
        machine_end=spec.machine_end,
        zone=instance.zone,
        store=spec.store.url if spec.store is not None else None,
        deadline=spec.deadline,
        lead_seconds=_lead_seconds(spec, instance, now),
    )


def fell_back(wanted: Market, instance: Instance, spot_price_per_hour: Decimal | None) -> SpotFallback | None:
    """That the machine is on demand where spot was asked for; ``None``: it is not so."""
    if wanted is not Market.SPOT or instance.market is not Market.ON_DEMAND:
        return None
    return SpotFallback(spot_price_per_hour)


def _lead_seconds(spec: RunSpec, instance: Instance, now: datetime) -> float | None:
    """See `RunRecord.lead_seconds`. A machine that is much older was rented for something else, or waited for long."""
    lead = (now - instance.created_at).total_seconds()
    return max(0.0, lead) if spec.machine_end is not None and lead <= MOST_RESTART_SECONDS else None


def adopted(
    known: RunRecord | None,
    status: AttemptStatus,
    instance: Instance,
    now: datetime,
    region: str | None,
    account: str | None = None,
) -> RunRecord:
    """What is ``known`` here of a run that its machine tells of, or a new record of what the machine knows.

    Of a run on several machines one of them tells nothing that is true of all: that stays as it is known. So does one
    that is on another machine.
    """
    if known is not None and (known.nodes is not None or not is_machine_of(known, instance)):
        return known
    if known is not None and known.account is None:
        known = replace(known, account=account)
    if known is None:
        spec = RunSpec(
            run_id=status.run_id,
            script=status.script,
            args=status.args,
            project=status.project,
            attempt=status.attempt,
        )
        known = planned(spec, instance, now, region, account=account)
    return from_status(known, status, now)


def is_machine_of(record: RunRecord, instance: Instance) -> bool:
    """Whether the machine may say how the run is: it is one of the newest attempt's, or was rented for the run, as the
    tags say that its provider has. Any machine could say that it has a run by that id. Pure."""
    rented_for = {instance.tags.get(RUN), instance.tags.get(ATTEMPT, "").partition("/")[0]}
    return instance.id in record.machines or record.id in rented_for


def from_status(record: RunRecord, status: AttemptStatus, now: datetime) -> RunRecord:
    """The record with what the agent says of the attempt, at ``now`` by this computer's clock.

    From then on every time in it is by the machine's clock, so that no duration is between two clocks.
    """
    there = moment(status.now)
    updated = replace(
        record,
        clock_ahead=(there - now).total_seconds() if there is not None else record.clock_ahead,
        created_at=moment(status.created_at) or record.created_at,
        state=phase_of(status.state),
        attempt=status.attempt,
        started_at=moment(status.started_at) or record.started_at,
        image=status.image or record.image,
        image_digest=status.image_digest or record.image_digest,
        checkpoint_dir=status.checkpoint_dir or record.checkpoint_dir,
        output_dir=status.output_dir or record.output_dir,
        mounts=tuple(as_mount(mount) for mount in status.mounts) or record.mounts,
        saved_volume=VolumeId(status.saved.volume_id) if status.saved else record.saved_volume,
        saved_folder=status.saved.path if status.saved else record.saved_folder,
        machine_end=status.machine_end or record.machine_end,
        resumed=status.resumed or record.resumed,
        progress=status.progress or record.progress,
        log_bytes=status.log_bytes,
        checkpoint=newest_checkpoint(record.checkpoint, status.checkpoint),
    )
    return with_end(updated, status.end) if status.end is not None else updated


def with_end(record: RunRecord, end: EndRecord) -> RunRecord:
    """The record of a run that ended so."""
    # Whoever ends a run in its machine's place knows no log.
    log = {"log_bytes": end.log_bytes, "log_sha256": end.log_sha256} if end.log_sha256 else {}
    return replace(
        record,
        **log,  # type: ignore[arg-type]
        state=RunPhase.ENDED,
        end_reason=end.reason,
        ended_at=datetime.fromtimestamp(end.ended_at, UTC),
        exit_code=end.exit_code,
        message=end.message,
        hand_off=end.hand_off,
        checkpoint=_handed_over(end) or record.checkpoint,
    )


def _handed_over(end: EndRecord) -> CheckpointStatus | None:
    """The checkpoint of a hand-over, which the machine may have let go of before it was asked."""
    given = end.hand_off
    if given is None or given.checkpoint is None:
        return None
    return CheckpointStatus(given.checkpoint, given.stages.get("script_ended", end.ended_at), given.step)


def as_known(record: RunRecord) -> KnownAttempt:
    """The attempt that the record is of."""
    return KnownAttempt(**{field.name: getattr(record, field.name) for field in fields(KnownAttempt)})


def before_it_began(record: RunRecord, attempt: int) -> RunRecord:
    """The record of an attempt that follows, of which nothing is known yet; the last one is in its past. Pure."""
    return replace(
        record,
        past=(*record.past, as_known(record)),
        attempt=attempt,
        state=RunPhase.PENDING,
        end_reason=None,
        exit_code=None,
        message="",
        started_at=None,
        ended_at=None,
        hand_off=None,
        log_bytes=None,
        log_sha256=None,
        resumed=None,
        search_began_at=None,
    )


def attempts_of(record: RunRecord) -> tuple[RunAttempt, ...]:
    """All attempts, as the JSON contract shows them."""
    attempts = (*record.past, as_known(record))
    shown = []
    for index, given in enumerate(attempts):
        # Of those that did not come to their script, nothing can be gone on from.
        following = next((each for each in attempts[index + 1 :] if each.started_at is not None), None)
        lost = None
        if following is not None and given.ended_at is not None:
            since = moment(following.resumed.saved_at) if following.resumed else given.started_at
            # Without a checkpoint of its own, the next attempt goes on from where this one did.
            since = max(filter(None, (since, given.started_at)), default=None)
            lost = (
                round(max((given.ended_at - since).total_seconds(), 0.0), 1)
                if given.started_at and since
                else 0.0
            )
        newest, resumed = _newest_of(given, following), given.resumed
        shown.append(
            RunAttempt(
                attempt=given.attempt,
                instance_id=given.instance_id,
                instance_type=given.instance_type,
                market=given.market,
                zone=given.zone,
                price_per_hour=given.price_per_hour,
                created_at=given.created_at,
                started_at=given.started_at,
                ended_at=given.ended_at,
                end_reason=given.end_reason.value if given.end_reason is not None else None,
                message=given.message,
                resumed_from=PurePosixPath(resumed.path).name if resumed else None,
                resumed_step=resumed.step if resumed else None,
                checkpoint=PurePosixPath(newest.path).name if newest and newest.path else None,
                step=newest.step if newest else None,
                lost_seconds=lost,
                fallback=given.fallback,
            )
        )
    return tuple(shown)


def _newest_of(given: KnownAttempt, following: KnownAttempt | None) -> CheckpointStatus | None:
    """The newest checkpoint that an attempt has saved: one that died unannounced may have saved one more than anybody
    had asked about, and the next attempt went on from that."""
    known, found = given.checkpoint, following.resumed if following is not None else None
    if found is None or given.started_at is None or (found.saved_at or 0.0) < given.started_at.timestamp():
        return known
    return found if known is None or (known.saved_at or 0.0) < (found.saved_at or 0.0) else known


def newest_checkpoint(
    known: CheckpointStatus | None, told: CheckpointStatus | None
) -> CheckpointStatus | None:
    """What is known of a run's newest checkpoint once its machine has told. A machine that has none yet, and cannot
    reach the store, has not lost it."""
    if told is None or told.path or known is None:
        return told or known
    return replace(known, trouble=told.trouble, late_seconds=told.late_seconds)


def may_be_starting(state: RunPhase, created_at: datetime, now: datetime) -> bool:
    """Whether a machine that knows nothing of an attempt may be told of it at this moment: it was written down before
    that, by a program that goes on. Both times are by the same clock. Pure."""
    return state is RunPhase.PENDING and abs(now - created_at) < STARTING


def never_started(record: RunRecord, at: datetime, message: str) -> RunRecord:
    """The record of a run that its machine has refused, or never heard of."""
    return with_end(record, EndRecord(EndReason.NOT_STARTED, at.timestamp(), message=message))


def end_with_its_machine(gone: InstanceEnded, at: datetime, clock_ahead: float = 0.0) -> EndRecord:
    """How an attempt ended that never told its end, and whose machine the provider says has ended.

    It ended when the provider says so, and before ``at``, when that was noticed. The end is by the machine's clock, and
    so is ``at``; ``clock_ahead`` is how far that is ahead of the provider's.
    """
    reason = EndReason.INTERRUPTED if gone.interrupted else EndReason.LOST
    if gone.at is not None:
        at = min(at, gone.at + timedelta(seconds=clock_ahead))
    return EndRecord(reason, at.timestamp(), message=gone.message)


def with_its_machine(record: RunRecord, gone: InstanceEnded, at: datetime) -> RunRecord:
    """The record of a run whose instance the provider says, at ``at`` by this computer's clock, has ended."""
    end = end_with_its_machine(gone, record.by_its_clock(at), record.clock_ahead)
    # A machine that ends itself after the run has put its end into the store before.
    may_have_ended = record.machine_end is not None and not record.machine_end.keep and record.store is None
    if may_have_ended and not gone.interrupted:
        where = f"; {record.saved_volume} has its log and results" if record.saved_volume is not None else ""
        perhaps = "perhaps after the run, as it was to end itself then; how the run ended is not known here"
        end = replace(end, message=f"{end.message}: {perhaps}{where}")
    return with_end(record, end)
