"""Whatever goes wrong while a helper machine is rented, it is given back with its role, and the error says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runctl.agent.object_store import Source
from runctl.core.database import Database
from runctl.core.errors import CapacityError, Interrupted, ProviderError, RunctlError, Unreachable
from runctl.core.machine_models import Volume
from runctl.machines.intents import IntentStore
from runctl.machines.renting import Rental, RentalEvent, RentalKind
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ec2.renting import Ec2Renting
from runctl.runs.filling.fill import Prewarm
from runctl.runs.filling.plan import PrewarmPlan, PrewarmRequest
from runctl.runs.records.store import RunStore
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress


@pytest.fixture
def volume(provider: AwsProvider, session: AwsSession, monkeypatch: pytest.MonkeyPatch) -> Volume:
    # AWS's own policies are not in moto.
    for name in ("attach_role_policy", "detach_role_policy"):
        monkeypatch.setattr(session.iam, name, lambda **_: None)
    session.s3.create_bucket(Bucket="data")
    session.s3.put_object(Bucket="data", Key="set/a", Body=b"12345")
    plan = provider.volumes.plan(VolumeRequest(size_gib=10, name="datasets", zone="us-east-1a"))
    return provider.volumes.create(plan)


@pytest.fixture
def prewarm(provider: AwsProvider, clock: ManualClock, progress: RecordedProgress, tmp_path: Path) -> Prewarm:
    database = Database(tmp_path / "state.db")
    intents = IntentStore(database, tmp_path / "intents")
    provider.journal.listen(intents.heard)
    return Prewarm(provider, RunStore(database), intents, clock, progress=progress)


def plan_of(prewarm: Prewarm, volume: Volume) -> PrewarmPlan:
    return prewarm.plan(PrewarmRequest(volume, Source("data", "set")))


def raising(error: BaseException) -> Any:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


def states(session: AwsSession) -> list[str]:
    groups = session.ec2.describe_instances()["Reservations"]
    return [item["State"]["Name"] for group in groups for item in group["Instances"]]


def assert_no_role(session: AwsSession) -> None:
    names = [role["RoleName"] for role in session.iam.list_roles()["Roles"]]
    assert [name for name in names if name.startswith("runctl-prewarm-")] == []


def test_without_capacity_no_role_is_left(
    prewarm: Prewarm, volume: Volume, session: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(prewarm, volume)
    monkeypatch.setattr(Ec2Renting, "create", raising(CapacityError("none in us-east-1a")))

    with pytest.raises(CapacityError, match="none in us-east-1a"):
        prewarm.carry_out(plan)

    assert states(session) == []
    assert_no_role(session)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unreachable("it never answered"), Unreachable),
        (KeyboardInterrupt(), Interrupted),
        (OSError(5, "x"), OSError),
    ],
)
def test_a_machine_that_does_not_become_ready_is_given_back(
    prewarm: Prewarm,
    volume: Volume,
    session: AwsSession,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    kind: type[BaseException],
) -> None:
    plan = plan_of(prewarm, volume)
    monkeypatch.setattr(AwsProvider, "wait_ready", raising(error))

    with pytest.raises(kind) as caught:
        prewarm.carry_out(plan)

    assert states(session) == ["terminated"]
    assert_no_role(session)
    if isinstance(caught.value, RunctlError) and not isinstance(caught.value, Interrupted):
        assert "the helper machine is given back" in caught.value.message


def test_the_helper_is_told_of_to_whoever_keeps_account(
    prewarm: Prewarm, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Rental] = []
    prewarm.rental_listeners = [heard.append]
    plan = plan_of(prewarm, volume)
    monkeypatch.setattr(AwsProvider, "wait_ready", raising(Unreachable("it never answered")))

    with pytest.raises(Unreachable):
        prewarm.carry_out(plan)

    assert [fact.event for fact in heard] == [RentalEvent.RENTED, RentalEvent.GIVEN_BACK]
    assert {fact.kind for fact in heard} == {RentalKind.HELPER}
    assert len({(fact.id, fact.token) for fact in heard}) == 1
    assert prewarm.intents.get(heard[0].token or "") is not None


def test_a_second_ctrl_c_does_not_keep_the_machine(
    prewarm: Prewarm, volume: Volume, session: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(prewarm, volume)
    real, impatient = Ec2Renting.terminate, [KeyboardInterrupt()]

    def terminate(*argv: Any) -> Any:
        if impatient:
            raise impatient.pop()
        return real(*argv)

    monkeypatch.setattr(AwsProvider, "wait_ready", raising(KeyboardInterrupt()))
    monkeypatch.setattr(Ec2Renting, "terminate", terminate)

    with pytest.raises(Interrupted):
        prewarm.carry_out(plan)

    assert states(session) == ["terminated"]
    assert_no_role(session)


def test_a_machine_that_cannot_be_ended_is_named_loudly(
    prewarm: Prewarm,
    volume: Volume,
    session: AwsSession,
    progress: RecordedProgress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of(prewarm, volume)
    monkeypatch.setattr(AwsProvider, "wait_ready", raising(ProviderError("boot failed")))
    monkeypatch.setattr(Ec2Renting, "terminate", raising(ProviderError("AWS is down")))

    with pytest.raises(ProviderError, match="THE HELPER MACHINE MAY STILL RUN") as caught:
        prewarm.carry_out(plan)

    assert "boot failed" in caught.value.message
    assert "AWS is down" in caught.value.message
    assert states(session) == ["running"]
