"""What Lyceum is known to do, and what it may do: each switch both ways. By HTTP, with VMs that run in nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.sandbox.lyceum.emulator import L40S, Lyceum


@pytest.fixture
def lyceum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lyceum:
    return Lyceum(tmp_path, monkeypatch)


@pytest.mark.parametrize("word", ["ready", "running"])
def test_a_vm_that_is_up_is_listed_by_either_word(lyceum: Lyceum, word: str) -> None:
    lyceum.behaviour.running_state = word
    vm_id = lyceum.create()
    assert lyceum.vm(vm_id)["status"] == word
    assert [vm["vm_id"] for vm in lyceum.ask("GET", "/vms/list")[1]["vms"]] == [vm_id]


@pytest.mark.parametrize("status", [404, 200])
def test_a_vm_that_has_ended_is_ended_again(lyceum: Lyceum, status: int) -> None:
    lyceum.behaviour.ended_answer = status
    vm_id = lyceum.create()
    assert lyceum.ask("DELETE", f"/vms/{vm_id}")[0] == 200
    assert lyceum.ask("DELETE", f"/vms/{vm_id}")[0] == status
    assert lyceum.vm(vm_id)["status"] == "terminated", "it stays in the list, with its name"


@pytest.mark.parametrize(("ends", "status"), [(False, "ready"), (True, "terminated")])
def test_a_vm_that_is_shut_down_from_inside(lyceum: Lyceum, ends: bool, status: str) -> None:
    lyceum.behaviour.shutdown_ends = ends
    vm_id = lyceum.create()
    lyceum.machines[0].on_power_off("poweroff")
    assert lyceum.vm(vm_id)["status"] == status


@pytest.mark.parametrize("word", ["terminated", "failed"])
def test_a_spot_vm_that_is_taken_back(lyceum: Lyceum, word: str) -> None:
    lyceum.behaviour.reclaimed_as = word
    vm_id = lyceum.create(hardware_profile="a100", instance_type="spot")
    lyceum.account.reclaim(cast(Any, SimpleNamespace(forget_machine=lambda _: None)), vm_id)
    assert lyceum.vm(vm_id)["status"] == word


@pytest.mark.parametrize(("with_port", "address"), [(False, "198.51.100.20"), (True, "198.51.100.20:22")])
def test_an_address_may_have_a_port(lyceum: Lyceum, with_port: bool, address: str) -> None:
    lyceum.behaviour.address_with_port = with_port
    assert lyceum.vm(lyceum.create())["ip_address"] == address


@pytest.mark.parametrize("lag", [0.0, 60.0])
def test_a_new_vm_may_be_listed_late(lyceum: Lyceum, lag: float) -> None:
    lyceum.behaviour.list_lag = lag
    vm_id = lyceum.create()
    assert lyceum.ask("GET", "/vms/list")[1]["total"] == (0 if lag else 1)
    assert lyceum.ask("GET", f"/vms/{vm_id}/status")[0] == (404 if lag else 200)


@pytest.mark.parametrize("late", [0.0, 60.0])
def test_a_new_volume_may_have_no_id_yet_and_outlives_its_vm(lyceum: Lyceum, late: float) -> None:
    lyceum.behaviour.late_volumes = late
    vm_id = lyceum.create(new_volume={"size_gb": 20})
    assert (
        len(lyceum.vm(vm_id)["volumes"])
        == len(lyceum.ask("GET", "/storage/block")[1]["volumes"])
        == (0 if late else 1)
    )
    (detached,) = lyceum.ask("DELETE", f"/vms/{vm_id}")[1]["detached_volumes"]
    assert detached["size_gb"] == 20
    assert lyceum.ask("DELETE", f"/storage/block/{detached['volume_id']}")[0] == 200


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("negative", [False, True])
def test_the_organisation_is_told_what_each_vm_came_to(
    lyceum: Lyceum, at_the_end: bool, negative: bool
) -> None:
    lyceum.behaviour.bills_at_the_end, lyceum.behaviour.debits_are_negative = at_the_end, negative
    vm_id = lyceum.create(instance_specs={"gpu_count": 2})
    lyceum.account.vms[vm_id].up_at = datetime.now(UTC) - timedelta(hours=1)
    (organisation,) = lyceum.ask("GET", "/orgs")[1]
    path = f"/orgs/{organisation['slug']}/transactions/aggregate?category=vms&group_by=vm_id"
    assert lyceum.ask("GET", path)[0] == 403, "the header goes with it"
    while_it_runs = lyceum.ask("GET", path, organisation=organisation["slug"])[1]["aggregates"]
    assert len(while_it_runs) == (0 if at_the_end else 1)
    lyceum.ask("DELETE", f"/vms/{vm_id}")
    (billed,) = lyceum.ask("GET", path, organisation=organisation["slug"])[1]["aggregates"]
    assert (billed["group_by_value"], billed["total_amount"][:1] == "-") == (vm_id, negative)
    assert Decimal("2.38") <= abs(Decimal(billed["total_amount"])) < Decimal("2.40")


def test_a_count_at_the_top_is_ignored_and_none_is_one(lyceum: Lyceum) -> None:
    for given in ({"gpu_count": 4}, {"instance_specs": {"gpu_count": 0}}):
        vm = lyceum.vm(lyceum.create(**given))
        assert (vm["gpu_count"], vm["instance_specs"]["gpu_count"]) == (1, 1)
    assert lyceum.ask("POST", "/vms/create", {**L40S, "instance_specs": {"gpu_count": 3}})[0] == 400


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"hardware_profile": "x"}, 400, "Unknown hardware_profile 'x'"),
        ({"hardware_profile": ""}, 422, "body.hardware_profile: Field required"),
        ({"instance_type": "spot"}, 500, "could not be provisioned right now"),
        ({"volume_ids": ["vol-none"]}, 400, "does not exist"),
    ],
)
def test_what_is_refused(lyceum: Lyceum, body: Any, status: int, words: str) -> None:
    found, answer = lyceum.ask("POST", "/vms/create", {**L40S, **body})
    assert found == status
    assert words in answer["detail"]
    assert lyceum.account.vms == {}


@pytest.mark.parametrize(
    ("switch", "status"),
    [
        (lambda behaviour: setattr(behaviour, "refused_key", True), 401),
        (lambda behaviour: behaviour.denied.append("list"), 403),
        (lambda behaviour: setattr(behaviour, "limited", 1), 429),
        (lambda behaviour: setattr(behaviour, "failing_reads", 1), 500),
    ],
)
def test_what_may_happen_to_any_call(lyceum: Lyceum, switch: Callable[[Any], None], status: int) -> None:
    switch(lyceum.behaviour)
    assert lyceum.ask("GET", "/vms/list")[0] == status
    assert lyceum.ask("GET", "/vms/list")[0] == (status if status in {401, 403} else 200)
