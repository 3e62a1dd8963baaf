"""Runs are watched, and each that was interrupted is recovered: by ``runs watch``, by ``--wait``, from a program.

Nothing is remembered between two rounds: a watcher that was killed is started again, and several do no harm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from runctl._dataclasses import dataclass
from runctl.agent.deadline import WATCHER_SECONDS, Policy
from runctl.agent.end_reason import RETRIED
from runctl.agent.object_store import is_address
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import CapacityError, Interrupted, RunctlError, UsageError, passes_by_itself
from runctl.core.machine_models import Market
from runctl.core.run_models import Run, RunPhase
from runctl.core.text import counted
from runctl.machines.session import Session
from runctl.runs.asking import refresh
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.shown_run import as_run
from runctl.runs.records.store import run_store
from runctl.runs.recovering.adopting import adopt
from runctl.runs.recovering.outcome import BeingRecovered, Outcome, Recovered
from runctl.runs.recovering.recover import going_on, recover_run
from runctl.runs.stored.recipe import Recipes

ASK_EVERY = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(minutes=10)
MOST_WITHOUT_DECISION = timedelta(seconds=WATCHER_SECONDS / 2)
"""Of a run with a deadline; a round, which may take its time, comes on top of that."""

OnChange = Callable[[Recovered], None]
"""Hears of every outcome that is another one than the one before."""


def watched_runs(session: Session, references: Sequence[str]) -> list[RunRecord]:
    """Those that are named; without any, those that were started with ``--auto-resume`` and have not ended for good.

    Raises `NotFound`, and `UsageError` where there is none.
    """
    store = run_store(session)
    if references:
        return [store.get(reference) for reference in references]
    recipes = [recipe for recipe in Recipes(session.database).all() if recipe.auto_resume]
    found = [record for record in (store.find(recipe.run_id) for recipe in recipes) if record is not None]
    if not found:
        raise UsageError(
            "no run that was started with --auto-resume goes on",
            hint="name the runs: runctl runs watch RUN",
            code="nothing-to-watch",
        )
    return found


def _asked(session: Session, records: Sequence[RunRecord]) -> dict[str, RunRecord]:
    """What their machines say, all asked side by side; without those of which that cannot be told at once."""
    with suppress(RunctlError):
        return {record.id: record for record in refresh(session, records)}
    return {}


def goes_on(record: RunRecord) -> bool:
    """Its machine has taken the attempt up, and says that it has not ended. Pure."""
    return not record.has_ended and record.state is not RunPhase.PENDING


def counts(error: RunctlError) -> bool:
    """Whether what has failed so is to be tried less often: it was paid for, or time alone mends nothing. Pure."""
    passes = passes_by_itself(error) or isinstance(error, CapacityError)
    return bool(error.rented_on) or not passes


def pause_after(failures: int, every: timedelta) -> timedelta:
    """How long nobody tries to recover a run that could not be recovered so many times in a row. Pure.

    What fails on the machine fails on the next one too, as a rule, and each is paid for.
    """
    return min(every * float(2 ** min(failures, 20)), max(every, LONGEST_PAUSE))


def must_be_decided(record: RunRecord) -> bool:
    """Whether the run's deadline may at any moment call for on-demand, whatever has failed on spot. Pure."""
    return record.deadline is not None and record.deadline.policy != Policy.SPOT.value


@dataclass
class _Failures:
    """What has failed in a row for one run on one market, or before anything was rented."""

    count: int = 0
    not_before: float = 0.0


