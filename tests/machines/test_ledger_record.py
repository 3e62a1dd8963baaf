"""What is rented is in the ledger before the call, and closed by what the provider says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from runctl.core.config import BudgetConfig
from runctl.core.database import Database, StateError
from runctl.core.errors import BudgetExceeded, CapacityError, Unreachable
from runctl.core.journal import Change, Effect
from runctl.core.machine_models import Instance, InstanceState, Market, Volume
from runctl.core.progress import Silent
from runctl.core.tags import INTENT, RANK
from runctl.costs.billing import BillingRules
from runctl.costs.entries import Entry, EntryKind, EntryState
from runctl.costs.ledger import Ledger
from runctl.machines.creation import creating
from runctl.machines.intents import IntentStore, Kind
from runctl.machines.ledger_record import LedgerRecord
from runctl.machines.renting import Rentals
from runctl.machines.settling import settle_at
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.testing.clock import ManualClock
from tests.cli.fake_provider import FakeProvider, Script, a_plan, a_snapshot, a_volume, an_instance

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


class LedgerSetup:
    """A provider's machines with the ledger listening, as a session has it."""

    def __init__(self, database: Database, folder: Path, **options: Any) -> None:
        self.clock = ManualClock()
        self.script = Script()
        self.provider = FakeProvider(self.script)
        self.provider.instances = lambda **_: ()  # type: ignore[method-assign]
        self.record = LedgerRecord(database, self.provider, self.clock, **options)
        self.intents = IntentStore(database, folder / "intents")
        self.intents.listen(self.record.intended)
        self.rentals = Rentals(
            self.provider,
            self.intents,
            clock=self.clock,
            review=self.record.review,
            before=(self.record.about_to_rent,),
            listeners=(self.record.heard,),
        )
        self.ledger = Ledger(database)
        self.script.answers["plan_create"] = lambda request: a_plan(request, client_token=request.token)

    def entries(self) -> list[Entry]:
        return self.ledger.select("TRUE", ())

    def entry(self, kind: EntryKind) -> Entry:
        (found,) = [entry for entry in self.entries() if entry.kind is kind]
        return found

    def rents(self, answer: Callable[[CreatePlan], Instance], **changes: Any) -> Instance:
        """A machine is rented; ``answer`` is what the provider makes of it."""
        self.script.answers["create"] = answer
        with self.rentals.renting(InstanceRequest(market=Market.SPOT, **changes)) as new:
            return new.rent(wait=None)

    def shows(self, *instances: Instance, volumes: Any = (), snapshots: Any = ()) -> None:
        """From now on the provider lists these; the ledger is compared with them."""
        self.provider.instances = lambda **_: instances  # type: ignore[method-assign]
        self.script.answers |= {"volumes": volumes, "snapshots": snapshots}
        settle_at(self.record, self.clock.now())


@pytest.fixture
def setup(database: Database, tmp_path: Path) -> LedgerSetup:
    return LedgerSetup(database, tmp_path)


def as_planned(plan: CreatePlan) -> Instance:
    return an_instance("i-1", tags={INTENT: plan.client_token}, created_at=NOON, state=InstanceState.PENDING)


def test_a_machine_is_in_the_ledger_before_the_call_and_priced_after_it(setup: LedgerSetup) -> None:
    before: list[Entry] = []

    def answer(plan: CreatePlan) -> Instance:
        before.extend(setup.entries())
        return as_planned(plan)

    setup.rents(answer)

    (intended,) = before
    assert (intended.state, intended.resource_id, intended.shape) == (
        EntryState.INTENDED,
        None,
        "g4dn.xlarge",
    )
    assert (intended.project, intended.owner, intended.expected) == ("digits", "ada", Decimal("0.1578"))
    machine = setup.entry(EntryKind.INSTANCE)
    assert (machine.id, machine.resource_id, machine.state) == (intended.id, "i-1", EntryState.OPEN)
    assert machine.cost(NOON + 2 * HOUR) == Decimal("0.3156")
    assert machine.list_cost(NOON + 2 * HOUR) == Decimal("1.052")
    # its root disk, which ends with it: 2.40 x (30.5 / 31 + 0.5 / 30)
    disk = setup.entry(EntryKind.VOLUME)
    assert (disk.machine, disk.part, disk.shape) == ("i-1", "root", "30 GiB")
    assert disk.cost(NOON + 31 * DAY) == Decimal("2.40129")


