"""The Lyceum provider keeps the contract with machines that are really there: in the sandbox."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import replace
from datetime import timedelta

import pytest

from runctl.cleanup.machines_only import MachineInventory
from runctl.core.config import Config
from runctl.core.errors import CapacityError, Conflict, PermissionDenied, Unsupported
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.progress import SILENT
from runctl.providers import registry
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.providers.interface import Provider
from runctl.providers.lyceum.lyceum_provider import LyceumProvider
from runctl.providers.lyceum.settings import LyceumConfig
from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from runctl.testing.contract import READY_TIMEOUT, MachineContract, RentingContract
from tests.sandbox_fixture import lead_into

pytestmark = pytest.mark.namespaces
L40S = InstanceRequest(instance_type="l40s")


def a_provider() -> LyceumProvider:
    settings = LyceumConfig(base_url=os.environ["RUNCTL_LYCEUM_BASE_URL"])
    created = registry.load("lyceum", Config(provided=(settings,)))
    assert isinstance(created, LyceumProvider)
    return created


@pytest.fixture
def lyceum(in_sandbox: SandboxInfo) -> LyceumProvider:
    return a_provider()


class TestLyceumInstances(RentingContract):
    @pytest.fixture
    def provider(self, lyceum: LyceumProvider) -> Provider:
        return lyceum

    @pytest.fixture
    def instance_request(self) -> InstanceRequest:
        return L40S

    @pytest.fixture
    def foreign_instance(self, lyceum: LyceumProvider) -> Generator[InstanceId]:
        vm = lyceum._context.api.create(
            {
                "user_public_key": "ssh-ed25519 AAAA somebody",
                "hardware_profile": "l40s",
                "display_name": "theirs",
            }
        )
        yield InstanceId(vm.vm_id)
        lyceum._context.api.terminate(vm.vm_id)


@pytest.fixture(scope="module")
def machine(sandbox: SandboxInfo) -> Generator[Instance]:
    """One ready machine, which Lyceum did not know for a moment, and whose address carries a port."""
    with pytest.MonkeyPatch.context() as patch:
        lead_into(sandbox, patch)
        Faults(sandbox).lyceum(address_with_port=True, list_lag=1.0)
        provider = a_provider()
        instance = provider.wait_ready(
            provider.renting.create(provider.renting.plan(L40S)).id, timeout=READY_TIMEOUT
        )
        Faults(sandbox).clear()
    yield instance
    with pytest.MonkeyPatch.context() as patch:
        lead_into(sandbox, patch)
        a_provider().renting.terminate(instance.id)


class TestLyceumMachine(MachineContract):
    @pytest.fixture
    def ready(self, machine: Instance, in_sandbox: SandboxInfo) -> tuple[Provider, Instance]:
        return a_provider(), machine


def test_what_is_created_here_is_the_callers_own(lyceum: LyceumProvider, machine: Instance) -> None:
    found = {each.id: each.owner for each in MachineInventory(lyceum).list().resources}
    assert found[machine.id] == MachineInventory(lyceum).user()


def test_a_creation_whose_answer_is_lost_makes_one_vm_however_late_it_appears(
    lyceum: LyceumProvider, sandbox: SandboxInfo
) -> None:
    faults = Faults(sandbox)
    faults.lyceum(lost={"create": 1}, late_creations=1.5, failing_reads=2)
    before = {instance.id for instance in lyceum.instances()}
    try:
        plan = lyceum.renting.plan(L40S)
        instance = lyceum.renting.create(plan)
        assert lyceum.renting.create(plan).id == instance.id
        assert {each.id for each in lyceum.instances()} - before == {instance.id}
    finally:
        faults.clear()
    lyceum.renting.terminate(instance.id)


def test_what_has_no_stock_is_left_for_the_next_type_and_named_where_there_is_none(
    lyceum: LyceumProvider, sandbox: SandboxInfo
) -> None:
    faults = Faults(sandbox)
    faults.lyceum_stock("h100", "spot", 0)
    try:
        two = InstanceRequest(instance_type="h100", other_types=("a100.2x",), market=Market.SPOT)
        plan = lyceum.renting.plan(two)
        assert [offer.pool.instance_type for offer in plan.offers] == ["a100.2x", "h100.1x"]
        instance = lyceum.renting.create(plan)
        assert (instance.instance_type, instance.market) == ("a100.2x", Market.SPOT)
        lyceum.renting.terminate(instance.id)

        with pytest.raises(CapacityError, match=r"h100\.1x"):
            lyceum.renting.create(
                lyceum.renting.plan(InstanceRequest(instance_type="h100", market=Market.SPOT))
            )
    finally:
        faults.clear()


@pytest.mark.parametrize(("word", "is_taken_back"), [("terminated", True), ("failed", False)])
def test_a_spot_vm_that_goes_without_our_asking_was_interrupted_unless_it_has_failed(
    lyceum: LyceumProvider, sandbox: SandboxInfo, word: str, is_taken_back: bool
) -> None:
    faults = Faults(sandbox)
    faults.lyceum(reclaimed_as=word)
    try:
        plan = lyceum.renting.plan(InstanceRequest(instance_type="a100", market=Market.SPOT))
        taken, ended = (lyceum.renting.create(plan) for plan in (plan, lyceum.renting.plan(L40S)))
        faults.lyceum_reclaim(taken.id)
        lyceum.renting.terminate(ended.id)
    finally:
        faults.clear()

    found = lyceum.instance(taken.id)
    assert (found.state, found.interrupted) == (InstanceState.TERMINATED, is_taken_back)
    assert not lyceum.instance(ended.id).interrupted
    assert lyceum.renting.wait_ended(taken.id, timeout=timedelta(seconds=10)).id == taken.id


def test_a_block_volume_is_made_with_a_machine_outlives_it_and_is_on_the_next_one(
    lyceum: LyceumProvider,
) -> None:
    plan = lyceum.renting.plan(replace(L40S, options={"new-volume": 20}))
    assert "block volume of 20 GB" in plan.will_also_create[0]
    first = lyceum.renting.create(plan)
    (volume,) = lyceum.volumes.list()
    assert (volume.size_gib, volume.instances) == (20, (first.id,))
    with pytest.raises(Conflict, match=first.id):
        lyceum.volumes.delete(volume.id)
    ready = lyceum.wait_ready(first.id, timeout=READY_TIMEOUT)
    lyceum.transport(ready).run(["touch", f"{volume.mount_point}/mine"])
    lyceum.renting.terminate(first.id)
    assert [each.id for each in lyceum.volumes.list()] == [volume.id], "it is known to be ours still"
    assert volume.id in {each.id for each in MachineInventory(lyceum).list().resources}

    again = replace(L40S, volumes=(VolumeMount(volume.id),))
    with pytest.raises(Unsupported, match="nowhere else"):
        lyceum.renting.plan(replace(L40S, volumes=(VolumeMount(volume.id, "/data"),)))
    second = lyceum.renting.create(lyceum.renting.plan(again))
    try:
        ready = lyceum.wait_ready(second.id, timeout=READY_TIMEOUT)
        assert lyceum.transport(ready).run(["ls", str(volume.mount_point)]).stdout == b"mine\n"
        (attached,) = ready.volumes
        (mount,) = lyceum.agent(ready).mounts({str(attached.mount_point): attached.volume_id})
        assert (mount.mount_point, mount.volume_id) == (volume.mount_point, volume.id)
    finally:
        lyceum.renting.terminate(second.id)
    lyceum._context.forget_volume(volume.id)
    with pytest.raises(PermissionDenied):
        lyceum.volumes.delete(volume.id)
    lyceum._context.note_volume(volume.id, SILENT)
    lyceum.volumes.delete(VolumeId(volume.id))
    assert lyceum.volumes.list(everyone=True) == ()
