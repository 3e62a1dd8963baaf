"""``sandbox interrupt | rebalance | kill | capacity | replay | faults``, in a sandbox that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.cli.conftest import Invoke, data_of, error_of
from tests.sandbox.account import Account, code_of

pytestmark = [pytest.mark.namespaces, pytest.mark.usefixtures("in_sandbox")]


@pytest.fixture
def account(sandbox: SandboxInfo, tmp_path: Path) -> Iterator[Account]:
    """Everything that the test has launched is gone, and all goes well again."""
    account = Account(sandbox, tmp_path)
    yield account
    Faults(sandbox).clear()
    answer = account.ec2.describe_instances(Filters=[{"Name": "tag:test", "Values": ["faults"]}])
    ids = [item["InstanceId"] for group in answer["Reservations"] for item in group["Instances"]]
    if ids:
        account.ec2.terminate_instances(InstanceIds=ids)
        for instance_id in ids:
            account.wait_state(instance_id, "terminated")


def launch(account: Account, name: str = "box", *, spot: bool = True) -> str:
    tags = [{"Key": "Name", "Value": name}, {"Key": "test", "Value": "faults"}]
    more: dict[str, Any] = {"InstanceMarketOptions": {"MarketType": "spot"}} if spot else {}
    answer = account.ec2.run_instances(
        ImageId=account.image,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        **more,
    )
    instance_id = str(answer["Instances"][0]["InstanceId"])
    account.wait_state(instance_id, "running")
    return instance_id


def test_an_interrupted_instance_is_named_with_its_end_and_taken_back(
    account: Account, invoke: Invoke
) -> None:
    instance_id = launch(account)

    (shown,) = data_of(invoke("sandbox", "interrupt", "box", "--notice", "1s", "--output", "json"))

    assert shown["instance_id"] == instance_id
    ended = account.wait_state(instance_id, "terminated")
    assert ended["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_a_second_notice_does_not_move_the_end(account: Account, invoke: Invoke) -> None:
    instance_id = launch(account)
    first = data_of(invoke("sandbox", "interrupt", instance_id, "--notice", "1h", "--output", "json"))

    second = data_of(invoke("sandbox", "interrupt", instance_id, "--notice", "1s", "--output", "json"))

    assert second == first
    faults = data_of(invoke("sandbox", "faults", "--output", "json"))
    assert [notice["instance_id"] for notice in faults["notices"]] == [instance_id]


def test_a_recommendation_leaves_the_instance_running(account: Account, invoke: Invoke) -> None:
    instance_id = launch(account)

    assert data_of(invoke("sandbox", "rebalance", "box", "--output", "json")) == [instance_id]

    assert account.state(instance_id) == "running"
    assert data_of(invoke("sandbox", "faults", "--output", "json"))["rebalance"] == [instance_id]


def test_a_killed_instance_is_lost_whatever_its_market(account: Account, invoke: Invoke) -> None:
    instance_id = launch(account, spot=False)

    assert data_of(invoke("sandbox", "kill", instance_id, "--output", "json")) == [instance_id]

    ended = account.wait_state(instance_id, "terminated")
    assert ended["StateReason"]["Code"] == "Server.InternalError"


@pytest.mark.parametrize("command", ["interrupt", "rebalance"])
def test_on_demand_instances_are_not_interrupted(account: Account, invoke: Invoke, command: str) -> None:
    launch(account, spot=False)

    error = error_of(invoke("sandbox", command, "box", "--output", "json"))

    assert "on-demand" in error["message"]


@pytest.mark.parametrize("command", ["interrupt", "rebalance", "kill"])
@pytest.mark.parametrize("name", ["i-0123456789abcdef0", "bo*", ""])
def test_an_instance_that_is_not_there_is_one_clear_error(invoke: Invoke, command: str, name: str) -> None:
    error = error_of(invoke("sandbox", command, name, "--output", "json"))

    assert repr(name) in error["message"]
    assert error["hint"]


def test_of_two_with_the_same_name_neither_is_killed(account: Account, invoke: Invoke) -> None:
    ids = [launch(account), launch(account)]

    error = error_of(invoke("sandbox", "kill", "box", "--output", "json"))

    assert all(instance_id in error["message"] for instance_id in ids)
    assert {account.state(instance_id) for instance_id in ids} == {"running"}


def test_a_zone_without_capacity_refuses_launches_until_it_is_restored(
    account: Account, invoke: Invoke
) -> None:
    shown = data_of(
        invoke("sandbox", "capacity", "us-east-1a/t3.micro", "none", "--market", "spot", "--output", "json")
    )

    (limit,) = shown["capacity"]
    assert limit == {"zone": "us-east-1a", "instance_type": "t3.micro", "market": "spot", "count": 0}
    with pytest.raises(ClientError) as caught:
        launch(account)
    assert code_of(caught.value) == "InsufficientInstanceCapacity"
    launch(account, spot=False)

    assert data_of(invoke("sandbox", "capacity", "all", "restore", "--output", "json"))["capacity"] == []
    launch(account)


def test_what_runs_counts_against_a_zones_capacity(account: Account, invoke: Invoke) -> None:
    first = launch(account)
    data_of(invoke("sandbox", "capacity", "us-east-1a", "1", "--output", "json"))

    with pytest.raises(ClientError):
        launch(account)
    account.ec2.terminate_instances(InstanceIds=[first])
    account.wait_state(first, "terminated")
    launch(account)


def test_clear_lets_all_go_well_again(account: Account, invoke: Invoke) -> None:
    data_of(invoke("sandbox", "capacity", "all", "none", "--output", "json"))
    assert "none" in invoke("sandbox", "faults").stdout

    result = invoke("sandbox", "faults", "--clear")

    assert result.stdout == "no faults are set\n"
    launch(account)


@pytest.mark.parametrize("count", ["-1", "some", "1.5", ""])
def test_a_capacity_that_is_no_number_is_refused(invoke: Invoke, count: str) -> None:
    error = error_of(invoke("sandbox", "capacity", "us-east-1a", "--output", "json", "--", count))

    assert "none" in error["message"] or "option" in error["message"].lower()


def test_a_zone_or_a_type_that_there_is_not_is_refused(
    account: Account, invoke: Invoke, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps({"metadata": {"gap_seconds": 300}, "data": [1]}))

    for arguments in (["capacity", "us-east-9a", "1"], ["replay", str(trace), "--pool", "us-east-9a"]):
        error = error_of(invoke("sandbox", *arguments, "--output", "json"))
        assert (error["code"], "us-east-9a" in error["message"]) == ("not-found", True)
        assert "us-east-1a" in error["hint"]
    error = error_of(invoke("sandbox", "capacity", "us-east-1a/g5.xlrge", "1", "--output", "json"))
    assert error["hint"] == 'did you mean "g5.xlarge"?'
    assert data_of(invoke("sandbox", "faults", "--output", "json"))["capacity"] == []


def test_without_a_sandbox_each_says_how_to_start_one(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))

    for arguments in (["kill", "x"], ["interrupt", "x"], ["capacity", "all", "1"], ["faults"]):
        error = error_of(invoke("sandbox", *arguments, "--output", "json"))
        assert error["hint"] == "runctl sandbox start"


def test_a_trace_is_played_and_leaves_no_limit(account: Account, invoke: Invoke, tmp_path: Path) -> None:
    instance_id = launch(account)
    zone = account.describe(instance_id)["Placement"]["AvailabilityZone"]
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps({"metadata": {"gap_seconds": 300}, "data": [1, 1, 0, 0, 1]}))

    played = invoke(
        *("sandbox", "replay", str(trace), "--pool", zone, "--speed", "3000", "--notice", "1s"),
        *("--output", "json"),
    )

    rows = [json.loads(line) for line in played.stdout.splitlines()]
    assert [(row["hours"], row["available"], row["interrupted"]) for row in rows] == [
        (0.0, True, []),
        (0.167, False, [instance_id]),
        (0.333, True, []),
    ]
    assert {row["pool"] for row in rows} == {zone}
    account.wait_state(instance_id, "terminated")
    assert account.describe(instance_id)["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert data_of(invoke("sandbox", "faults", "--output", "json"))["capacity"] == []


def test_traces_and_pools_that_do_not_go_together_are_refused(invoke: Invoke, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps({"metadata": {"gap_seconds": 300}, "data": [1]}))
    refused = invoke("sandbox", "replay", str(trace), "--pool", "us-east-1a", "--pool", "us-east-1b")
    assert refused.exit_code == 2
    assert "1 trace and 2 --pool" in refused.stderr


def test_the_store_is_slow_or_away_until_it_is_restored(account: Account, invoke: Invoke) -> None:
    account.s3.create_bucket(Bucket="troubled")
    account.s3.put_object(Bucket="troubled", Key="a", Body=b"data")

    assert "moves 200 KiB a second" in invoke("sandbox", "store", "200").stdout
    assert account.s3.get_object(Bucket="troubled", Key="a")["Body"].read() == b"data"
    shown = data_of(invoke("sandbox", "store", "away", "--output", "json"))
    assert shown["store"] == {"away": True, "bytes_per_second": 0.0}
    with pytest.raises(ClientError) as refused:
        account.s3.put_object(Bucket="troubled", Key="a", Body=b"lost")
    assert code_of(refused.value) == "ServiceUnavailable"

    assert "no faults are set" in invoke("sandbox", "store", "restore").stdout
    assert account.s3.get_object(Bucket="troubled", Key="a")["Body"].read() == b"data"
    assert "'fast' is not a number of KiB" in invoke("sandbox", "store", "fast").stderr
