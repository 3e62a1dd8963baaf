"""RunPod's and Lyceum's connections are reset at any moment of a call: what is read is asked again, what ends is ended
once more, and what was made is found by its name, never made twice."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runctl.core.errors import Conflict, NotFound, OutcomeUnknown, Unreachable
from runctl.core.journal import Journal
from runctl.core.machine_models import InstanceState
from runctl.providers.abilities.volume_plans import ResizeRequest, VolumeRequest
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.interface import Provider, require
from runctl.providers.lyceum.context import LyceumContext
from runctl.providers.lyceum.lyceum_provider import LyceumProvider
from runctl.providers.lyceum.settings import LyceumConfig
from runctl.providers.rest import READ_TRIES
from runctl.providers.runpod.context import RunPodContext
from runctl.providers.runpod.runpod_provider import RunPodProvider
from runctl.providers.runpod.settings import RunPodConfig
from runctl.sandbox.api.http_server import HttpServer
from runctl.testing.clock import ManualClock
from tests.sandbox.lyceum import emulator as of_lyceum
from tests.sandbox.runpod import emulator as of_runpod

MOMENTS = ("before", "after", "middle", "end")
A5000, L40S = InstanceRequest(instance_type="rtx-a5000"), InstanceRequest(instance_type="l40s")


class Cloud:
    """A provider of ours, and the account that it speaks to over real sockets."""

    def __init__(self, provider: Provider, emulated: Any, request: InstanceRequest, end: str) -> None:
        self.provider = provider
        self.account = emulated.account
        self.behaviour = emulated.behaviour
        self.request = request
        self.end = end
        """The endpoint that ends a machine."""

    @property
    def machines(self) -> set[str]:
        """Those that are billed."""
        if self.provider.name == "runpod":
            return {pod.pod_id for pod in self.account.pods.values() if pod.status != "TERMINATED"}
        return {vm.vm_id for vm in self.account.vms.values() if not vm.is_over}

    def drop(self, endpoint: str, *moments: str) -> None:
        """The connections of the next calls."""
        self.behaviour.dropped[endpoint] = list(moments)

    def check_dropped(self) -> None:
        """Every drop that was asked for has come about, so that the test has asked what it says.

        Of an answer that has come as a whole, its reader may not notice what became of the connection.
        """
        left = {endpoint: set(moments) for endpoint, moments in self.behaviour.dropped.items() if moments}
        assert all(moments == {"end"} for moments in left.values()), left


@pytest.fixture
def runpod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    emulated = of_runpod.RunPod(tmp_path / "volumes", monkeypatch)
    server = HttpServer(emulated.application, socket.create_server(("127.0.0.1", 0)))
    monkeypatch.setenv("RUNPOD_API_KEY", of_runpod.KEY)
    settings = RunPodConfig(base_url=f"http://127.0.0.1:{server.port}/runpod")
    context = RunPodContext(settings, ManualClock(), tmp_path / "state", Journal())
    cloud = Cloud(RunPodProvider(context), emulated, A5000, "delete")
    yield cloud
    server.stop()
    cloud.check_dropped()


@pytest.fixture
def lyceum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    emulated = of_lyceum.Lyceum(tmp_path / "volumes", monkeypatch)
    server = HttpServer(emulated.application, socket.create_server(("127.0.0.1", 0)))
    monkeypatch.setenv("LYCEUM_API_KEY", of_lyceum.KEY)
    settings = LyceumConfig(base_url=f"http://127.0.0.1:{server.port}/lyceum")
    context = LyceumContext(settings, ManualClock(), tmp_path / "state", Journal())
    cloud = Cloud(LyceumProvider(context), emulated, L40S, "terminate")
    yield cloud
    server.stop()
    cloud.check_dropped()


@pytest.fixture(params=["runpod", "lyceum"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    found: Cloud = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_is_read_is_asked_again(cloud: Cloud, moment: str) -> None:
    cloud.drop("list", moment)
    assert cloud.provider.instances() == ()


def test_a_list_that_is_cut_off_each_time_is_no_empty_list(cloud: Cloud) -> None:
    cloud.drop("list", *["middle"] * READ_TRIES)
    with pytest.raises(Unreachable):
        cloud.provider.instances()


@pytest.mark.parametrize("moment", ["after", "middle", "end"])
def test_a_machine_whose_creation_was_not_answered_is_found_by_its_name(cloud: Cloud, moment: str) -> None:
    renting = require(cloud.provider.renting)
    plan = renting.plan(cloud.request)
    cloud.drop("create", moment)
    cloud.drop("list", "middle")
    made = renting.create(plan)
    assert cloud.machines == {made.id}
    assert renting.create(plan).id == made.id
    assert cloud.machines == {made.id}


def test_a_creation_that_was_not_carried_out_is_said_to_be_unknown_and_the_same_plan_makes_one(
    cloud: Cloud,
) -> None:
    renting = require(cloud.provider.renting)
    plan = renting.plan(cloud.request)
    cloud.drop("create", "before")
    with pytest.raises(OutcomeUnknown) as raised:
        renting.create(plan)
    assert "the same command looks for it first" in (raised.value.hint or "")
    assert cloud.machines == set()
    made = renting.create(plan)
    assert cloud.machines == {made.id}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_machine_whose_end_was_not_answered_is_ended_once_more(cloud: Cloud, moment: str) -> None:
    renting = require(cloud.provider.renting)
    made, other = (renting.create(renting.plan(cloud.request)) for _ in range(2))
    cloud.drop(cloud.end, moment)
    assert renting.terminate(made.id).state is InstanceState.TERMINATED
    assert cloud.machines == {other.id}


def test_an_end_that_never_has_an_answer_is_unknown(cloud: Cloud) -> None:
    renting = require(cloud.provider.renting)
    made = renting.create(renting.plan(cloud.request))
    cloud.drop(cloud.end, *["before"] * (READ_TRIES + 1))
    with pytest.raises(OutcomeUnknown):
        renting.terminate(made.id)
    assert cloud.machines == {made.id}
    renting.terminate(made.id)
    assert cloud.machines == set()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_pod_is_stopped_and_started_though_neither_is_answered(runpod: Cloud, moment: str) -> None:
    renting, power = require(runpod.provider.renting), require(runpod.provider.stop_and_start)
    made = renting.create(renting.plan(A5000))
    runpod.drop("act", moment)
    assert power.stop(made.id).state is InstanceState.STOPPED
    runpod.check_dropped()
    runpod.drop("act", moment)
    assert power.start(made.id).state in {InstanceState.PENDING, InstanceState.RUNNING}
    assert runpod.account.pods[made.id].status in {"PROVISIONING", "STARTING", "RUNNING"}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_network_volume_is_made_grown_and_deleted_once(runpod: Cloud, moment: str) -> None:
    volumes, resizing = require(runpod.provider.volumes), require(runpod.provider.resizing)
    plan = volumes.plan(VolumeRequest(size_gib=20, name="data", zone="EU-RO-1"))
    runpod.drop("create_volume", moment)
    if moment == "before":
        with pytest.raises(OutcomeUnknown):
            volumes.create(plan)
    made = volumes.create(plan)
    assert [each.id for each in volumes.list()] == [made.id]
    runpod.drop("change_volume", moment)
    assert resizing.resize(resizing.plan("data", ResizeRequest(size_gib=30))).size_gib == 30
    runpod.drop("delete_volume", moment)
    volumes.delete(made.id)
    with pytest.raises(NotFound):
        volumes.find("data")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_block_volume_is_made_with_its_machine_outlives_it_and_is_deleted_once(
    lyceum: Cloud, moment: str
) -> None:
    renting, volumes = require(lyceum.provider.renting), require(lyceum.provider.volumes)
    made = renting.create(renting.plan(InstanceRequest(instance_type="l40s", options={"new-volume": 20})))
    (volume,) = volumes.list()
    (listed,) = lyceum.provider.instances()
    assert [each.volume_id for each in listed.volumes] == [volume.id], "as it is where it is shown alone"
    assert listed.volumes == lyceum.provider.instance(made.id).volumes
    with pytest.raises(Conflict):
        volumes.delete(volume.id)
    lyceum.drop("terminate", moment)
    renting.terminate(made.id)
    assert [each.id for each in volumes.list()] == [volume.id], "it is known to be ours"
    lyceum.drop("delete_volume", moment)
    volumes.delete(volume.id)
    assert volumes.list(everyone=True) == ()
