from __future__ import annotations

from datetime import timedelta

import pytest

from runctl.cleanup.removing import FREE_TIMEOUT, carry_out
from runctl.core.errors import Conflict, OutcomeUnknown, PermissionDenied
from runctl.providers.abilities.inventory import Inventory, Resource, ResourceKind
from runctl.testing.clock import ManualClock
from tests.cleanup.account import Account
from tests.cleanup.resources import a_resource

K = ResourceKind
MACHINE = a_resource(K.INSTANCE, "i-1")
DISK = a_resource(K.VOLUME, "vol-1", attached_to=("i-1",))
OTHER = a_resource(K.VOLUME, "vol-2")


@pytest.fixture
def account() -> Account:
    return Account(MACHINE, DISK, OTHER)


def test_everything_is_removed_and_waited_for_before_what_needs_it_gone(
    account: Account, clock: ManualClock
) -> None:
    account.looks["i-1"] = 3

    outcome = carry_out([[MACHINE], [DISK, OTHER]], {"aws": account}, clock)

    assert (outcome.done, outcome.failed) == ((MACHINE, DISK, OTHER), ())
    assert account.removed[0] == "i-1"
    assert account.existing == set()


def test_what_is_still_in_use_for_a_moment_is_tried_again(account: Account, clock: ManualClock) -> None:
    account.errors["vol-2"] = [Conflict("in use", code="volume-in-use")] * 3

    assert carry_out([[OTHER]], {"aws": account}, clock).failed == ()


def test_a_failure_is_told_and_keeps_only_what_needs_it_gone(account: Account, clock: ManualClock) -> None:
    account.errors["i-1"] = [PermissionDenied("not allowed to TerminateInstances", hint="ask")]

    outcome = carry_out([[MACHINE], [DISK, OTHER]], {"aws": account}, clock)

    assert outcome.done == (OTHER,)
    assert [(each.resource.id, each.code) for each in outcome.failed] == [
        ("i-1", "permission"),
        ("vol-1", "blocked"),
    ]
    assert (outcome.failed[0].reason, outcome.failed[0].hint) == ("not allowed to TerminateInstances", "ask")
    # The same again, once it is allowed, finishes it.
    assert carry_out([[MACHINE], [DISK, OTHER]], {"aws": account}, clock).failed == ()
    assert account.existing == set()


@pytest.mark.parametrize("code", ["protected", "not-ours", "profile-in-use"])
def test_a_refusal_for_good_is_not_waited_for(account: Account, clock: ManualClock, code: str) -> None:
    account.errors["vol-2"] = [Conflict("no", code=code)]
    start = clock.monotonic()

    (failure,) = carry_out([[OTHER]], {"aws": account}, clock).failed

    assert (failure.code, clock.monotonic() - start) == (code, 0)


def test_what_stays_in_use_is_given_up(account: Account, clock: ManualClock) -> None:
    account.errors["vol-2"] = [Conflict("in use", code="volume-in-use")] * 1000
    start = clock.monotonic()

    (failure,) = carry_out([[OTHER]], {"aws": account}, clock).failed

    assert failure.code == "volume-in-use"
    assert timedelta(seconds=clock.monotonic() - start) >= FREE_TIMEOUT


def test_a_lost_answer_is_looked_up(account: Account, clock: ManualClock) -> None:
    account.errors["vol-2"] = [OutcomeUnknown("the answer was lost")]

    outcome = carry_out([[OTHER]], {"aws": account}, clock)

    assert outcome.done == (OTHER,)
    assert account.removed == ["vol-2"]


def test_what_does_not_go_is_said(account: Account, clock: ManualClock) -> None:
    account.looks["vol-2"] = 10**6

    (failure,) = carry_out([[OTHER]], {"aws": account}, clock).failed

    assert "still there" in failure.reason


def test_ctrl_c_ends_the_waiting(account: Account, clock: ManualClock) -> None:
    def interrupt(_inventory: Inventory, _resource: Resource) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out([[OTHER]], {"aws": account}, clock, act=interrupt)