@pytest.mark.parametrize("billed", [False, True])
def test_an_address_has_a_row_where_the_provider_bills_it(setup: LedgerSetup, billed: bool) -> None:
    setup.provider.billing = BillingRules(bills_addresses=billed)
    setup.rents(lambda plan: replace(as_planned(plan), public_ip="203.0.113.10"))

    assert [entry.shape for entry in setup.entries() if entry.kind is EntryKind.ADDRESS] == (
        ["public IPv4"] if billed else []
    )


def test_a_ledger_that_cannot_be_written_keeps_a_machine_from_being_rented(setup: LedgerSetup) -> None:
    with (
        patch.object(Ledger, "put", side_effect=StateError("the disk is full")),
        pytest.raises(StateError),
    ):
        setup.rents(as_planned)
    assert "create" not in setup.script.names()
    assert setup.intents.unfinished() == []


def test_a_ledger_that_cannot_be_written_after_the_call_costs_nobody_a_machine(setup: LedgerSetup) -> None:
    def answer(plan: CreatePlan) -> Instance:
        broken.start()
        return as_planned(plan)

    broken = patch.object(Ledger, "put", side_effect=StateError("the disk is full"))
    try:
        rented = setup.rents(answer)
    finally:
        broken.stop()

    assert rented.id == "i-1"
    assert setup.entry(EntryKind.INSTANCE).state is EntryState.INTENDED
    # The tag of the intent finds the row.
    setup.shows(replace(rented, state=InstanceState.RUNNING))
    machine = setup.entry(EntryKind.INSTANCE)
    assert (machine.resource_id, machine.state) == ("i-1", EntryState.OPEN)
    assert machine.cost(NOON + HOUR) == Decimal("0.1578")


def test_a_machine_that_was_refused_is_taken_out_again(setup: LedgerSetup) -> None:
    def refuse(plan: CreatePlan) -> Instance:
        raise CapacityError("no capacity")

    with pytest.raises(CapacityError):
        setup.rents(refuse)
    setup.clock.advance(2 * HOUR)
    setup.shows()
    assert setup.entries() == []


def test_a_machine_that_ended_while_nobody_looked_gets_its_true_end_with_all_that_went_with_it(
    setup: LedgerSetup,
) -> None:
    rented = setup.rents(as_planned)
    root = a_volume("vol-1", attached_to="i-1", ends_with_instance=True, size_gib=30, created_at=NOON)
    setup.shows(replace(rented, state=InstanceState.RUNNING), volumes=(root,))
    setup.clock.advance(3 * DAY)

    over = replace(rented, state=InstanceState.TERMINATED, ended_at=NOON + 5 * HOUR, price_per_hour=None)
    setup.shows(over)

    machine, disk = setup.entry(EntryKind.INSTANCE), setup.entry(EntryKind.VOLUME)
    assert (machine.state, machine.ended_at) == (EntryState.CLOSED, NOON + 5 * HOUR)
    assert (disk.resource_id, disk.ended_at) == ("vol-1", NOON + 5 * HOUR)
    assert not machine.estimated


def test_a_machine_that_is_not_shown_any_more_ended_when_it_was_last_seen_and_its_parts_too(
    setup: LedgerSetup,
) -> None:
    rented = setup.rents(as_planned)
    setup.clock.advance(2 * HOUR)
    setup.shows(replace(rented, state=InstanceState.RUNNING))
    setup.clock.advance(2 * HOUR)
    setup.shows()
    for entry in setup.entries():
        assert (entry.state.is_over, entry.ended_at, entry.estimated) == (True, NOON + 2 * HOUR, True)