class Pauses:
    """When each run may be tried again that could not be recovered.

    With a deadline, only spot is put off by what has failed on spot: on-demand is begun in time all the same. What is
    to be decided is so at least as often as the deadline counts on.
    """

    def __init__(self, every: timedelta, clock: Clock) -> None:
        self._every, self._clock = every, clock
        self._failures: dict[tuple[str, Market | None], _Failures] = {}

    def has(self, record: RunRecord) -> bool:
        """Whether nothing is to be tried yet."""
        markets = {None, Market.ON_DEMAND} if must_be_decided(record) else {None, *Market}
        return any(self._is_put_off(record, market) for market in markets)

    def put_off_spot(self, record: RunRecord) -> bool:
        """Whether no spot machine is to be rented yet."""
        return self._is_put_off(record, Market.SPOT)

    def failed(self, record: RunRecord, error: RunctlError) -> None:
        """It could not be recovered."""
        if counts(error):
            self._put_off(record, Market(error.rented_on) if error.rented_on else None)

    def looked_at(self, recovered: Recovered) -> None:
        """This has come of it."""
        record = recovered.record
        for market in recovered.rented_on:
            self._put_off(record, market)
        goes_on = recovered.outcome is Outcome.GOES_ON and self.put_off_spot(record)
        if not recovered.rented_on and recovered.outcome is not Outcome.NO_CAPACITY and not goes_on:
            for market in (None, *Market):
                self._failures.pop((record.id, market), None)

    def _is_put_off(self, record: RunRecord, market: Market | None) -> bool:
        failures = self._failures.get((record.id, market))
        return failures is not None and self._clock.monotonic() < failures.not_before

    def _put_off(self, record: RunRecord, market: Market | None) -> None:
        failures = self._failures.setdefault((record.id, market), _Failures())
        failures.count += 1
        pause = pause_after(failures.count, self._every)
        if market is None and must_be_decided(record):
            # It has cost nothing.
            pause = min(pause, max(self._every, MOST_WITHOUT_DECISION))
        failures.not_before = self._clock.monotonic() + pause.total_seconds()


def watch_runs(
    session: Session,
    records: Sequence[RunRecord],
    *,
    on_change: OnChange = lambda _: None,
    every: timedelta = ASK_EVERY,
    clock: Clock | None = None,
) -> list[RunRecord]:
    """Every run has ended for good, and was recovered until then.

    What keeps a run from being recovered is warned of, and tried again, less and less often. Raises `Interrupted` for
    Ctrl-C: runs that have started go on, and what was rented for an attempt that has not is given back.
    """
    clock, store = clock or SystemClock(), run_store(session)
    open_ids = [record.id for record in records]
    not_looked_at = set(open_ids)
    told: dict[str, str] = {}
    pauses = Pauses(every, clock)

    def has_ended(run_id: str, asked: RunRecord | None) -> bool:
        """Whether it has ended for good; where it was interrupted, it is recovered."""
        record = store.get(run_id)
        if pauses.has(record):
            return False
        afresh = run_id in not_looked_at
        not_looked_at.discard(run_id)
        try:
            recovered = (
                Recovered(asked, Outcome.GOES_ON, going_on(asked))
                if asked is not None and asked.deadline is None and goes_on(asked)
                else recover_run(
                    session, record, afresh=afresh, without_spot=pauses.put_off_spot(record), clock=clock
                )
            )
        except BeingRecovered:
            return False
        except Interrupted:
            raise
        except RunctlError as error:
            pauses.failed(record, error)
            if told.get(run_id) != error.message:
                told[run_id] = error.message
                session.progress.warn(
                    f"{run_id}: {error.message}" + (f" ({error.hint})" if error.hint else "")
                )
            return store.get(run_id).end_reason not in {None, *RETRIED} or error.code in {
                "recipe-not-found",
                "not-left-yet",
                "group-has-no-machine",
                "unsupported",
                "project-not-kept",
            }
        pauses.looked_at(recovered)
        if told.get(run_id) != recovered.why:
            told[run_id] = recovered.why
            on_change(recovered)
        return recovered.outcome is Outcome.ENDED

    try:
        while True:
            asked = _asked(session, [store.get(run_id) for run_id in open_ids])
            open_ids = [run_id for run_id in open_ids if not has_ended(run_id, asked.get(run_id))]
            if not open_ids:
                return [store.get(record.id) for record in records]
            session.progress.step(f"watching {counted(len(open_ids), 'run')}")
            clock.sleep(every.total_seconds())
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped watching {counted(len(open_ids), 'run')}; those that have started go on",
            # Without names it watches those that were started with --auto-resume, and no others.
            hint=f"runctl runs watch {' '.join(open_ids)} follows it again",
        ) from None


