"""What every provider with groups must do, as tests; see `contract` for how to use them."""

# ruff: noqa: S101 (tests assert)
from __future__ import annotations

import time
from collections.abc import Callable, Generator

import pytest

from runctl.core.ids import InstanceId, RunId, new_run_id
from runctl.core.tags import RUN
from runctl.providers.abilities.groups import GroupPlan, GroupRequest, MachineGroup, TakeUp
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.interface import Provider, require

SECONDS = 90.0
"""For a machine to come or to go."""


class GroupContract:
    """What holds for providers with groups, in addition."""

    @pytest.fixture
    def provider(self) -> Provider:
        """The provider under test."""
        raise NotImplementedError("a subclass gives the fixture `provider`")

    @pytest.fixture
    def store_url(self) -> str:
        """An address below which the machines may write; nothing has to lie there."""
        raise NotImplementedError("a subclass gives the fixture `store_url`")

    @pytest.fixture
    def group_plan(self, provider: Provider, store_url: str) -> Generator[GroupPlan]:
        """A plan; what is made by it is ended after the test."""
        run_id = new_run_id()
        machine = InstanceRequest(writes=(f"{store_url}/{run_id}",))
        yield require(provider.groups).plan(GroupRequest(machine, TakeUp(store_url, run_id, "0" * 64)))
        require(provider.groups).end(run_id)

    def test_planning_a_group_makes_nothing(self, provider: Provider, group_plan: GroupPlan) -> None:
        groups = require(provider.groups)
        assert groups.find(group_plan.take_up.run_id) is None
        assert groups.machines(group_plan.take_up.run_id) == ()
        assert groups.end(group_plan.take_up.run_id) == ()

    def test_a_group_rents_replaces_and_ends(self, provider: Provider, group_plan: GroupPlan) -> None:
        groups, run_id = require(provider.groups), group_plan.take_up.run_id
        created = groups.create(group_plan)
        assert (created.run_id, created.rents) == (run_id, True)
        assert groups.create(group_plan).id == created.id
        first = machine_of(provider, run_id)
        assert provider.instance(first).tags[RUN] == run_id
        assert created.id in {group.id for group in groups.list()}

        require(provider.renting).terminate(first)
        second = machine_of(provider, run_id, other_than=first)
        activities = groups.activities(run_id)
        assert activities
        assert activities == tuple(sorted(activities, key=lambda each: each.at, reverse=True))

        assert groups.end(run_id)
        wait(lambda: groups.find(run_id) is None, "the group to be gone")
        assert provider.instance(second).state.is_over
        assert groups.machines(run_id) == ()
        assert groups.end(run_id) == ()


def machine_of(provider: Provider, run_id: RunId, *, other_than: InstanceId | None = None) -> InstanceId:
    """The machine of the run's group, once it has one."""
    groups = require(provider.groups)

    def found() -> list[InstanceId]:
        group: MachineGroup | None = groups.find(run_id)
        members = group.machines if group is not None else ()
        return [each for each in groups.machines(run_id) if each in members and each != other_than]

    wait(lambda: bool(found()), "a machine of the group")
    return found()[0]


def wait(holds: Callable[[], bool], what: str) -> None:
    """Until it holds. Raises `AssertionError`."""
    until = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.2)