def test_an_estimated_end_is_corrected_with_all_that_went_along(setup: LedgerSetup) -> None:
    rented = setup.rents(as_planned)
    setup.clock.advance(2 * HOUR)
    setup.shows(replace(rented, state=InstanceState.RUNNING))
    setup.clock.advance(2 * HOUR)
    setup.shows()

    over = replace(rented, state=InstanceState.TERMINATED, ended_at=NOON + 3 * HOUR, price_per_hour=None)
    setup.shows(over)

    for entry in setup.entries():
        assert (entry.state.is_over, entry.ended_at, entry.estimated) == (True, NOON + 3 * HOUR, False)
    setup.shows(replace(rented, state=InstanceState.RUNNING))
    assert all(entry.state.is_over for entry in setup.entries())


def test_a_machine_that_is_seen_again_goes_on_with_its_parts(setup: LedgerSetup) -> None:
    rented = setup.rents(as_planned)
    setup.clock.advance(2 * HOUR)
    setup.shows(replace(rented, state=InstanceState.RUNNING))
    setup.clock.advance(2 * HOUR)
    setup.shows()

    setup.shows(replace(rented, state=InstanceState.RUNNING))

    assert [(entry.state, entry.current is not None, entry.estimated) for entry in setup.entries()] == [
        (EntryState.OPEN, True, False)
    ] * len(setup.entries())


def test_a_list_that_lags_behind_ends_nothing(setup: LedgerSetup) -> None:
    setup.rents(as_planned)
    setup.shows()
    assert not any(entry.state.is_over for entry in setup.entries())


def test_what_another_computer_rented_gets_its_row_from_its_tags_once(setup: LedgerSetup) -> None:
    elsewhere = an_instance("i-2", tags={INTENT: "another"}, created_at=NOON - DAY, price_per_hour=Decimal(1))
    volume = a_volume("vol-2", created_at=NOON - DAY)
    for _ in range(2):
        setup.shows(elsewhere, volumes=(volume,), snapshots=(a_snapshot(created_at=NOON - DAY),))
    assert setup.entry(EntryKind.INSTANCE).cost(NOON) == Decimal(24)
    assert setup.entry(EntryKind.VOLUME).cost(NOON) == Decimal("0.262366")  # 4 / 30 + 4 / 31
    assert setup.entry(EntryKind.SNAPSHOT).owner is None


def test_machines_that_a_group_rents_by_one_intent_have_a_row_each(setup: LedgerSetup) -> None:
    first, second = (
        an_instance(f"i-{number}", tags={INTENT: "of-the-group"}, created_at=NOON + number * HOUR)
        for number in (1, 2)
    )
    setup.shows(first)
    setup.shows(replace(first, state=InstanceState.TERMINATED, ended_at=NOON + 2 * HOUR), second)
    setup.clock.advance(HOUR)
    setup.shows(second)
    machines = [entry for entry in setup.entries() if entry.kind is EntryKind.INSTANCE]
    assert [(each.resource_id, each.ended_at) for each in machines] == [
        ("i-1", NOON + 2 * HOUR),
        ("i-2", None),
    ]


def test_machines_of_one_run_are_in_the_ledger_before_the_call_and_each_gets_its_row(
    setup: LedgerSetup,
) -> None:
    setup.record.about_to_rent(a_plan(InstanceRequest(), client_token="all"), 3)
    intended = setup.entries()
    for rank in (1, 0):
        setup.shows(an_instance(f"i-{rank}", tags={INTENT: "all", RANK: str(rank)}))

    setup.record.drop_ranks("all", 2)

    assert [(each.token, each.state) for each in intended] == [
        ("all", EntryState.INTENDED),
        ("all/1", EntryState.INTENDED),
        ("all/2", EntryState.INTENDED),
    ]
    assert [
        (each.token, each.resource_id) for each in setup.entries() if each.kind is EntryKind.INSTANCE
    ] == [
        ("all", "i-0"),
        ("all/1", "i-1"),
    ]


def test_a_budget_counts_all_machines_of_a_run_before_any_is_rented(
    database: Database, tmp_path: Path
) -> None:
    # One costs $0.1578 an hour.
    setup = LedgerSetup(database, tmp_path, budget=BudgetConfig(day=Decimal("0.3")))
    plan = a_plan(InstanceRequest(), client_token="all")

    setup.record.review(plan, 1)
    with pytest.raises(BudgetExceeded, match="renting 2 × "):
        setup.record.review(plan, 2)