class DeadlineWatch:
    """A thread that moves a run to another machine in time, while somebody follows its log. Used with ``with``.

    A run without a deadline is left alone. At the end a move that has begun is finished first.
    """

    def __init__(
        self, session: Session, record: RunRecord, every: timedelta = ASK_EVERY, clock: Clock | None = None
    ) -> None:
        self._session, self._record, self._every = session, record, every
        self._pauses = Pauses(every, clock or SystemClock())
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> DeadlineWatch:
        recipe = Recipes(self._session.database).find(self._record.id)
        if self._record.deadline is not None and recipe is not None and recipe.auto_resume:
            self._thread = threading.Thread(target=self._watch, name="deadline", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        session, told = self._session.apart(), ""
        store = run_store(session)
        while not self._over.wait(self._every.total_seconds()):
            record = store.find(self._record.id)
            if record is None or record.has_ended or record.attempt != self._record.attempt:
                return
            if self._pauses.has(record):
                continue
            try:
                recovered = recover_run(session, record, without_spot=self._pauses.put_off_spot(record))
            except BeingRecovered:
                continue
            except RunctlError as error:
                self._pauses.failed(record, error)
                why = error.message
            else:
                self._pauses.looked_at(recovered)
                why = recovered.why
            if why != told and self._tells(why):
                session.progress.note(f"{record.id} {why}")
            told = why

    def _tells(self, why: str) -> bool:
        """Whoever reads the log knows that the run goes on."""
        return not why.startswith("is ")


def recover_reference(session: Session, reference: str, store: str | None = None) -> Recovered:
    """`recover_run`, for a run that is known here, or one at an address: its own (``s3://bucket/prefix/RUN``), or
    ``store``'s, which has it below its id. Raises what `adopt` and `recover_run` raise."""
    address = reference if is_address(reference) else None
    if store is not None:
        if address is not None:
            raise UsageError(
                f"{reference} is an address already", hint="leave --from out, or name the run by its id"
            )
        address = store.rstrip("/")
        if not address.endswith(f"/{reference}"):
            address = f"{address}/{reference}"
    record = run_store(session).get(reference) if address is None else adopt(session, address)
    return recover_run(session, record, afresh=True)


def recover(reference: str, *, store: str | None = None, session: Session | None = None) -> Run:
    """The run's next attempt has started, if it has ended in a way that another machine changes; else it is as it was.

    ``reference`` may be the address of a run that another computer has started, or ``store`` that of its store. Raises
    `NotFound`, `UsageError`, `CapacityError` where no machine is available now, `Conflict` (code ``being-recovered``)
    where another program of this computer does it, and what renting and starting raise.
    """
    session = session or Session()
    recovered = recover_reference(session, reference, store)
    check_capacity(recovered)
    return as_run(recovered.record, SystemClock().now())


def check_capacity(recovered: Recovered) -> None:
    """Raises `CapacityError` where no machine was to be had."""
    if recovered.outcome is Outcome.NO_CAPACITY:
        raise CapacityError(
            f"{recovered.record.id} {recovered.why}",
            hint=f"runctl runs watch {recovered.record.id} asks again until there is one",
        )


def watch(
    *references: str,
    on_change: OnChange = lambda _: None,
    every: timedelta = ASK_EVERY,
    session: Session | None = None,
) -> tuple[Run, ...]:
    """Every one of the runs has ended for good, and was recovered until then; see `watched_runs`, `watch_runs`."""
    session = session or Session()
    records = watch_runs(session, watched_runs(session, references), on_change=on_change, every=every)
    return tuple(as_run(record, SystemClock().now()) for record in records)
