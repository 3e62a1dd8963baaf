"""What ``--unattended`` refuses, and with which reason."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

import runctl
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.spec import BuildSpec, ContainerSpec, RunSpec
from runctl.checkpoints.keeping import Keeping
from runctl.core.errors import RunctlError, Unsupported, UsageError
from runctl.core.ids import new_client_token
from runctl.core.machine_models import Market
from runctl.machines.nodes import Engine, NodesWanted
from runctl.providers.capacity import FallbackMode, SpotFallback
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.runs.launch.launch_plan import AfterRun
from runctl.runs.train.project_plan import TrainRequest
from runctl.runs.unattended.request import (
    check_nodes,
    check_request,
    check_settled,
    checked_store,
    identity_of,
    results_address,
    run_of,
    shared_by,
)

STORE = StoreSpec("s3://mine/runs")
TRAIN = TrainRequest(Path("train.py"), cwd=Path("/project"), keeping=Keeping(s3=STORE.url))
SPOT = InstanceRequest(market=Market.SPOT)


@pytest.mark.parametrize(
    ("keeping", "kind", "said"),
    [
        (Keeping(), UsageError, "--unattended needs an object store"),
        (Keeping(folder="/mnt/shared/runs"), UsageError, "--unattended needs an object store"),
        (Keeping(s3="s3://a-bucket/x", endpoint="https://minio.example"), Unsupported, "minio.example"),
    ],
)
def test_a_store_that_the_machine_has_rights_in_is_needed(
    keeping: Keeping, kind: type[RunctlError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        checked_store(replace(TRAIN, keeping=keeping))
    assert checked_store(TRAIN) == STORE


@pytest.mark.parametrize(
    ("train", "after", "machine", "said"),
    [
        (TRAIN, AfterRun(keep=True), SPOT, "--keep leaves a machine"),
        (TRAIN, AfterRun(results="out"), SPOT, "nobody is there to bring results"),
        (replace(TRAIN, sync_code=False), AfterRun(), SPOT, "--no-sync-code"),
        (TRAIN, AfterRun(), replace(SPOT, data_volume_size_gib=5), "--data-volume-size"),
        (
            TRAIN,
            AfterRun(),
            replace(SPOT, fallback=SpotFallback(FallbackMode.ON_DEMAND)),
            "does not change to on-demand",
        ),
    ],
)
def test_what_needs_somebody_who_watches_is_refused(
    train: TrainRequest, after: AfterRun, machine: InstanceRequest, said: str
) -> None:
    with pytest.raises(RunctlError, match=said) as raised:
        check_request(train, after, machine)
    assert raised.value.hint


def test_what_nobody_has_to_watch_is_allowed() -> None:
    check_request(TRAIN, AfterRun(results="s3://mine/results"), SPOT)
    check_request(TRAIN, AfterRun(), replace(SPOT, fallback=SpotFallback(FallbackMode.ASK)))
    on_demand = replace(SPOT, market=Market.ON_DEMAND, fallback=SpotFallback(FallbackMode.ON_DEMAND))
    check_request(TRAIN, AfterRun(), on_demand)


def test_images_that_only_a_person_can_bring_are_refused() -> None:
    secret = ContainerSpec(dockerfile="Dockerfile", build=BuildSpec("tag", secrets=("token",)))
    with pytest.raises(Unsupported, match="secrets"):
        check_settled(RunSpec("run-1", "train.py", container=secret), needs_login=False)
    pulled = RunSpec("run-1", "train.py", container=ContainerSpec(image="private.example/x"))
    with pytest.raises(Unsupported, match="asks for a login"):
        check_settled(pulled, needs_login=True)
    check_settled(pulled, needs_login=False)


@pytest.mark.parametrize(
    ("after", "where"),
    [
        (AfterRun(), "s3://mine/runs/results"),
        (AfterRun(results="s3://mine/elsewhere/"), "s3://mine/elsewhere"),
        (AfterRun(bring_results=False), None),
    ],
)
def test_results_go_where_nobody_has_to_fetch_them(after: AfterRun, where: str | None) -> None:
    assert results_address(after, STORE) == where


def test_the_same_command_is_the_same_run_and_another_one_is_not() -> None:
    token = new_client_token()
    assert run_of(token) == run_of(token) != run_of(new_client_token())
    assert run_of(token).startswith("run-")
    assert len(run_of(token)) == len("run-7kq2m9xd4t")
    same = identity_of(SPOT, TRAIN, STORE)
    assert identity_of(SPOT, replace(TRAIN, caller_env={"SHLVL": "3"}), STORE) == same
    assert identity_of(SPOT, replace(TRAIN, args=("--epochs", "5")), STORE) != same
    assert identity_of(replace(SPOT, zone="us-east-1a"), TRAIN, STORE) != same


def test_a_provider_that_replaces_no_machine_says_so(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    with pytest.raises(Unsupported, match="does not replace a machine by itself"):
        runctl.launch_unattended(tmp_path / "train.py", provider="local", checkpoints=Keeping(s3=STORE.url))


@pytest.mark.parametrize(
    ("nodes", "moves", "kind", "said"),
    [
        (NodesWanted(2, 4, Engine.NONE), False, Unsupported, "--nodes 2:4: a group keeps one number"),
        (NodesWanted(2, 2, Engine.NONE), True, Unsupported, "--deadline with --unattended"),
        (NodesWanted(1, 1, Engine.RAY), False, UsageError, "one machine needs no engine"),
    ],
)
def test_what_a_group_of_several_machines_does_not_do_is_said(
    nodes: NodesWanted, moves: bool, kind: type[RunctlError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        check_nodes(nodes, moves=moves)
    check_nodes(NodesWanted(2, 2, nodes.engine), moves=False)


def test_a_budget_is_shared_by_all_machines_and_a_volume_is_not() -> None:
    assert shared_by(replace(SPOT, budget=Decimal(9)), 3).budget == Decimal(3)
    assert shared_by(SPOT, 3) == SPOT
    with pytest.raises(Unsupported, match="datasets can be on one machine of a group only"):
        shared_by(replace(SPOT, volumes=(VolumeMount("datasets"),)), 3)


def test_another_number_of_machines_is_another_run() -> None:
    several = [NodesWanted(count, count, Engine.NONE) for count in (2, 3)]
    alone, two, three = (identity_of(SPOT, TRAIN, STORE, nodes) for nodes in (None, *several))
    assert alone != two != three
    assert two == identity_of(SPOT, TRAIN, STORE, several[0])
