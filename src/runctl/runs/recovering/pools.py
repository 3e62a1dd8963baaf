"""The pools that a run's next spot machine may come from, and which of them have refused lately."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property

from runctl.core.clock import Clock
from runctl.core.errors import CapacityError, QuotaExceeded
from runctl.core.machine_models import Market
from runctl.machines.pool_record import PoolEventKind
from runctl.machines.renting import RefusedPool
from runctl.providers.capacity import Pool, Refusal, RefusalReason
from runctl.runs.recovering.machines import request_for
from runctl.runs.recovering.relocating import volumes_zone
from runctl.runs.recovering.run import RecoveredRun

PAUSE_SECONDS = 5.0
"""Between two looks whether there is a machine for the next attempt."""
REFUSED_FOR = timedelta(seconds=60)
"""After which capacity that was refused is asked for again, where a machine is waited for."""
ANY_POOL = "any"
"""Nothing is known against any of them: the provider chooses."""


def may_ask_again(refused_at: float, clock: Clock) -> bool:
    """Whether what was refused then, by the monotonic clock, is asked for again."""
    return clock.monotonic() - refused_at >= REFUSED_FOR.total_seconds()


class SpotPools:
    """Types in zones, as the provider offers them for the run; each is asked again some time after it has refused.

    ``afresh``: what others have been refused before does not count.
    """

    def __init__(self, run: RecoveredRun, ask_again: timedelta, *, afresh: bool = False) -> None:
        self._run = run
        self._ask_again = ask_again
        self._afresh = afresh
        self._refused_at: float | None = None

    @cached_property
    def offered(self) -> tuple[Pool, ...]:
        """All of them, the preferred ones first; none where the account may not have one. Raises what `Renting.plan`
        raises else."""
        run = self._run
        request = request_for(run, Market.SPOT, run.next_attempt, volumes_zone(run))
        try:
            plan = run.rentals.plan(request)
        except (QuotaExceeded, CapacityError):
            return ()
        offers = tuple(offer.pool for offer in plan.offers)
        return offers or (Pool(plan.instance_type, plan.zone or ""),)

    def available(self) -> tuple[str, ...]:
        """Those that have not refused lately, by their names in `runctl.runs.recovery.PastAttempt`."""
        if self._run.spot_is_put_off:
            return ()
        since = None if self._refused_at is None else self._run.clock.monotonic() - self._refused_at
        if since is not None and since < self._ask_again.total_seconds():
            return ()
        refused = set() if self._afresh and self._refused_at is None else self._refused_lately()
        return tuple(str(pool) for pool in self.offered if pool not in refused) if refused else (ANY_POOL,)

    def refused(self, error: CapacityError) -> None:
        """All were asked in vain. What the provider has said of single pools is remembered already."""
        self._refused_at = self._run.clock.monotonic()
        now, known = self._run.clock.now(), self._refused_lately()
        record = self._run.session.pool_record(self._run.record.provider)
        for pool in self.offered:
            if pool not in known:
                refusal = Refusal(pool, Market.SPOT, RefusalReason.NO_CAPACITY, error.code, error.message)
                record.refused(RefusedPool(self._run.record.provider, refusal, now))

    def _refused_lately(self) -> set[Pool]:
        now = self._run.clock.now()
        events = self._run.session.pool_record(self._run.record.provider).events(now)
        return {
            event.pool
            for event in events
            if event.kind is PoolEventKind.REFUSED
            and event.market is Market.SPOT
            and now - event.at < self._ask_again
        }
