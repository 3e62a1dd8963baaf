"""What is sent to RunPod, call by call, and what its answers are taken for."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from runctl.core.clock import rfc3339
from runctl.core.errors import Conflict, NotFound, OutcomeUnknown, ProviderError, RunctlError
from runctl.core.ids import InstanceId, VolumeId, new_client_token
from runctl.core.journal import Journal, Standing
from runctl.core.machine_models import InstanceState
from runctl.core.tags import EXPIRES_AT, INTENT, OWNED, OWNED_VALUE
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.labels import label_of
from runctl.providers.runpod.api import RunPodApi
from runctl.providers.runpod.context import RunPodContext
from runctl.providers.runpod.machines import LABEL, pod_name
from runctl.providers.runpod.runpod_provider import RunPodProvider
from runctl.providers.runpod.settings import Account, RunPodConfig
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from tests.providers.scripted_rest import ScriptedNetwork, Unscripted, interrupted

KEY = "rpa_not-to-be-seen"
A5000 = {
    "id": "NVIDIA RTX A5000",
    "name": "RTX A5000",
    "memory": 24,
    "secure": True,
    "community": True,
    "price": {"secure": 0.27, "community": 0.16, "serverless": 1.1},
    "maxCount": {"secure": 8, "community": 4},
    "availability": "HIGH",
}
SLICE = {**A5000, "id": "NVIDIA RTX A5000 MIG 1g.12gb", "name": "RTX A5000 MIG 1g.12gb", "memory": 12}
POD = {"id": "7h9k2m4n6p", "name": "x", "status": "PROVISIONING"}


@pytest.fixture
def api() -> RunPodApi:
    return RunPodApi(Account(KEY, "the test", "https://runpod.test/v2"))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> RunPodProvider:
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    settings = RunPodConfig(base_url="https://runpod.test/v2")
    return RunPodProvider(RunPodContext(settings, clock, tmp_path, Journal()))


def test_a_call_that_nobody_scripted_fails(api: RunPodApi, network: ScriptedNetwork) -> None:
    network.answer("GET", "/pods?limit=1000", {"pods": []})
    assert api.pods() == ()
    with pytest.raises(Unscripted):
        api.pods()
    network.answer("GET", "/pods?limit=1000", {"pods": []})
    with pytest.raises(Unscripted):
        api.delete("7h9k2m4n6p")


def test_a_creation_sends_what_runpod_needs_and_nothing_that_it_does_not_know(
    provider: RunPodProvider, network: ScriptedNetwork
) -> None:
    catalogue = ("GET", "/catalog/gpus?include=AVAILABILITY&product=POD", {"gpus": [A5000, SLICE]})
    network.answer(*catalogue)
    network.answer("GET", "/catalog/datacenters", {"dataCenters": [{"id": "EU-RO-1"}]})
    network.answer("POST", "/graphql", {"data": {"myself": {}}})
    plan = provider.renting.plan(InstanceRequest(instance_type="RTX A5000", zone="EU-RO-1"))
    network.answer("GET", "/pods?limit=1000", {"pods": []})
    network.answer(*catalogue)
    network.answer("POST", "/pods", POD, 201)
    provider.renting.create(plan)
    (created,) = [each for each in network.sent if each.method == "POST" and each.url.endswith("/pods")]
    body: dict[str, Any] = created.body
    # A slice of the same GPU is another type; without a count, or a disk, RunPod refuses in other words.
    assert body["gpu"] == {"id": "NVIDIA RTX A5000", "count": 1}
    assert (body["disk"], body["ports"], body["cloud"]) == (40, ["22/tcp"], "SECURE")
    assert body["dataCenterIds"] == ["EU-RO-1"]
    assert body["name"].endswith(plan.client_token)
    assert set(body) == {"name", "image", "gpu", "cloud", "dataCenterIds", "disk", "ports", "env"}
    assert set(body["env"]) == {"PUBLIC_KEY", "RUNCTL_LABEL"}
    assert KEY not in json.dumps(body)
    # The network in front of RunPod refuses the names of Python's own clients.
    assert all(each.headers["User-Agent"].startswith("runctl/") for each in network.sent)
    assert all(each.headers["Authorization"] == f"Bearer {KEY}" for each in network.sent)


def test_the_same_command_after_ctrl_c_finds_the_pod_of_a_call_that_was_not_answered(
    provider: RunPodProvider, network: ScriptedNetwork, clock: ManualClock
) -> None:
    network.answer("GET", "product=POD", {"gpus": [A5000]})
    network.answer("POST", "/graphql", {"data": {"myself": {}}})
    plan = provider.renting.plan(InstanceRequest(instance_type="RTX A5000"))
    network.answer("GET", "/pods?limit=1000", {"pods": []})
    network.answer("GET", "product=POD", {"gpus": [A5000]})
    network.answer("POST", "/pods", "Bad Gateway", 502)
    network.answer("GET", "/pods?limit=1000", {"pods": []})
    with interrupted(clock):
        provider.renting.create(plan)

    network.answer("GET", "/pods?limit=1000", {"pods": []})
    network.answer("GET", "product=POD", {"gpus": [A5000]})
    for _ in range(9):
        network.answer("GET", "/pods?limit=1000", {"pods": []})
    mine = {**POD, "name": pod_name(plan.client_token), "env": {LABEL: label_of(plan.tags)}}
    network.answer("GET", "/pods?limit=1000", {"pods": [mine]})
    assert another(provider).renting.create(plan).id == POD["id"]
    assert [each.url for each in network.sent if each.method == "POST" and "/pods" in each.url][1:] == []


def test_the_same_command_after_ctrl_c_finds_the_volume_of_a_call_that_was_not_answered(
    provider: RunPodProvider, network: ScriptedNetwork, clock: ManualClock
) -> None:
    centres = {"dataCenters": [{"id": "EU-RO-1", "networkVolumeTypes": ["STANDARD"]}]}
    network.answer("GET", "/catalog/datacenters", centres)
    nothing: dict[str, Any] = {"networkVolumes": []}
    for _ in range(2):
        network.answer("GET", "/network-volumes", nothing)
    plan = provider.volumes.plan(VolumeRequest(size_gib=20, zone="EU-RO-1"))
    network.answer("POST", "/network-volumes", "Bad Gateway", 502)
    network.answer("GET", "/network-volumes", nothing)
    with interrupted(clock):
        provider.volumes.create(plan)
    (created,) = [each.body for each in network.sent if each.method == "POST"]

    for _ in range(9):
        network.answer("GET", "/network-volumes", nothing)
    network.answer("GET", "/network-volumes", {"networkVolumes": [{**created, "id": "vol1"}]})
    assert another(provider).volumes.create(plan).id == "vol1"
    assert [each.method for each in network.sent].count("POST") == 1


def another(provider: RunPodProvider) -> RunPodProvider:
    """That of the next command on this computer."""
    context = provider._context
    return RunPodProvider(RunPodContext(context.settings, context.clock, context.state_directory, Journal()))


def test_a_data_centre_that_there_is_not_is_not_taken_for_one_without_stock(
    provider: RunPodProvider, network: ScriptedNetwork
) -> None:
    network.answer("GET", "product=POD", {"gpus": [{**A5000, "dataCenters": [{"id": "US-KS-2"}]}]})
    network.answer("GET", "/catalog/datacenters", {"dataCenters": [{"id": "EU-RO-1"}, {"id": "US-KS-2"}]})
    with pytest.raises(NotFound, match="no data centre EU-RO-2") as raised:
        provider.renting.plan(InstanceRequest(instance_type="RTX A5000", zone="EU-RO-2"))
    assert (raised.value.hint, raised.value.code) == ('did you mean "EU-RO-1"?', "zone-not-found")


def test_a_pod_that_there_is_not_is_named(api: RunPodApi, network: ScriptedNetwork) -> None:
    network.answer("GET", "/pods/mine", {"title": "Not Found", "detail": "resource not found"}, 404)
    with pytest.raises(NotFound, match=r"^RunPod has no pod mine$"):
        api.pod("mine")


def test_a_page_of_somebody_elses_is_no_pod_and_none_was_refused(
    api: RunPodApi, network: ScriptedNetwork
) -> None:
    network.answer("POST", "/pods", "<html>Sign in to use this network.</html>")
    with pytest.raises(OutcomeUnknown, match="in a form that runctl does not know"):
        api.create({})
    network.answer("GET", "/pods/7h9k2m4n6p", "<html>Sign in to use this network.</html>")
    with pytest.raises(ProviderError, match="in a form that runctl does not know"):
        api.pod("7h9k2m4n6p")


@pytest.mark.parametrize("runtime", [None, {}, {"uptime": 5, "gpus": [{"util": 0}]}])
def test_a_pod_is_read_whatever_it_leaves_out(api: RunPodApi, network: ScriptedNetwork, runtime: Any) -> None:
    network.answer(
        "GET", "/pods/7h9k2m4n6p", {**POD, "runtime": runtime, "registry": None, "ssh": {"direct": None}}
    )
    pod = api.pod("7h9k2m4n6p")
    assert (pod.registry, pod.cost) == (None, None)


def test_prices_are_exact(api: RunPodApi, network: ScriptedNetwork) -> None:
    network.answer("GET", "product=POD", {"gpus": [A5000, {**A5000, "id": "unknown"}]})
    (found,) = api.gpus()
    assert found.price.secure == Decimal("0.27")


def test_every_page_is_read_until_there_is_none_or_no_word_of_pages(
    api: RunPodApi, network: ScriptedNetwork
) -> None:
    more = {"nextCursor": "b", "hasNextPage": True}
    network.answer("GET", "/pods?limit=1000", {"pods": [POD], "pagination": more})
    network.answer(
        "GET", "/pods?limit=1000&cursor=b", {"pods": [{**POD, "id": "second"}], "pagination": None}
    )
    assert [pod.id for pod in api.pods()] == ["7h9k2m4n6p", "second"]


@pytest.mark.parametrize("after", ["RUNNING", "TERMINATED", None])
@pytest.mark.parametrize("refusal", [409, 400])
def test_an_end_that_is_refused_to_the_second_call_was_ours_where_the_first_has_done_it(
    provider: RunPodProvider, network: ScriptedNetwork, refusal: int, after: str | None
) -> None:
    token = new_client_token()
    label = label_of({OWNED: OWNED_VALUE, INTENT: token})
    there = {**POD, "name": pod_name(token), "status": "RUNNING", "env": {"RUNCTL_LABEL": label}}
    path = f"/pods/{POD['id']}"
    network.answer("GET", path, there)
    network.answer("DELETE", path, {"detail": "the pod is being terminated"}, refusal)
    now = {"detail": "resource not found"} if after is None else {**there, "status": after}
    for _ in range(3):
        network.answer("GET", path, now, 404 if after is None else 200)

    pod = InstanceId(POD["id"])
    if after == "RUNNING":
        with pytest.raises(RunctlError, match="is being terminated"):
            provider.renting.terminate(pod)
        assert provider._context.ended_ids() == frozenset()
        assert provider.journal.changes() == ()
    else:
        assert provider.renting.terminate(pod).state is InstanceState.TERMINATED
        assert provider._context.ended_ids() == {pod}
        (change,) = provider.journal.changes()
        assert change.standing is Standing.DONE


def test_a_pod_is_ended_where_nothing_can_be_noted(
    provider: RunPodProvider, network: ScriptedNetwork, tmp_path: Path
) -> None:
    (tmp_path / "ended").write_text("a file where the folder should be")
    token = new_client_token()
    label = label_of({OWNED: OWNED_VALUE, INTENT: token})
    path = f"/pods/{POD['id']}"
    network.answer("GET", path, {**POD, "name": pod_name(token), "status": "RUNNING", "env": {LABEL: label}})
    network.answer("DELETE", path, {})
    network.answer("GET", path, {"error": "pod not found"}, 404)
    progress = RecordedProgress()

    assert provider.renting.terminate(InstanceId(POD["id"]), progress).state is InstanceState.TERMINATED
    (warning,) = progress.warnings
    assert f"runctl will not show {POD['id']} any more" in warning
    network.answer("GET", path, {"error": "pod not found"}, 404)
    network.answer("GET", path, {"error": "pod not found"}, 404)
    waited = provider.renting.wait_ended(InstanceId(POD["id"]), timeout=timedelta(minutes=1))
    assert waited.state is InstanceState.TERMINATED


@pytest.mark.parametrize("noted", [b"", b"{", b'{"id": "of another version"}'])
def test_a_note_that_cannot_be_read_is_passed_over(
    provider: RunPodProvider, tmp_path: Path, noted: bytes
) -> None:
    (tmp_path / "ended").mkdir()
    (tmp_path / "ended" / "gone.json").write_bytes(noted)
    (tmp_path / "ended" / ".other.json.half-written").write_bytes(b"{")

    assert provider._context.remembered() == {}
    assert provider._context.ended_ids() == {"gone"}


@pytest.mark.parametrize("hours", [1, 3])
def test_a_pod_whose_time_to_live_is_over_is_not_started_to_end_itself(
    provider: RunPodProvider, network: ScriptedNetwork, clock: ManualClock, hours: int
) -> None:
    token = new_client_token()
    expires = rfc3339(clock.now() + timedelta(hours=2))
    label = label_of({OWNED: OWNED_VALUE, INTENT: token, EXPIRES_AT: expires})
    there = {**POD, "name": pod_name(token), "status": "EXITED", "env": {LABEL: label}}
    clock.advance(timedelta(hours=hours))
    path = f"/pods/{POD['id']}"
    network.answer("GET", path, there)
    network.answer("POST", f"{path}/action", {**there, "status": "STARTING"})
    network.answer("GET", path, {**there, "status": "STARTING"})

    pod = InstanceId(POD["id"])
    if hours < 2:
        assert provider.stop_and_start.start(pod).state is InstanceState.PENDING
    else:
        with pytest.raises(Conflict, match=f"is over at {expires}") as refused:
            provider.stop_and_start.start(pod)
        assert f"runctl runpod terminate {pod}" in (refused.value.hint or "")
        assert [each.method for each in network.sent] == ["GET"]


@pytest.mark.parametrize("is_there", [False, True])
def test_a_deletion_that_is_refused_to_the_second_call_was_ours_where_the_first_has_done_it(
    provider: RunPodProvider, network: ScriptedNetwork, is_there: bool
) -> None:
    volume = {
        "id": "2q9m7x4c",
        "name": label_of({OWNED: OWNED_VALUE, INTENT: new_client_token()}),
        "size": 20,
        "dataCenter": "EU-RO-1",
        "type": "STANDARD",
    }
    network.answer("GET", "/network-volumes", {"networkVolumes": [volume]})
    network.answer("GET", "/pods?limit=1000", {"pods": []})
    network.answer("DELETE", "/network-volumes/2q9m7x4c", {"detail": "the volume is being deleted"}, 409)
    network.answer("GET", "/network-volumes", {"networkVolumes": [volume] if is_there else []})
    network.answer("GET", "/pods?limit=1000", {"pods": []})

    if is_there:
        with pytest.raises(RunctlError, match="is being deleted"):
            provider.volumes.delete(VolumeId("2q9m7x4c"))
        assert provider.journal.changes() == ()
    else:
        provider.volumes.delete(VolumeId("2q9m7x4c"))
        (change,) = provider.journal.changes()
        assert change.standing is Standing.DONE