def test_a_volume_is_in_the_ledger_from_its_intent_to_its_deletion(setup: LedgerSetup) -> None:
    request = VolumeRequest(100, name="datasets", project="digits")
    with creating(
        setup.intents, setup.provider, Kind.VOLUME, request, clock=setup.clock, created=setup.record.seen
    ) as creation:
        made = a_volume(created_at=NOON, tags={INTENT: creation.token})
        intended: list[Entry] = []

        def make(plan: object) -> Volume:
            intended.extend(setup.entries())
            return made

        creation.make(object(), make, lambda token: object())
    setup.clock.advance(15 * DAY)
    gone = Change("volume", (made.id,), Effect.GONE, f"volume {made.id} is deleted")
    setup.record.changed(gone)
    setup.record.changed(gone)

    (before,) = intended
    assert (before.state, before.name, before.project) == (EntryState.INTENDED, "datasets", "digits")
    entry = setup.entry(EntryKind.VOLUME)
    assert (entry.id, entry.state, entry.ended_at) == (before.id, EntryState.CLOSED, NOON + 15 * DAY)
    assert entry.cost(NOON + 31 * DAY) == Decimal("3.870968")  # 8 x 15 / 31


BUDGET = BudgetConfig(day=Decimal(1))


class Told(Silent):
    """Remembers what was warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def test_a_plan_beyond_the_budget_is_refused_before_it_is_shown(database: Database, tmp_path: Path) -> None:
    setup = LedgerSetup(database, tmp_path, budget=BudgetConfig(day=Decimal("0.1")))
    with pytest.raises(BudgetExceeded, match=r"\$0\.00 of \$0\.1000 are spent today") as refused:
        setup.rents(as_planned)
    assert "--over-budget" in refused.value.hint
    assert "create" not in setup.script.names()
    assert setup.entries() == []


def test_what_another_computer_has_rented_counts(database: Database, tmp_path: Path) -> None:
    setup = LedgerSetup(database, tmp_path, budget=BUDGET)
    elsewhere = an_instance("i-2", created_at=NOON - 4 * HOUR, price_per_hour=Decimal("0.3"))
    setup.provider.instances = lambda **_: (elsewhere,)  # type: ignore[method-assign]
    with pytest.raises(BudgetExceeded, match=r"\$1\.20 of \$1\.00"):
        setup.rents(as_planned)


def test_over_budget_rents_nevertheless_and_is_recorded(database: Database, tmp_path: Path) -> None:
    progress = Told()
    limits = BudgetConfig(day=Decimal("0.1"))
    setup = LedgerSetup(database, tmp_path, budget=limits, over_budget=True, progress=progress)
    setup.rents(as_planned)
    assert setup.entry(EntryKind.INSTANCE).over_budget
    (warning,) = progress.warnings
    assert warning.startswith("over budget: $0.00 of $0.1000 are spent today")


def test_of_two_commands_at_once_the_second_sees_what_the_first_is_about_to_rent(
    database: Database, tmp_path: Path
) -> None:
    limits = BudgetConfig(day=Decimal("0.2"))
    first, second = (LedgerSetup(database, tmp_path, budget=limits) for _ in range(2))
    first.script.answers["plan_create"] = lambda request: a_plan(request, client_token="first")

    def answer(plan: CreatePlan) -> Instance:
        with pytest.raises(BudgetExceeded, match=r"\$0\.1578 are expected of what was just rented"):
            second.record.about_to_rent(replace(plan, client_token="second"))
        return as_planned(plan)

    first.rents(answer)
    assert [entry.token for entry in first.entries() if entry.token] == ["first"]


def test_a_budget_with_a_provider_that_does_not_answer_counts_what_is_known_and_says_so(
    database: Database, tmp_path: Path
) -> None:
    progress = Told()
    setup = LedgerSetup(database, tmp_path, budget=BUDGET, progress=progress)
    with patch.object(setup.provider, "instances", side_effect=Unreachable("no answer")):
        setup.rents(as_planned)
    assert progress.warnings == [
        "the budget counts what this computer knows: the provider could not be asked: no answer"
    ]
