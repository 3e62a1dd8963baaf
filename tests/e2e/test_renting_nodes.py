"""Several machines for one run, rented in the sandbox: all or none, in a network of their own, with their data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runctl.core.machine_models import Market
from runctl.core.tags import RANK
from runctl.costs.ledger import Ledger
from runctl.machines.nodes import Engine, NodesWanted, new_nodes
from runctl.machines.session import Session
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.sandbox.fault_client import Faults
from tests.e2e.account import create, volume
from tests.e2e.command_line import CommandLine

pytestmark = [pytest.mark.namespaces, pytest.mark.usefixtures("clean_account")]

LAUNCH = ("aws", "launch", "training/train.py", "--instance-type", "m5.large", "--no-checkpoint", "--yes")
JSON = ("--output", "json")


def left(ec2: Any) -> dict[str, list[str]]:
    """Instances that are not over, volumes, and groups that were made for machines of one run."""
    found = [item for group in ec2.describe_instances()["Reservations"] for item in group["Instances"]]
    groups = ec2.describe_security_groups()["SecurityGroups"]
    return {
        "instances": [item["InstanceId"] for item in found if item["State"]["Name"] != "terminated"],
        "volumes": [item["VolumeId"] for item in ec2.describe_volumes()["Volumes"]],
        "networks": [item["GroupId"] for item in groups if item["GroupName"].startswith("runctl-nodes-")],
        "placements": [item["GroupName"] for item in ec2.describe_placement_groups()["PlacementGroups"]],
        "templates": [
            item["LaunchTemplateId"] for item in ec2.describe_launch_templates()["LaunchTemplates"]
        ],
    }


NOTHING: dict[str, list[str]] = {
    "instances": [],
    "volumes": [],
    "networks": [],
    "placements": [],
    "templates": [],
}


@pytest.mark.slow
def test_machines_reach_each_other_and_nobody_else_reaches_them_each_with_its_data_and_all_of_it_goes(
    runctl: CommandLine, ec2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = volume(runctl)
    outsider = create(runctl, "--name", "outsider", "--ebs-volume", "datasets")
    runctl("aws", "exec", outsider, "--", "sh", "-c", "echo whole > /mnt/datasets/kept").ok()
    runctl("aws", "ebs", "detach", "datasets", "--yes").ok()
    monkeypatch.setenv("XDG_DATA_HOME", runctl.env["XDG_DATA_HOME"])
    session = Session()
    request = InstanceRequest(
        "m5.large", name="team", volumes=(VolumeMount("datasets"),), attempt="run-aaaaaaaaaa/1"
    )

    def reaches(of: str, address: str) -> bool:
        connect = f"timeout 2 bash -c '</dev/tcp/{address}/22'"
        return runctl("aws", "exec", of, "--", "bash", "-c", connect).code == 0

    with new_nodes(session, "aws", request, NodesWanted(2, 2, Engine.NONE)) as new:
        assert new.plan.nodes.machine.zone == "us-east-1a"
        group = new.rent()
        first, second = group.nodes

        assert reaches("team-0", second.address)
        assert reaches("team-1", first.address)
        assert not reaches("outsider", first.address)
        assert [node.instance.tags[RANK] for node in group.nodes] == ["0", "1"]
        assert first.volumes == {data: data}
        assert second.volumes[data] not in {data, ""}
        for name in ("team-0", "team-1"):
            runctl("aws", "exec", name, "--", "grep", "whole", "/mnt/datasets/kept").ok()
        rows = [
            each
            for each in Ledger(session.database).select("run_id = 'run-aaaaaaaaaa'", ())
            if not each.machine
        ]
        assert sorted(str(each.name) for each in rows if each.kind == "instance") == ["team-0", "team-1"]
        assert all(len(found) == 1 for kind, found in left(ec2).items() if kind in {"networks", "placements"})
        # The copy goes with its machine, whoever ends that.
        ec2.terminate_instances(InstanceIds=[second.instance.id])
        facts, hint = new.give_back()

    assert first.instance.id in facts
    assert hint == ""
    assert left(ec2) == {**NOTHING, "instances": [outsider], "volumes": left(ec2)["volumes"]}
    assert data in left(ec2)["volumes"]
    assert second.volumes[data] not in left(ec2)["volumes"]
    assert session.intents.unfinished() == []


def test_without_a_machine_for_the_last_of_them_nothing_is_left_and_fewer_will_do_where_that_is_said(
    runctl: CommandLine, ec2: Any, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults.capacity(1, instance_type="m5.large")

    refused = runctl(*LAUNCH, "--nodes", "2", "--engine", "none", *JSON)

    assert (refused.code, refused.error["code"]) == (6, "no-capacity")
    assert (
        "2 on-demand machines were not available in one zone, and none was kept" in refused.error["message"]
    )
    assert "us-east-1a" in refused.error["message"]
    assert left(ec2) == NOTHING
    faults.clear()
    faults.quota("standard", 5)
    too_many = runctl(*LAUNCH, "--nodes", "3", "--engine", "none", *JSON)
    assert too_many.error["code"] == "quota"
    assert "3 have 6 vCPUs, and 5 of 5 are free" in too_many.error["message"]
    assert left(ec2) == NOTHING
    # What fits into the quota is taken where fewer will do.
    monkeypatch.setenv("XDG_DATA_HOME", runctl.env["XDG_DATA_HOME"])
    request = InstanceRequest("m5.large", name="some", market=Market.ON_DEMAND)
    with new_nodes(Session(), "aws", request, NodesWanted(1, 3, Engine.NONE)) as new:
        group = new.rent()
        assert [node.rank for node in group.nodes] == [0, 1]
        assert len(left(ec2)["instances"]) == 2
        new.give_back()
    assert left(ec2) == NOTHING


@pytest.mark.slow
def test_after_a_kill_the_same_command_goes_on_and_cleanup_removes_all_of_it(
    runctl: CommandLine, ec2: Any
) -> None:
    volume(runctl, "work")
    argv = [*LAUNCH, "--nodes", "2", "--engine", "none", "--ebs-volume", "work"]
    mortal = replace(runctl, env={**runctl.env, "KILL_AFTER": "CreateFleet"})
    assert "KILLED AFTER CreateFleet" in mortal.another("tests.e2e.killed", *argv).err

    again = runctl(*argv, "--dry-run")
    listed = runctl("resources", "list", *JSON).ok().json["resources"]
    kinds = [each["kind"] for each in listed]
    cleaned = runctl("resources", "cleanup", "--older-than", "1s", "--yes", *JSON)

    assert "was begun by the same command" in again.ok().err
    assert kinds.count("instance") == 2
    assert {"security-group", "placement-group"} <= set(kinds)
    used = {each["kind"]: each["attached_to"] for each in listed}
    assert len(used["security-group"]) == len(used["placement-group"]) == 2
    assert cleaned.code == 0, f"{cleaned}"
    assert left(ec2) == {**NOTHING, "volumes": left(ec2)["volumes"]}
    assert len(left(ec2)["volumes"]) == 1, "the volume itself stays"
