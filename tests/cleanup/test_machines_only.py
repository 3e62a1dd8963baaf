"""Providers that list machines and nothing else, and those that nobody has set up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runctl.cleanup.cleaning import Cleaning
from runctl.cleanup.eligibility import KeptBecause
from runctl.cleanup.facts import Include
from runctl.cleanup.listing import inventories, list_all
from runctl.cleanup.machines_only import MachineInventory
from runctl.cleanup.plan import CleanupPlan
from runctl.core.config import Config
from runctl.core.errors import (
    ConfigError,
    CredentialsError,
    NotFound,
    PermissionDenied,
    Unreachable,
    Unsupported,
)
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.progress import SILENT, Progress
from runctl.machines.session import Session
from runctl.providers import registry
from runctl.providers.abilities.inventory import ResourceKind
from runctl.providers.abilities.prices import FreePrices
from runctl.providers.capacity import RefusalListener, no_listener
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.providers.interface import Renting
from runctl.testing.clock import ManualClock
from tests.cleanup.account import Account
from tests.cleanup.resources import a_resource
from tests.cli.fake_provider import FakeProvider, FakeVolumes, Script, a_volume, an_instance

MACHINE = replace(an_instance("i-1"), owner=None, tags={"Name": "digits"})


class Machines(FakeProvider):
    """Some that run, and whether they can be ended."""

    name = "aws"

    def __init__(self, *instances: Instance) -> None:
        super().__init__(Script())
        self.there = {each.id: each for each in instances}
        self.renting = Ending(self)
        self.volumes = Unsupported("it has machines only")

    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        return tuple(each for each in self.there.values() if include_ended or not each.state.is_over)

    def instance(self, instance_id: InstanceId) -> Instance:
        if instance_id not in self.there:
            raise NotFound("no such machine")
        return self.there[instance_id]


class Ending(Renting):
    """Ends machines."""

    def plan(self, request: InstanceRequest, progress: Progress = SILENT) -> CreatePlan:
        raise NotImplementedError

    def create(
        self, plan: CreatePlan, progress: Progress = SILENT, refused: RefusalListener = no_listener
    ) -> Instance:
        raise NotImplementedError

    def wait_ended(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        raise NotImplementedError

    def __init__(self, provider: Machines) -> None:
        self.provider = provider

    def terminate(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        ended = replace(self.provider.there[instance_id], state=InstanceState.TERMINATED)
        self.provider.there[instance_id] = ended
        return ended


def session_with(monkeypatch: pytest.MonkeyPatch, **providers: Any) -> Session:
    def load(name: str, _config: Config, progress: Progress) -> Any:
        del progress
        found = providers[name]
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(registry, "load", load)
    monkeypatch.setattr("runctl.cleanup.listing.names", lambda: tuple(providers))
    return Session(config=Config())


def test_what_it_rents_is_listed_and_removed() -> None:
    machines = Machines(MACHINE)
    inventory = MachineInventory(machines)

    (resource,) = inventory.list().resources
    assert (resource.kind, resource.name, resource.owner) == (
        ResourceKind.INSTANCE,
        "digits",
        inventory.user(),
    )
    assert not inventory.is_gone(resource)
    inventory.remove(resource)
    assert inventory.is_gone(resource)
    assert inventory.list().resources == ()
    inventory.remove(resource)


def test_what_it_does_not_list_as_ours_is_left_alone() -> None:
    machines = Machines(MACHINE)
    inventory = MachineInventory(machines)
    (resource,) = inventory.list().resources
    machines.instances = lambda **_: ()  # type: ignore[method-assign]

    with pytest.raises(PermissionDenied):
        inventory.remove(resource)

    assert not inventory.is_gone(resource)


def test_a_provider_that_only_rents_is_asked_for_its_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    full, bare = FakeProvider(Script()), Machines(MACHINE)
    full.inventory = Account(a_resource())
    session = session_with(monkeypatch, one=full, other=bare)

    assert {each.id for each in list_all(session).resources} == {"i-1", a_resource().id}


def test_a_provider_that_was_never_set_up_or_used_is_no_hole_in_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full, bare = FakeProvider(Script()), Machines()
    full.inventory = Account(a_resource())

    def refuse(**_: Any) -> tuple[Instance, ...]:
        raise CredentialsError("there is no key")

    bare.instances = refuse  # type: ignore[method-assign]
    session = session_with(monkeypatch, one=full, other=bare)

    assert list_all(session).unread == ()
    # Whoever asks for it by name is told.
    with pytest.raises(CredentialsError):
        list_all(session, provider="other")


def test_where_no_provider_can_list_anything_its_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = FakeProvider(Script())
    nothing.inventory = Unsupported("nothing is rented here")
    nothing.renting = Unsupported("it is yours")

    with pytest.raises(Unsupported, match="nothing is rented here"):
        inventories(session_with(monkeypatch, one=nothing))


def test_a_list_that_nobody_can_give_is_an_error_with_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> tuple[Instance, ...]:
        raise CredentialsError("there is no key")

    keyless, bare = Machines(), FakeProvider(Script())
    keyless.instances = refuse  # type: ignore[method-assign]
    bare.inventory, bare.renting = Unsupported("nothing is rented here"), Unsupported("it is yours")
    session = session_with(monkeypatch, one=ConfigError("no region is set"), other=keyless, local=bare)

    with pytest.raises(CredentialsError, match=r"one: no region is set; other: there is no key$"):
        list_all(session)


def test_of_a_list_that_nobody_can_give_the_provider_that_was_used_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: Any) -> tuple[Instance, ...]:
        raise CredentialsError("there is no key")

    def silent(**_: Any) -> tuple[Instance, ...]:
        raise Unreachable("it does not answer")

    used, keyless = Machines(), Machines()
    used.instances, keyless.instances = silent, refuse  # type: ignore[method-assign]

    with pytest.raises(Unreachable, match="does not answer"):
        list_all(session_with(monkeypatch, one=used, other=keyless))


def test_a_volume_whose_provider_tells_no_age_grows_old_enough_to_be_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    volume = a_volume("2q9m7x4c", created_at=None, price_per_month=None)
    bare: Any = Machines()
    bare.volumes = FakeVolumes(Script({"volumes": (volume,)}))
    bare.prices = FreePrices("a test")
    session = session_with(monkeypatch, aws=bare)
    monkeypatch.setattr("runctl.core.files.state_file", lambda: tmp_path / "state.db")
    clock = ManualClock()

    def planned() -> CleanupPlan:
        return Cleaning(session, clock=clock).plan(include=frozenset({Include.VOLUMES}))

    (young,) = planned().keep
    assert (young.kept, young.why) == (
        KeptBecause.TOO_YOUNG,
        "its provider does not say how old it is; this computer has known it for 0s, less than 1h00m",
    )
    clock.advance(timedelta(hours=1))
    (old,) = planned().remove
    assert (old.resource.id, old.resource.created_at) == ("2q9m7x4c", None)
    assert old.resource.known_since == clock.now() - timedelta(hours=1)
    session.database.close()
