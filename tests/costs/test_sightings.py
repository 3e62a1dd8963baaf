"""What the ledger makes of what a provider says, told life by life."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from runctl.core.machine_models import Instance, InstanceState, Market, SnapshotState, VolumeState
from runctl.core.tags import ATTEMPT
from runctl.costs.billing import BillingRules, PriceStep
from runctl.costs.entries import Entry, EntryKind, EntryState
from runctl.costs.rates import Per
from runctl.costs.sightings import (
    ended,
    priced,
    vanished,
    with_address,
    with_instance,
    with_its_machine,
    with_snapshot,
    with_spot_prices,
    with_volume,
)
from tests.cli.fake_provider import a_snapshot, a_volume, an_instance
from tests.costs.entries import an_entry, at, interval

EC2 = BillingRules(timedelta(seconds=60), timedelta(hours=1), timedelta(hours=1))
LATER = at("2030-01-01")


def blank(kind: EntryKind = EntryKind.INSTANCE) -> Entry:
    return an_entry(None, kind=kind, state=EntryState.INTENDED)


def machine(state: InstanceState, launched: str, **changes: Any) -> Instance:
    values: dict[str, Any] = {
        "state": state,
        "market": Market.ON_DEMAND,
        "price_per_hour": Decimal("0.5"),
        "created_at": at(launched),
    }
    return an_instance("i-1", **{**values, **changes})


def live(*seen: tuple[str, Instance], rules: BillingRules = EC2) -> Entry:
    """The entry after each of these was seen at its time."""
    entry = blank()
    for when, instance in seen:
        entry = with_instance(entry, instance, at(when), rules, None)
    return entry


def times(entry: Entry) -> list[tuple[datetime, datetime | None]]:
    return [(each.start, each.end) for each in entry.intervals]


def test_a_machine_costs_from_its_launch_until_the_providers_word_of_its_end() -> None:
    entry = live(
        ("2026-05-01 12:00:04", machine(InstanceState.PENDING, "2026-05-01 12:00")),
        ("2026-05-01 12:01", machine(InstanceState.RUNNING, "2026-05-01 12:00")),
        # Nobody looked for days; EC2 says when it ended.
        (
            "2026-05-04",
            machine(
                InstanceState.TERMINATED,
                "2026-05-01 12:00",
                ended_at=at("2026-05-01 18:30"),
                price_per_hour=None,
                state_reason="Instance initiated shutdown",
            ),
        ),
    )
    assert times(entry) == [(at("2026-05-01 12:00"), at("2026-05-01 18:30"))]
    assert (entry.state, entry.estimated) == (EntryState.CLOSED, False)
    assert entry.end_reason == "Instance initiated shutdown"
    assert entry.cost(LATER) == Decimal("3.25")


def test_a_stopped_machine_costs_nothing_until_it_starts_again() -> None:
    entry = live(
        ("2026-05-01 12:00", machine(InstanceState.RUNNING, "2026-05-01 12:00")),
        (
            "2026-05-01 15:00",
            machine(InstanceState.STOPPED, "2026-05-01 12:00", ended_at=at("2026-05-01 14:00")),
        ),
        ("2026-05-02 09:00", machine(InstanceState.STOPPED, "2026-05-01 12:00")),
        ("2026-05-02 10:00", machine(InstanceState.PENDING, "2026-05-02 10:00")),
    )
    assert times(entry) == [
        (at("2026-05-01 12:00"), at("2026-05-01 14:00")),
        (at("2026-05-02 10:00"), None),
    ]
    assert entry.cost(at("2026-05-02 12:00")) == Decimal(2)


def test_a_stop_and_start_that_nobody_saw_ends_what_was_seen_and_is_said_to_be_an_estimate() -> None:
    entry = live(
        ("2026-05-01 12:00", machine(InstanceState.RUNNING, "2026-05-01 12:00")),
        ("2026-05-01 13:00", machine(InstanceState.RUNNING, "2026-05-01 12:00")),
        ("2026-05-02 08:00", machine(InstanceState.RUNNING, "2026-05-02 07:00")),
    )
    assert times(entry) == [
        (at("2026-05-01 12:00"), at("2026-05-01 13:00")),
        (at("2026-05-02 07:00"), None),
    ]
    assert entry.estimated


def test_a_spot_machine_that_was_taken_back_in_its_first_hour_is_free_and_later_is_not() -> None:
    def taken(end: str) -> Entry:
        spot = {"market": Market.SPOT}
        return live(
            ("2026-05-01 12:00", machine(InstanceState.RUNNING, "2026-05-01 12:00", **spot)),
            (
                "2026-05-01 20:00",
                machine(
                    InstanceState.TERMINATED, "2026-05-01 12:00", interrupted=True, ended_at=at(end), **spot
                ),
            ),
        )

    early, late = taken("2026-05-01 12:59"), taken("2026-05-01 14:00")
    assert (early.cost(LATER), late.cost(LATER)) == (Decimal(0), Decimal(1))
    # What the market asked is still to be looked up; that a machine was free stays so.
    steps = [
        PriceStep(at("2026-05-01 11:00"), Decimal("0.2")),
        PriceStep(at("2026-05-01 12:30"), Decimal("0.4")),
    ]
    assert early.state is late.state is EntryState.ENDED
    early, late = (with_spot_prices(each, steps, EC2) for each in (early, late))
    assert early.state is late.state is EntryState.CLOSED
    assert (early.cost(LATER), late.cost(LATER)) == (Decimal(0), Decimal("0.6"))
    # A later answer is applied to what was cut before.
    assert with_spot_prices(late, steps, EC2).intervals == late.intervals


def test_clocks_that_disagree_make_no_negative_time() -> None:
    ahead = machine(InstanceState.RUNNING, "2026-05-01 12:00")
    entry = live(
        # This computer is five minutes behind the cloud.
        ("2026-05-01 11:55", ahead),
        ("2026-05-01 11:57", replace(ahead, state=InstanceState.SHUTTING_DOWN)),
    )
    assert times(entry) == [(at("2026-05-01 12:00"), at("2026-05-01 12:00"))]
    assert entry.cost(LATER) == Decimal("0.008333")  # the minimum of a minute
    assert entry.cost(at("2026-05-01 11:59")) == 0


def test_a_closed_entry_is_changed_by_nothing() -> None:
    over = an_entry("i-1", interval("2026-05-01", "2026-05-02", "0.5"))
    assert with_instance(over, machine(InstanceState.RUNNING, "2026-05-03"), LATER, EC2) == replace(
        over, zone="us-east-1a", shape="g4dn.xlarge", market="on-demand", project="digits", owner="ada"
    )
    assert ended(over, LATER) == over


def test_what_is_not_shown_any_more_ended_when_it_was_last_heard_of() -> None:
    entry = live(
        ("2026-05-01 12:00", machine(InstanceState.RUNNING, "2026-05-01 12:00")),
        ("2026-05-01 13:00", machine(InstanceState.RUNNING, "2026-05-01 12:00")),
    )
    gone = vanished(entry, None)
    assert (gone.ended_at, gone.estimated) == (at("2026-05-01 13:00"), True)
    assert vanished(entry, at("2026-05-01 15:00")).ended_at == at("2026-05-01 15:00")


def test_an_end_that_was_estimated_gives_way_to_what_the_provider_says_later() -> None:
    running = machine(InstanceState.RUNNING, "2026-05-01 12:00")
    gone = vanished(live(("2026-05-01 12:00", running), ("2026-05-01 13:00", running)), None)
    over = replace(running, state=InstanceState.TERMINATED, ended_at=at("2026-05-01 16:00"))

    known = with_instance(gone, over, at("2026-05-02"), EC2)

    assert (known.state, known.ended_at, known.estimated) == (
        EntryState.CLOSED,
        at("2026-05-01 16:00"),
        False,
    )
    assert known.cost(LATER) == Decimal(2)
    assert with_instance(known, over, at("2026-05-03"), EC2) == known
    # A word without a time knows no more than the estimate.
    silent = replace(over, ended_at=None)
    assert with_instance(gone, silent, at("2026-05-02"), EC2).ended_at == at("2026-05-01 13:00")


def test_what_was_taken_to_be_gone_and_is_seen_again_has_cost_all_the_time() -> None:
    running = machine(InstanceState.RUNNING, "2026-05-01 12:00")
    gone = vanished(live(("2026-05-01 12:00", running), ("2026-05-01 13:00", running)), None)

    again = with_instance(gone, running, at("2026-05-02"), EC2)

    assert (again.state, again.estimated, times(again)) == (
        EntryState.OPEN,
        False,
        [(at("2026-05-01 12:00"), None)],
    )
    volume = a_volume(created_at=at("2026-06-01"), price_per_month=Decimal(30))
    lost = vanished(with_volume(blank(EntryKind.VOLUME), volume, at("2026-06-02")), None)
    found = with_volume(lost, volume, at("2026-06-10"))
    assert (lost.cost(LATER), found.cost(at("2026-06-11"))) == (Decimal(1), Decimal(10))


def test_a_machine_that_was_stopped_when_it_ended_costs_no_more_for_a_later_word() -> None:
    entry = live(
        ("2026-05-01 12:00", machine(InstanceState.RUNNING, "2026-05-01 12:00")),
        (
            "2026-05-01 20:00",
            machine(InstanceState.STOPPED, "2026-05-01 12:00", ended_at=at("2026-05-01 14:00")),
        ),
    )
    over = machine(InstanceState.TERMINATED, "2026-05-01 12:00", ended_at=at("2026-05-03"))

    known = with_instance(vanished(entry, None), over, at("2026-05-04"), EC2)

    assert (known.ended_at, known.cost(LATER)) == (at("2026-05-03"), Decimal(1))


def test_the_end_of_a_machine_that_is_told_with_its_time_later_counts_with_all_that_went_along() -> None:
    running = machine(InstanceState.RUNNING, "2026-05-01 12:00")
    going = replace(running, state=InstanceState.SHUTTING_DOWN)
    entry = live(("2026-05-01 12:00", running), ("2026-05-01 20:00", going), ("2026-05-01 20:30", going))
    address = with_its_machine(
        with_address(blank(EntryKind.ADDRESS), running, at("2026-05-01 12:00")), entry, entry
    )
    ends = replace(running, state=InstanceState.TERMINATED)
    first = with_instance(entry, ends, at("2026-05-01 21:00"), EC2)
    address = with_its_machine(address, entry, first)

    told = with_instance(first, replace(ends, ended_at=at("2026-05-01 14:00")), at("2026-05-01 22:00"), EC2)
    address = with_its_machine(address, first, told)

    assert (told.ended_at, told.cost(LATER)) == (at("2026-05-01 14:00"), Decimal(1))
    assert (address.ended_at, priced(address, Decimal("0.01")).cost(LATER)) == (
        at("2026-05-01 14:00"),
        Decimal("0.02"),
    )


def test_an_unreachable_machine_goes_on() -> None:
    seen = machine(InstanceState.RUNNING, "2026-05-01 12:00")
    entry = live(
        ("2026-05-01 12:00", seen), ("2026-05-01 13:00", replace(seen, state=InstanceState.UNREACHABLE))
    )
    assert times(entry) == [(at("2026-05-01 12:00"), None)]


def test_a_price_that_was_not_known_at_first_counts_from_the_first_second() -> None:
    seen = machine(InstanceState.RUNNING, "2026-05-01 12:00")
    entry = live(("2026-05-01 12:00", replace(seen, price_per_hour=None)), ("2026-05-01 13:00", seen))
    assert entry.cost(at("2026-05-01 14:00")) == Decimal(1)


def test_a_machine_of_a_runs_attempt_says_so() -> None:
    tagged = machine(InstanceState.RUNNING, "2026-05-01 12:00", tags={ATTEMPT: "run-aaaaaaaaaa/3"})
    entry = live(("2026-05-01 12:00", tagged))
    assert (entry.run_id, entry.attempt) == ("run-aaaaaaaaaa", 3)


@pytest.mark.parametrize(("billed", "cost"), [(False, "0.5"), (True, "2")])
def test_a_machine_that_is_stopped_costs_where_its_provider_may_bill_it(billed: bool, cost: str) -> None:
    seen = machine(InstanceState.RUNNING, "2026-05-01 12:00")
    stopped = replace(seen, state=InstanceState.STOPPED)
    entry = live(
        ("2026-05-01 12:00", seen), ("2026-05-01 13:00", stopped), rules=BillingRules(bills_stopped=billed)
    )
    assert entry.cost(at("2026-05-01 16:00")) == Decimal(cost)


def test_an_address_is_billed_while_its_machine_is() -> None:
    running = machine(InstanceState.RUNNING, "2026-05-01 12:00")
    entry = with_address(blank(EntryKind.ADDRESS), running, at("2026-05-01 12:00"))
    stopped = replace(running, state=InstanceState.STOPPED, public_ip=None, ended_at=at("2026-05-01 22:00"))
    entry = with_address(entry, stopped, at("2026-05-02"))
    assert (entry.state, entry.is_priced) == (EntryState.OPEN, False)
    assert priced(entry, Decimal("0.005")).cost(LATER) == Decimal("0.05")


def test_a_volume_that_is_resized_costs_its_new_price_from_then_on() -> None:
    volume = a_volume(created_at=at("2026-06-01"), price_per_month=Decimal(8))
    entry = with_volume(blank(EntryKind.VOLUME), volume, at("2026-06-01"))
    larger = replace(volume, size_gib=200, price_per_month=Decimal(16))
    entry = with_volume(entry, larger, at("2026-06-16"))
    entry = with_volume(entry, larger, at("2026-06-20"))
    entry = with_volume(entry, replace(larger, state=VolumeState.DELETING), at("2026-07-01"))

    assert [(each.start, each.usd, each.per) for each in entry.intervals] == [
        (at("2026-06-01"), Decimal(8), Per.MONTH),
        (at("2026-06-16"), Decimal(16), Per.MONTH),
    ]
    assert (entry.shape, entry.state) == ("200 GiB gp3", EntryState.CLOSED)
    assert entry.cost(LATER) == Decimal(12)


def test_a_snapshot_costs_by_the_month_until_it_is_deleted() -> None:
    snapshot = a_snapshot(created_at=at("2026-06-01"), price_per_month=Decimal("1.50"))
    entry = with_snapshot(blank(EntryKind.SNAPSHOT), snapshot, at("2026-06-02"))
    assert entry.cost(at("2026-06-11")) == Decimal("0.5")
    entry = with_snapshot(entry, replace(snapshot, state=SnapshotState.ERROR), at("2026-06-11"))
    assert (entry.state, entry.cost(LATER)) == (EntryState.CLOSED, Decimal("0.5"))
