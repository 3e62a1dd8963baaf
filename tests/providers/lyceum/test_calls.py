"""What is sent to Lyceum, call by call, and what its answers are taken for."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from runctl.core.errors import CapacityError, NotFound, OutcomeUnknown, RunctlError
from runctl.core.ids import InstanceId, VolumeId, new_client_token
from runctl.core.journal import Journal, Standing
from runctl.core.machine_models import InstanceState, Market
from runctl.core.progress import SILENT
from runctl.core.tags import INTENT, OWNED, OWNED_VALUE
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.providers.labels import label_of, tags_of
from runctl.providers.lyceum.api import LyceumApi
from runctl.providers.lyceum.context import LyceumContext
from runctl.providers.lyceum.lyceum_provider import LyceumProvider
from runctl.providers.lyceum.renting import FOUND_WITHIN
from runctl.providers.lyceum.settings import LyceumConfig, this_account
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from tests.providers.scripted_rest import ScriptedNetwork, Unscripted, interrupted

KEY = "lk_not-to-be-seen"
ROOT = "/api/v2/external"
STOCK = {
    "available_hardware_profiles": [],
    "available_instance_variants": [
        {
            "hardware_profile": "h100",
            "instance_type": "spot",
            "price_per_hour": 1.1,
            "allowed_gpus_per_instance": [1, 2, 4, 8],
            "available_gpus_per_instance": [2, 1],
            "block_storage_gpu_counts": None,
        }
    ],
}
VM = {"vm_id": "9918b72c1dce41a6875abaf5d5ab64e9", "status": "pending", "hardware_profile": None}
NO_CAPACITY = {"detail": "The instance could not be provisioned right now. Please try again in a moment."}
NOBODY: dict[str, Any] = {"vms": [], "total": 0}
SPOT = InstanceRequest(instance_type="h100.2x", market=Market.SPOT)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> LyceumProvider:
    monkeypatch.setenv("LYCEUM_API_KEY", KEY)
    monkeypatch.delenv("LYCEUM_ORG", raising=False)
    settings = LyceumConfig(base_url="https://lyceum.test")
    return LyceumProvider(LyceumContext(settings, clock, tmp_path, Journal()))


@pytest.fixture
def api(provider: LyceumProvider) -> LyceumApi:
    return provider._context.api


def planned(provider: LyceumProvider, network: ScriptedNetwork, request: InstanceRequest) -> CreatePlan:
    network.answer("GET", f"{ROOT}/vms/availability", STOCK)
    network.answer("GET", f"{ROOT}/user/status", {"email": "ada@example.org"})
    return provider.renting.plan(request)


def test_the_plan_says_what_a_forgotten_machine_costs(
    provider: LyceumProvider, network: ScriptedNetwork
) -> None:
    plan = planned(provider, network, SPOT)
    # Two GPUs at 1.10 USD an hour.
    assert any("forgotten, this one costs $52.80 a day" in each for each in plan.warnings)


def test_a_call_that_nobody_scripted_fails(api: LyceumApi, network: ScriptedNetwork) -> None:
    network.answer("GET", f"{ROOT}/vms/list", NOBODY)
    assert api.vms() == ()
    with pytest.raises(Unscripted):
        api.vms()
    network.answer("GET", f"{ROOT}/vms/list", NOBODY)
    with pytest.raises(Unscripted):
        api.terminate("9918b72c")


def test_a_creation_sends_the_count_where_it_counts_and_the_market_that_decides_the_bill(
    provider: LyceumProvider, network: ScriptedNetwork
) -> None:
    plan = planned(provider, network, replace(SPOT, options={"new-volume": 100}))
    assert plan.price is not None
    assert plan.price.usd == Decimal("2.20")
    network.answer("GET", f"{ROOT}/vms/list", NOBODY)
    network.answer("POST", f"{ROOT}/vms/create", VM, 201)
    network.answer("GET", f"{ROOT}/vms/availability", STOCK)
    provider.renting.create(plan)
    (created,) = [each for each in network.sent if each.method == "POST"]
    body = created.body
    assert "gpu_count" not in body
    assert (body["instance_specs"], body["instance_type"]) == ({"gpu_count": 2}, "spot")
    assert body["new_volume"] == {"size_gb": 100}
    assert tags_of(body["display_name"])[INTENT] == plan.client_token
    assert set(body) == {
        *(
            "user_public_key",
            "hardware_profile",
            "instance_type",
            "instance_specs",
            "display_name",
            "new_volume",
        )
    }
    assert KEY not in json.dumps(body)
    assert all(each.headers["Authorization"] == f"Bearer {KEY}" for each in network.sent)
    assert all("X-Org-Slug" not in each.headers for each in network.sent), "sent where it is configured only"


def test_the_organisation_goes_with_every_call_where_one_is_named(
    monkeypatch: pytest.MonkeyPatch, network: ScriptedNetwork
) -> None:
    monkeypatch.setenv("LYCEUM_API_KEY", KEY)
    monkeypatch.setenv("LYCEUM_ORG", "digits")
    api = LyceumApi(this_account(LyceumConfig(base_url="https://lyceum.test"), datetime.now(UTC)))
    network.answer("GET", f"{ROOT}/vms/list", NOBODY)
    api.vms()
    assert network.sent[0].headers["X-Org-Slug"] == "digits"


def test_the_words_of_no_capacity_count_only_where_a_machine_is_made(
    api: LyceumApi, network: ScriptedNetwork
) -> None:
    network.answer("POST", f"{ROOT}/vms/create", NO_CAPACITY, 500)
    with pytest.raises(CapacityError):
        api.create({})
    network.answer("POST", f"{ROOT}/vms/create", {"detail": "Internal Server Error"}, 500)
    with pytest.raises(OutcomeUnknown):
        api.create({})
    for _ in range(2):
        network.answer("DELETE", f"{ROOT}/vms/1", NO_CAPACITY, 500)
    with pytest.raises(OutcomeUnknown):
        api.terminate("1")


def test_a_machine_that_there_is_not_is_named(api: LyceumApi, network: ScriptedNetwork) -> None:
    network.answer("GET", f"{ROOT}/vms/mine/status", {"detail": "VM not found"}, 404)
    with pytest.raises(NotFound, match=r"^Lyceum has no VM mine$"):
        api.vm("mine")


def test_what_lyceum_says_it_has_not_made_is_looked_for_all_the_same(
    provider: LyceumProvider, network: ScriptedNetwork
) -> None:
    plan = planned(provider, network, SPOT)
    network.answer("GET", f"{ROOT}/vms/list", NOBODY)
    network.answer("POST", f"{ROOT}/vms/create", NO_CAPACITY, 500)
    network.answer("GET", f"{ROOT}/vms/list", NOBODY)
    with pytest.raises(CapacityError, match=r"h100\.2x"):
        provider.renting.create(plan)
    assert network.answers == []


def test_a_name_that_only_begins_alike_is_another_machine_and_a_late_one_is_found(
    provider: LyceumProvider, network: ScriptedNetwork, clock: ManualClock
) -> None:
    plan = planned(provider, network, SPOT)
    network.answer("GET", f"{ROOT}/vms/list", NOBODY)
    network.answer("POST", f"{ROOT}/vms/create", {"detail": "Bad Gateway"}, 502)
    began = clock.monotonic()
    theirs = {**VM, "vm_id": "theirs", "display_name": "runctl." + "x" * 40}
    network.answer("GET", f"{ROOT}/vms/list", {"vms": [theirs]})
    network.answer("GET", f"{ROOT}/vms/list", {"vms": [theirs]})
    mine = {**VM, "display_name": label_of(plan.tags)}
    network.answer("GET", f"{ROOT}/vms/list", {"vms": [theirs, mine]})
    network.answer("GET", f"{ROOT}/vms/availability", STOCK)
    assert provider.renting.create(plan).id == VM["vm_id"]
    assert 0 < clock.monotonic() - began < FOUND_WITHIN.total_seconds()


def test_the_same_command_after_ctrl_c_finds_the_machine_of_a_call_that_was_not_answered(
    provider: LyceumProvider, network: ScriptedNetwork, clock: ManualClock
) -> None:
    plan = planned(provider, network, SPOT)
    network.answer("GET", f"{ROOT}/vms/list", NOBODY)
    network.answer("POST", f"{ROOT}/vms/create", {"detail": "Bad Gateway"}, 502)
    network.answer("GET", f"{ROOT}/vms/list", NOBODY)
    with interrupted(clock):
        provider.renting.create(plan)

    context = provider._context
    again = LyceumProvider(LyceumContext(context.settings, clock, context.state_directory, Journal()))
    for _ in range(9):
        network.answer("GET", f"{ROOT}/vms/list", NOBODY)
    mine = {**VM, "display_name": label_of(plan.tags)}
    network.answer("GET", f"{ROOT}/vms/list", {"vms": [mine]})
    network.answer("GET", f"{ROOT}/vms/availability", STOCK)
    assert again.renting.create(plan).id == VM["vm_id"]
    assert [each.method for each in network.sent].count("POST") == 1


@pytest.mark.parametrize("after", ["terminated", "running", None])
@pytest.mark.parametrize("refusal", [409, 400])
def test_an_end_that_is_refused_to_the_second_call_was_ours_where_the_first_has_done_it(
    provider: LyceumProvider, network: ScriptedNetwork, refusal: int, after: str | None
) -> None:
    name = label_of({OWNED: OWNED_VALUE, INTENT: new_client_token()})
    there = {"vm_id": "1", "status": "running", "display_name": name, "ip_address": "203.0.113.10"}
    network.answer("GET", f"{ROOT}/vms/1/status", there)
    network.answer("DELETE", f"{ROOT}/vms/1", {"detail": "VM is already terminating"}, refusal)
    now = {"detail": "VM not found"} if after is None else {**there, "status": after}
    for _ in range(2):
        network.answer("GET", f"{ROOT}/vms/1/status", now, 404 if after is None else 200)

    if after == "running":
        with pytest.raises(RunctlError, match="already terminating"):
            provider.renting.terminate(InstanceId("1"))
        assert not provider._context._ended.has("1")
        assert provider.journal.changes() == ()
    else:
        ended = provider.renting.terminate(InstanceId("1"))
        assert (ended.state, ended.interrupted) == (InstanceState.TERMINATED, False)
        assert provider._context._ended.has("1")
        (change,) = provider.journal.changes()
        assert change.standing is Standing.DONE


def test_a_vm_is_ended_where_nothing_can_be_noted(
    provider: LyceumProvider, network: ScriptedNetwork, tmp_path: Path
) -> None:
    for folder in ("ended", "volumes"):
        (provider._context.state_directory / folder).write_text("a file where the folder should be")
    name = label_of({OWNED: OWNED_VALUE, INTENT: new_client_token()})
    disk = {"volume_id": "vol-1", "size_gb": 20, "location": "eu", "attached_vm_id": "1"}
    there = {"vm_id": "1", "status": "running", "display_name": name, "volumes": [disk]}
    network.answer("GET", f"{ROOT}/vms/1/status", there)
    network.answer("DELETE", f"{ROOT}/vms/1", {"detached_volumes": [disk]})
    network.answer("GET", f"{ROOT}/vms/1/status", {"detail": "VM not found"}, 404)
    progress = RecordedProgress()

    assert provider.renting.terminate(InstanceId("1"), progress).state is InstanceState.TERMINATED
    assert any("runctl will not know volume vol-1 for its own" in each for each in progress.warnings)
    assert any("block volume vol-1 stays" in each for each in progress.notes)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_deletion_that_is_refused_to_the_second_call_was_ours_where_the_first_has_done_it(
    provider: LyceumProvider, network: ScriptedNetwork, is_there: bool
) -> None:
    provider._context.note_volume("vol-1", SILENT)
    volume = {"volume_id": "vol-1", "size_gb": 20, "location": "eu", "attached_vm_id": None}

    def list_volumes(*found: dict[str, Any]) -> None:
        network.answer("GET", f"{ROOT}/storage/block", {"volumes": list(found)})
        if found:
            network.answer("GET", f"{ROOT}/vms/list", NOBODY)

    list_volumes(volume)
    network.answer("GET", f"{ROOT}/user/status", {"email": "ada@example.org"})
    network.answer("DELETE", f"{ROOT}/storage/block/vol-1", {"detail": "The volume is being deleted."}, 409)
    list_volumes(*([volume] if is_there else []))

    if is_there:
        with pytest.raises(RunctlError, match="is being deleted"):
            provider.volumes.delete(VolumeId("vol-1"))
        assert provider._context.known_volumes() == {"vol-1"}
    else:
        provider.volumes.delete(VolumeId("vol-1"))
        assert provider._context.known_volumes() == frozenset()
        (change,) = provider.journal.changes()
        assert change.standing is Standing.DONE
