"""Whoever listens hears of every machine from its renting to its end, with the token of its intent."""

from __future__ import annotations

from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from unittest.mock import patch

import boto3
import pytest

import runctl
from runctl.core.database import Database
from runctl.core.errors import Unreachable
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.tags import HELPER_FOR, INTENT
from runctl.machines.creation import Creation
from runctl.machines.intents import LIVES_UNSEEN, IntentState, IntentStore
from runctl.machines.renting import Rental, RentalEvent, RentalKind, Rentals, rental_of
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.sandbox.connection import SandboxInfo
from runctl.testing.clock import ManualClock
from tests.cli.fake_provider import FakeProvider, FakeRenting, Script, an_instance


@pytest.fixture
def project(in_sandbox: SandboxInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, with a state file of its own."""
    del in_sandbox
    (tmp_path / "project" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "project"


@pytest.mark.namespaces
@pytest.mark.root
@pytest.mark.usefixtures("project")
def test_a_machine_is_told_of_from_its_renting_to_its_end(capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[Rental] = []
    plans: list[CreatePlan] = []
    session = runctl.Session(rental_listeners=[heard.append])

    created = runctl.create(
        "g4dn.xlarge", spot=False, name="digits", on_plan=plans.append, wait=False, session=session
    )
    rentals = session.rentals("aws")
    ready = rentals.finish(created.id)
    rentals.stop(created.id)
    _wait_stopped(created.id)
    rentals.start(created.id)
    rentals.give_back(created.id)

    assert ready.state is InstanceState.RUNNING
    assert [(fact.event, fact.state.is_over) for fact in heard] == [
        (RentalEvent.RENTED, False),
        (RentalEvent.CHANGED, False),
        (RentalEvent.CHANGED, False),
        (RentalEvent.CHANGED, False),
        (RentalEvent.GIVEN_BACK, True),
    ]
    (token,) = {fact.token for fact in heard}
    assert token == plans[0].client_token
    intent = session.intents.get(token)
    assert intent is not None
    assert (intent.resource_id, intent.state) == (created.id, IntentState.DONE)
    for fact in heard:
        assert (fact.id, fact.kind, fact.provider) == (created.id, RentalKind.MACHINE, "aws")
        assert (fact.instance_type, fact.market) == ("g4dn.xlarge", Market.ON_DEMAND)
    assert heard[0].price_per_hour == plans[0].price.usd  # type: ignore[union-attr]
    assert sorted(fact.time for fact in heard) == [fact.time for fact in heard]
    # A library prints nothing.
    assert capfd.readouterr() == ("", "")


def _wait_stopped(instance_id: str) -> None:
    client = boto3.client("ec2", region_name="us-east-1")
    client.get_waiter("instance_stopped").wait(InstanceIds=[instance_id], WaiterConfig={"Delay": 1})


@pytest.mark.namespaces
@pytest.mark.root
@pytest.mark.usefixtures("project")
def test_what_refuses_the_plan_leaves_nothing_rented() -> None:
    heard: list[Rental] = []
    session = runctl.Session(rental_listeners=[heard.append])

    def refuse(plan: CreatePlan) -> None:
        raise runctl.Conflict(f"{plan.instance_type} costs too much")

    with pytest.raises(runctl.Conflict, match="costs too much"):
        runctl.create("g4dn.xlarge", name="never", on_plan=refuse, session=session)

    assert heard == []
    assert session.intents.unfinished() == []
    assert "never" not in {instance.tags.get("Name") for instance in session.provider("aws").instances()}


@pytest.mark.parametrize(
    ("tags", "kind", "token"),
    [
        ({}, RentalKind.MACHINE, None),
        ({INTENT: "t"}, RentalKind.MACHINE, "t"),
        ({INTENT: "t", HELPER_FOR: "vol-1"}, RentalKind.HELPER, "t"),
    ],
)
def test_what_a_machine_is_for_and_whose_intent_it_is_stand_in_its_tags(
    tags: dict[str, str], kind: RentalKind, token: str | None
) -> None:
    instance = an_instance(tags=tags, price_per_hour=Decimal("0.5"))
    fact = rental_of(RentalEvent.RENTED, instance, instance.created_at)
    assert (fact.kind, fact.token, fact.price_per_hour) == (kind, token, Decimal("0.5"))


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([KeyboardInterrupt, Unreachable("no answer"), None], ("i-1 is given back", "")),
        ([OSError("no space"), KeyError("state"), None], ("i-1 is given back", "")),
        (
            [Unreachable("no answer"), KeyboardInterrupt, Unreachable("no answer")],
            ("i-1 MAY STILL BE RUNNING (no answer)", "end it: runctl aws terminate i-1"),
        ),
    ],
)
def test_giving_back_after_a_failure_is_neither_given_up_nor_interrupted(
    answers: list[object], told: tuple[str, str], tmp_path: Path
) -> None:
    database = Database(tmp_path / "state.db")
    intents = IntentStore(database, tmp_path / "intents")
    rentals = Rentals(FakeProvider(Script()), intents, clock=ManualClock())
    ended = an_instance("i-1", state=InstanceState.TERMINATED)

    with patch.object(FakeRenting, "terminate", side_effect=[each or ended for each in answers]) as asked:
        assert rentals.give_back_surely(InstanceId("i-1")) == told

    assert asked.call_count == 3
    database.close()


def test_a_machine_that_was_waited_for_for_hours_is_what_the_same_command_means(tmp_path: Path) -> None:
    database, clock = Database(tmp_path / "state.db"), ManualClock()
    intents = IntentStore(database, tmp_path / "intents")

    class Empty(FakeProvider):
        """Nothing of the call that was cut short is to be seen yet."""

        def instances(self, **_: object) -> tuple[Instance, ...]:
            return ()

    def renting() -> AbstractContextManager[Creation]:
        rentals = Rentals(Empty(Script()), intents, clock=clock)
        return rentals.intending(InstanceRequest("g4dn.xlarge"))

    with pytest.raises(KeyboardInterrupt), renting() as creation:
        creation.begin()
        clock.advance(2 * LIVES_UNSEEN)
        # There was no capacity: the next try has a token of its own.
        creation.renew(IntentState.NOTHING)
        creation.begin()
        token = creation.token
        raise KeyboardInterrupt
    clock.advance(LIVES_UNSEEN / 2)
    with renting() as again:
        assert (again.is_taken_up, again.token) == (True, token)
    database.close()
