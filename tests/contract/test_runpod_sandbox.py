"""The RunPod provider keeps the contract with pods that can really be reached: in the sandbox."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import pytest

from runctl.cleanup.machines_only import MachineInventory
from runctl.core import tags as tag
from runctl.core.config import Config
from runctl.core.errors import (
    CapacityError,
    Conflict,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Unreachable,
    Unsupported,
    UsageError,
    ZoneMismatch,
)
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Instance, InstanceState, Market, VolumeState
from runctl.providers import registry
from runctl.providers.abilities.volume_plans import ResizeRequest, VolumeRequest
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.providers.interface import DoctorStatus, Provider
from runctl.providers.runpod.pod_preparing import END_POD
from runctl.providers.runpod.runpod_provider import RunPodProvider
from runctl.providers.runpod.settings import RunPodConfig
from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from runctl.testing.contract import READY_TIMEOUT, MachineContract, RentingContract
from tests.sandbox_fixture import lead_into

pytestmark = [pytest.mark.namespaces, pytest.mark.docker]
A5000 = InstanceRequest(instance_type="rtx-a5000")


def a_provider() -> RunPodProvider:
    settings = RunPodConfig(base_url=os.environ["RUNCTL_RUNPOD_BASE_URL"])
    created = registry.load("runpod", Config(provided=(settings,)))
    assert isinstance(created, RunPodProvider)
    return created


@pytest.fixture
def runpod(in_docker_sandbox: SandboxInfo) -> RunPodProvider:
    return a_provider()


@pytest.fixture
def faults(docker_sandbox: SandboxInfo) -> Generator[Faults]:
    found = Faults(docker_sandbox)
    yield found
    found.clear()


class TestRunPodInstances(RentingContract):
    @pytest.fixture
    def provider(self, runpod: RunPodProvider) -> Provider:
        return runpod

    @pytest.fixture
    def instance_request(self) -> InstanceRequest:
        return A5000

    @pytest.fixture
    def foreign_instance(self, runpod: RunPodProvider) -> Generator[InstanceId]:
        api = runpod._context.api
        pod = api.create(
            {"name": "theirs", "image": "x", "gpu": {"id": "NVIDIA RTX A5000", "count": 1}, "disk": 5}
        )
        yield InstanceId(pod.id)
        api.delete(pod.id)


@pytest.fixture(scope="module")
def machine(docker_sandbox: SandboxInfo) -> Generator[Instance]:
    """One ready pod."""
    with pytest.MonkeyPatch.context() as patch:
        lead_into(docker_sandbox, patch)
        provider = a_provider()
        instance = provider.wait_ready(
            provider.renting.create(provider.renting.plan(A5000)).id, timeout=READY_TIMEOUT
        )
    yield instance
    with pytest.MonkeyPatch.context() as patch:
        lead_into(docker_sandbox, patch)
        a_provider().renting.terminate(instance.id)


class TestRunPodMachine(MachineContract):
    @pytest.fixture
    def ready(self, machine: Instance, in_docker_sandbox: SandboxInfo) -> tuple[Provider, Instance]:
        return a_provider(), machine


def test_a_pod_is_root_and_has_no_docker(runpod: RunPodProvider, machine: Instance) -> None:
    done = runpod.transport(machine).run(["sh", "-c", "id -un; command -v docker"])
    assert done.stdout == b"root\n"


def test_what_is_created_here_is_the_callers_own(runpod: RunPodProvider, machine: Instance) -> None:
    found = {each.id: each.owner for each in MachineInventory(runpod).list().resources}
    assert found[machine.id] == MachineInventory(runpod).user()


def test_a_creation_whose_answer_is_lost_makes_one_pod_however_late_the_list_has_it(
    runpod: RunPodProvider, faults: Faults
) -> None:
    faults.runpod(lost={"create": 1}, list_lag=1.5, failing_reads=2)
    before = {instance.id for instance in runpod.instances()}
    plan = runpod.renting.plan(A5000)
    instance = runpod.renting.create(plan)
    assert runpod.renting.create(plan).id == instance.id
    assert {each.id for each in runpod.instances()} - before == {instance.id}
    runpod.renting.terminate(instance.id)
    with pytest.raises(Conflict, match="has ended"):
        runpod.renting.create(plan)


def test_what_has_no_stock_is_left_for_the_next_type_and_named_where_there_is_none(
    runpod: RunPodProvider, faults: Faults
) -> None:
    faults.runpod_stock("NVIDIA GeForce RTX 4090", 0)
    plan = runpod.renting.plan(InstanceRequest(instance_type="rtx-4090", other_types=("rtx-a5000.2x",)))
    assert [offer.pool.instance_type for offer in plan.offers] == ["rtx-a5000.2x", "rtx-4090.1x"]
    instance = runpod.renting.create(plan)
    assert instance.instance_type == "rtx-a5000.2x"
    runpod.renting.terminate(instance.id)

    with pytest.raises(CapacityError, match=r"rtx-4090\.1x"):
        runpod.renting.create(runpod.renting.plan(InstanceRequest(instance_type="RTX 4090")))


def test_a_pod_is_stopped_started_at_another_port_and_refused_without_its_gpus(
    runpod: RunPodProvider, faults: Faults
) -> None:
    instance = runpod.renting.create(runpod.renting.plan(A5000))
    runpod.wait_ready(instance.id, timeout=READY_TIMEOUT)
    runpod.transport(runpod.instance(instance.id)).run(["touch", "/root/mine"])
    first = runpod._context.access.door(instance.id)

    assert runpod.stop_and_start.stop(instance.id).state is InstanceState.STOPPED
    assert runpod.stop_and_start.stop(instance.id).price_per_hour == 0
    with pytest.raises(Conflict, match="is stopped"):
        runpod.wait_ready(instance.id, timeout=timedelta(seconds=5))

    faults.runpod(host_full=True)
    with pytest.raises(CapacityError, match="free GPUs"):
        runpod.stop_and_start.start(instance.id)
    faults.clear()
    runpod.stop_and_start.start(instance.id)
    runpod.wait_ready(instance.id, timeout=READY_TIMEOUT)
    assert runpod._context.access.door(instance.id) != first
    done = runpod.transport(runpod.instance(instance.id)).run(["ls", "/root/mine"])
    assert done.exit_code != 0, "a pod's own disk is lost when it stops"

    runpod.stop_and_start.stop(instance.id)
    faults.runpod(zero_gpus=True)
    runpod.stop_and_start.start(instance.id)
    with pytest.raises(Conflict, match="without its GPUs"):
        runpod.wait_ready(instance.id, timeout=READY_TIMEOUT)
    runpod.renting.terminate(instance.id)


def test_what_a_pod_cannot_have_is_refused_with_the_reason(runpod: RunPodProvider) -> None:
    for request in (
        replace(A5000, market=Market.SPOT),
        replace(A5000, data_volume_size_gib=10),
    ):
        with pytest.raises(Unsupported):
            runpod.renting.plan(request)
    with pytest.raises(UsageError, match="no cloud"):
        runpod.renting.plan(replace(A5000, options={"cloud": "mars"}))


@pytest.mark.parametrize("may", ["rest", "graphql"])
def test_a_pod_ends_itself_at_its_limit_by_its_own_key(
    runpod: RunPodProvider, faults: Faults, may: str
) -> None:
    faults.runpod(pod_key=may)
    plan = runpod.renting.plan(replace(A5000, ttl=timedelta(hours=1)))
    assert plan.longest == timedelta(hours=1)
    pod = runpod.renting.create(plan)
    ready = runpod.wait_ready(pod.id, timeout=READY_TIMEOUT)
    transport = runpod.transport(ready)
    limits = json.loads(transport.run(["cat", "/var/lib/runctl-guard/limits.json"]).stdout)
    assert 3000 < limits["ttl_seconds"] <= 3600
    assert limits["idle_seconds"] == 3600
    secret, accounts = b"rpa_pod_", runpod._context.api.account.key.encode()
    assert accounts not in transport.run(["cat", "/proc/1/environ"]).stdout
    for place in (["env"], ["sh", "-c", "cat /proc/[0-9]*/cmdline; cat /usr/local/sbin/shutdown"]):
        said = transport.run(place).stdout
        assert secret not in said
        assert accounts not in said
    # The guard sees the new limit within a second.
    limits["ttl_seconds"] = 1.0
    transport.put(json.dumps(limits).encode(), PurePosixPath("/var/lib/runctl-guard/limits.json"))
    with pytest.raises(NotFound):
        runpod.renting.wait_ended(pod.id, timeout=timedelta(minutes=1))


def test_a_pod_that_may_not_end_itself_says_so_and_is_ended_from_outside(
    runpod: RunPodProvider, faults: Faults
) -> None:
    faults.runpod(pod_key="none")
    plan = runpod.renting.plan(replace(A5000, ttl=timedelta(minutes=1)))
    assert any("which RunPod may refuse" in warning for warning in plan.warnings)
    pod = runpod.renting.create(plan)
    transport = runpod.transport(runpod.wait_ready(pod.id, timeout=READY_TIMEOUT))
    done = transport.run(
        ["sh", "-c", "sed -i 's/^PAUSE_SECONDS = .*/PAUSE_SECONDS = 0/' $1; shutdown now", "-", END_POD]
    )
    assert done.exit_code == 1
    assert b"RunPod does not let this pod end itself: 403" in done.stderr
    (resource,) = [each for each in MachineInventory(runpod).list().resources if each.id == pod.id]
    assert resource.tags[tag.EXPIRES_AT]
    MachineInventory(runpod).remove(resource)
    assert MachineInventory(runpod).is_gone(resource)


def test_a_network_volume_outlives_its_pods_and_is_on_them_from_the_first_moment(
    runpod: RunPodProvider, faults: Faults
) -> None:
    faults.runpod(lost={"create_volume": 1})
    plan = runpod.volumes.plan(VolumeRequest(size_gib=20, name="datasets", zone="EU-RO-1"))
    volume = runpod.volumes.create(plan)
    assert runpod.volumes.create(plan).id == volume.id
    assert [each.name for each in runpod.volumes.list()] == ["datasets"]
    with pytest.raises(Conflict, match="called datasets already"):
        runpod.volumes.plan(VolumeRequest(size_gib=20, name="datasets", zone="US-KS-2"))

    with_volume = replace(A5000, volumes=(VolumeMount("datasets", "/data"),))
    with pytest.raises(ZoneMismatch):
        runpod.renting.plan(replace(with_volume, zone="US-KS-2"))
    with pytest.raises(UsageError, match="secure"):
        runpod.renting.plan(replace(with_volume, options={"cloud": "community"}))
    pod_plan = runpod.renting.plan(with_volume)
    assert any("below /data is on datasets, and stays" in warning for warning in pod_plan.warnings)
    pod = runpod.renting.create(pod_plan)
    try:
        runpod.wait_ready(pod.id, timeout=READY_TIMEOUT)
        runpod.transport(runpod.instance(pod.id)).run(["touch", "/data/mine"])
        provided = {"/data": str(volume.id), "/mnt": "a folder, and no mount"}
        assert len(runpod.agent(runpod.instance(pod.id)).mounts(provided)) == 1
        (mount,) = runpod.agent(runpod.instance(pod.id)).mounts()
        assert (mount.mount_point, mount.volume_id, mount.read_only) == ("/data", volume.id, False)
        found = runpod.volumes.find("datasets")
        assert (found.state, found.instances, found.zone) == (VolumeState.IN_USE, (pod.id,), "EU-RO-1")
        with pytest.raises(Conflict, match=pod.id):
            runpod.volumes.delete(volume.id)
        runpod.stop_and_start.stop(pod.id)
        runpod.stop_and_start.start(pod.id)
        runpod.wait_ready(pod.id, timeout=READY_TIMEOUT)
        assert runpod.transport(runpod.instance(pod.id)).run(["ls", "/data"]).stdout == b"mine\n"
    finally:
        runpod.renting.terminate(pod.id)
    assert [
        each.kind.value for each in MachineInventory(runpod).list().resources if each.id == volume.id
    ] == ["volume"]
    larger = runpod.resizing.plan("datasets", ResizeRequest(size_gib=30))
    assert runpod.resizing.resize(larger).size_gib == 30
    with pytest.raises(UsageError, match="cannot have 20"):
        runpod.resizing.plan("datasets", ResizeRequest(size_gib=20))
    runpod.volumes.delete(volume.id)
    runpod.volumes.delete(volume.id)
    with pytest.raises(NotFound):
        runpod.volumes.find("datasets")


def test_a_network_volume_that_runctl_did_not_create_is_used_and_not_deleted(runpod: RunPodProvider) -> None:
    api = runpod._context.api
    theirs = api.create_volume({"name": "theirs", "size": 10, "dataCenter": "US-KS-2"})
    try:
        assert runpod.volumes.list() == ()
        plan = runpod.renting.plan(replace(A5000, volumes=(VolumeMount("theirs"),)))
        assert (plan.volumes, plan.zone) == ((VolumeMount(VolumeId(theirs.id), "/mnt/theirs"),), "US-KS-2")
        with pytest.raises(PermissionDenied):
            runpod.volumes.delete(VolumeId(theirs.id))
    finally:
        api.delete_volume(theirs.id)


def test_the_bill_has_the_pods_of_this_account_that_are_runctls_own(
    runpod: RunPodProvider, machine: Instance
) -> None:
    gone = runpod.renting.create(runpod.renting.plan(A5000))
    runpod.wait_ready(gone.id, timeout=READY_TIMEOUT)
    runpod.renting.terminate(gone.id)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    found = runpod.bill.amounts(today - timedelta(days=1), today + timedelta(days=1))
    assert {f"pod {machine.id}", f"pod {gone.id}"} <= {each.usage for each in found}
    assert all(each.usd > 0 and each.preliminary and each.kind == "instance" for each in found)


def test_every_page_of_the_pods_is_read(
    runpod: RunPodProvider, machine: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = runpod.renting.create(runpod.renting.plan(A5000))
    monkeypatch.setattr("runctl.providers.runpod.api._PAGE", "1")
    assert {machine.id, other.id} <= {each.id for each in runpod.instances()}
    runpod.renting.terminate(other.id)


def test_a_key_that_is_refused_is_said_and_a_list_that_fails_is_not_an_empty_one(
    runpod: RunPodProvider, faults: Faults
) -> None:
    faults.runpod(refused_key=True)
    (check,) = runpod.doctor()
    assert "RUNPOD_API_KEY" in check.fix
    faults.runpod(refused_key=False, balance=1.0)
    assert [check.status for check in runpod.doctor()][1] in {DoctorStatus.OK, DoctorStatus.WARNING}
    assert any("lasts for" in warning for warning in runpod.renting.plan(A5000).warnings)
    faults.runpod(balance_untold=True)
    assert runpod.doctor()[1].status is DoctorStatus.SKIPPED
    assert not any("lasts for" in warning for warning in runpod.renting.plan(A5000).warnings)
    faults.runpod(balance_untold=False, balance=-1)
    with pytest.raises(QuotaExceeded, match="balance"):
        runpod.renting.create(runpod.renting.plan(A5000))
    faults.runpod(refused_key=False, failing_reads=50)
    with pytest.raises(Unreachable):
        runpod.instances()
    faults.clear()
    with pytest.raises(NotFound):
        runpod.instance(InstanceId("abcdefghijklmn"))
