"""What RunPod is known to do, and what it may do: each switch both ways. By HTTP, with pods that run in nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runctl.sandbox.machines.machine import BootFailed
from runctl.sandbox.runpod.pods import started_by
from runctl.sandbox.runpod.runtimes import NoImage
from tests.e2e.command_line import until
from tests.sandbox.runpod.emulator import A5000, RunPod


@pytest.fixture
def runpod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPod:
    return RunPod(tmp_path, monkeypatch)


@pytest.mark.parametrize("status", [422, 400])
def test_a_gpu_that_there_is_not_is_refused(runpod: RunPod, status: int) -> None:
    runpod.behaviour.unknown_gpu = status
    assert runpod.ask("POST", "/pods", {**A5000, "gpu": {"id": "none", "count": 1}})[0] == status


def test_bodies_are_closed_and_what_is_wrong_is_named(runpod: RunPod) -> None:
    status, answer = runpod.ask("POST", "/pods", {**A5000, "interruptible": True})
    assert (status, answer["errors"]) == (422, ["$: additional properties 'interruptible' not allowed"])
    no_disk = {name: value for name, value in A5000.items() if name != "disk"}
    assert runpod.ask("POST", "/pods", no_disk)[0] == 400
    no_count = {**A5000, "gpu": {"id": "NVIDIA RTX A5000"}}
    assert "no longer any instances" in runpod.ask("POST", "/pods", no_count)[1]["detail"]
    assert runpod.ask("POST", "/pods", {**A5000, "args": "{no JSON"})[0] == 422


def test_what_starts_a_container_is_a_text_or_json() -> None:
    assert started_by({}) == ((), ())
    assert started_by({"args": "sleep 5"}) == ((), ("sleep", "5"))
    both = {"args": '{"entrypoint": ["sh", "-c"], "cmd": ["sleep 5"]}'}
    assert started_by(both) == (("sh", "-c"), ("sleep 5",))


def test_stock_is_of_all_or_of_one_data_centre(runpod: RunPod) -> None:
    runpod.behaviour.stock["NVIDIA RTX A5000@EU-RO-1"] = 0
    assert runpod.ask("POST", "/pods", {**A5000, "dataCenterIds": ["EU-RO-1"]})[0] == 400
    assert runpod.pod(runpod.create())["dataCenterId"] == "US-KS-2"
    types = {each["id"]: each for each in runpod.ask("GET", "/catalog/gpus")[1]["gpus"]}
    centres = {each["id"]: each["availability"] for each in types["NVIDIA RTX A5000"]["dataCenters"]}
    assert centres == {"EU-RO-1": "NONE", "US-KS-2": "HIGH", "EU-NL-1": "HIGH"}
    runpod.behaviour.stock["NVIDIA RTX A5000"] = 1
    assert runpod.ask("POST", "/pods", A5000)[0] == 400


@pytest.mark.parametrize("empty", [None, {}])
def test_a_pod_that_does_not_run_has_no_runtime(runpod: RunPod, empty: Any) -> None:
    runpod.behaviour.empty_runtime = empty is not None
    pod_id = runpod.create()
    assert len(runpod.pod(pod_id)["runtime"]["gpus"]) == 1
    assert runpod.ask("POST", f"/pods/{pod_id}/action", {"action": "stop"})[1]["runtime"] == empty
    assert runpod.pod(pod_id)["cost"] == 0


def test_a_pod_whose_image_cannot_be_had_is_said_to_run_for_ever(runpod: RunPod) -> None:
    runpod.runtime.fails = NoImage("not found")
    pod = runpod.pod(runpod.create())
    assert (pod["status"], pod["runtime"], pod["ssh"]["direct"]) == ("RUNNING", None, None)


def test_a_pod_that_cannot_be_started_has_an_error(runpod: RunPod) -> None:
    runpod.runtime.fails = BootFailed("no")
    assert runpod.pod(runpod.create())["status"] == "ERROR"


def test_each_start_maps_another_port_and_each_end_takes_the_container_away(runpod: RunPod) -> None:
    pod_id = runpod.create()

    def port() -> Any:
        direct = runpod.pod(pod_id)["ssh"]["direct"]
        return direct and direct["port"]

    first = until(port, what="its port")
    runpod.ask("POST", f"/pods/{pod_id}/action", {"action": "stop"})
    until(lambda: runpod.runtime.ended == 1, what="its end")
    runpod.ask("POST", f"/pods/{pod_id}/action", {"action": "start"})
    assert until(port, what="its port") != first
    assert runpod.ask("DELETE", f"/pods/{pod_id}")[0] == 204
    assert runpod.ask("GET", f"/pods/{pod_id}")[0] == 404
    assert runpod.ask("GET", "/pods")[1]["pods"] == []


@pytest.mark.parametrize("word", ["EXITED", "ERROR"])
def test_a_host_that_fails_takes_its_pods_along(runpod: RunPod, word: str) -> None:
    runpod.behaviour.fails_as = word
    pod_id = runpod.create()
    runpod.account.fail_host(pod_id)
    assert runpod.pod(pod_id)["status"] == word
    with pytest.raises(KeyError):
        runpod.account.fail_host(pod_id)


def test_a_page_may_be_shorter_than_asked_for_and_the_older_contract_has_none(runpod: RunPod) -> None:
    made = {runpod.create(), runpod.create()}
    runpod.behaviour.page_size = 1
    first = runpod.ask("GET", "/pods?limit=1000")[1]
    cursor = first["pagination"]["nextCursor"]
    rest = runpod.ask("GET", f"/pods?cursor={cursor}")[1]
    assert {each["id"] for page in (first, rest) for each in page["pods"]} == made
    assert not rest["pagination"]["hasNextPage"]
    runpod.behaviour.unpaged = True
    assert set(runpod.ask("GET", "/pods")[1]) == {"pods"}


def by_graphql(pod_id: str) -> Any:
    return {"query": f'mutation {{ podTerminate(input: {{podId: "{pod_id}"}}) }}'}


@pytest.mark.parametrize(
    ("may", "rest", "graphql"), [("rest", 204, True), ("graphql", 403, True), ("none", 403, False)]
)
def test_the_key_in_a_pod_ends_that_pod_and_does_nothing_else(
    runpod: RunPod, may: str, rest: int, graphql: bool
) -> None:
    runpod.behaviour.pod_key = may
    other, mine = runpod.create(), runpod.create()
    key = runpod.account.pods[mine].key
    assert key not in str(runpod.pod(mine))
    for method, path in (("DELETE", f"/pods/{other}"), ("GET", "/pods"), ("GET", f"/pods/{mine}")):
        assert runpod.ask(method, path, key=key)[0] == 403
    if not graphql:
        assert "errors" in runpod.ask("POST", "/graphql", by_graphql(mine), key)[1]
    assert runpod.ask("DELETE", f"/pods/{mine}", key=key)[0] == rest
    if rest == 403 and graphql:
        assert "data" in runpod.ask("POST", "/graphql", by_graphql(mine), key)[1]
    assert runpod.ask("GET", f"/pods/{mine}")[0] == (404 if graphql else 200)
    assert runpod.pod(other)["status"] == "RUNNING"


@pytest.mark.parametrize(("used", "status"), [("kept", 400), ("deleted", 204)])
def test_a_network_volume_that_a_pod_has(runpod: RunPod, used: str, status: int) -> None:
    runpod.behaviour.used_volumes = used
    volume = runpod.ask("POST", "/network-volumes", {"name": "v", "size": 10, "dataCenter": "EU-RO-1"})[1][
        "id"
    ]
    runpod.create(mounts={"network": [{"volumeId": volume, "path": "/data"}]})
    assert runpod.ask("DELETE", f"/network-volumes/{volume}")[0] == status


def test_logins_to_registries_are_kept_and_their_passwords_are_not_told(runpod: RunPod) -> None:
    login = {"name": "ghcr", "username": "ada", "password": "s3cret"}
    status, made = runpod.ask("POST", "/registries", login)
    assert (status, made["name"]) == (201, "ghcr")
    assert runpod.ask("GET", "/registries")[1] == {"registries": [made]}
    assert runpod.ask("POST", "/pods", {**A5000, "registry": "reg?"})[0] == 400
    assert runpod.ask("DELETE", f"/registries/{made['id']}")[0] == 204
    assert runpod.ask("DELETE", f"/registries/{made['id']}")[0] == 400, "not 404"


@pytest.mark.parametrize(("by_the_minute", "seconds"), [(False, 61), (True, 120)])
def test_a_pod_is_billed_by_its_own_price(runpod: RunPod, by_the_minute: bool, seconds: int) -> None:
    runpod.behaviour.by_the_minute = by_the_minute
    pod = runpod.account.pods[runpod.create()]
    begin = datetime(2026, 11, 1, tzinfo=UTC)
    pod.running = [[begin, begin + timedelta(seconds=61)]]
    (record,) = runpod.account.bill(begin, begin + timedelta(days=1))
    assert record["totalAmount"] == pytest.approx(0.27 * seconds / 3600)


@pytest.mark.parametrize(
    ("switch", "status"),
    [
        (lambda behaviour: setattr(behaviour, "refused_key", True), 401),
        (lambda behaviour: behaviour.denied.append("list"), 403),
        (lambda behaviour: setattr(behaviour, "limited", 1), 429),
        (lambda behaviour: setattr(behaviour, "failing_reads", 1), 500),
    ],
)
def test_what_may_happen_to_any_call(runpod: RunPod, switch: Callable[[Any], None], status: int) -> None:
    switch(runpod.behaviour)
    assert runpod.ask("GET", "/pods")[0] == status
    assert runpod.ask("GET", "/pods")[0] == (status if status in {401, 403} else 200)
