"""Manifests: what the schema of Kubernetes says of them, what a cluster says besides, and what they promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from runctl.export.kubernetes.manifest import manifest, named
from runctl.export.kubernetes.plan import JobPlan, Nodes
from tests.export.kubernetes.plans import PLAIN, PLANS, SEVERAL, SPOT, STORED, changed
from tests.export.kubernetes.rules import problems

GOLDEN = Path(__file__).with_name("spot.yaml")
VERSIONS = ("1.29", "1.37")
"""The oldest that is promised, and the newest that is known."""


def documents(plan: JobPlan) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(manifest(plan)))


def of_kind(plan: JobPlan, kind: str) -> dict[str, Any]:
    (found,) = [each for each in documents(plan) if each["kind"] == kind]
    return found


def pod_of(plan: JobPlan) -> dict[str, Any]:
    found: dict[str, Any] = of_kind(plan, "Job")["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("name", PLANS)
def test_a_cluster_takes_what_is_written(name: str) -> None:
    found = documents(PLANS[name])

    for document in found:
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
    assert problems(found) == []


def test_the_rules_find_what_the_schema_does_not() -> None:
    for path, value, expected in (
        (("template", "spec", "restartPolicy"), "Always", "restartPolicy"),
        (("podReplacementPolicy",), "Never", "podReplacementPolicy: Never"),
        (("podFailurePolicy", "rules", 0, "action"), "Retry", "action: Retry"),
        (("template", "spec", "volumes", 0, "configMap", "name"), "other", "no ConfigMap other"),
    ):
        found = documents(PLAIN)
        job = next(each for each in found if each["kind"] == "Job")
        inner: Any = job["spec"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        kubernetes_validate.validate(job, VERSIONS[0], strict=True)
        assert expected in problems(found)


def test_the_whole_of_one_is_as_it_was() -> None:
    assert manifest(SPOT) == GOLDEN.read_text(encoding="utf-8")


def test_a_name_says_what_is_in_the_run() -> None:
    first, second = named(PLAIN), named(PLAIN)

    assert first == second
    assert first.name.startswith("digits-train-")
    assert named(replace(PLAIN, command=("python3", "-u", "train.py", "--lr", "2"))).name != first.name
    assert named(replace(PLAIN, image="other")).name != first.name
    assert problems(documents(named(replace(PLAIN, name="a" * 52)))) == []


def test_a_value_that_is_secret_is_referred_to() -> None:
    variables = {each["name"]: each for each in pod_of(SPOT)["containers"][0]["env"]}

    assert variables["WANDB_API_KEY"]["valueFrom"] == {
        "secretKeyRef": {"name": "digits-env", "key": "WANDB_API_KEY"}
    }
    assert (
        'kubectl create secret generic --namespace training digits-env --from-literal=WANDB_API_KEY="$WANDB_API_KEY"'
        in manifest(SPOT)
    )


def test_the_script_gets_its_arguments_as_they_are() -> None:
    plan = changed(
        command=("python3", "train.py", "$(HOME)", "a $(X) b", "", "1e-4", "no", "0o17", "12:30:45")
    )

    (container,) = pod_of(plan)["containers"]

    assert container["command"][3:] == [
        *("python3", "train.py", "$$(HOME)", "a $$(X) b", "", "1e-4", "no", "0o17", "12:30:45")
    ]


def test_one_attempt_is_said_to_be_one_whether_on_spot_nodes_or_not() -> None:
    for nodes in (PLAIN.nodes, SPOT.nodes):
        text = " ".join(manifest(changed(nodes=nodes)).replace("\n#", " ").split())

        assert "A pod that is lost is not replaced: one attempt (--max-attempts, --auto-resume)." in text


@pytest.mark.parametrize(("attempts", "limit"), [(1, 0), (20, 19)])
def test_a_lost_pod_is_tried_again_and_a_failed_script_is_not(attempts: int, limit: int) -> None:
    spec = of_kind(changed(attempts=attempts), "Job")["spec"]

    assert spec["backoffLimit"] == limit
    taken, failed = spec["podFailurePolicy"]["rules"]
    assert (taken["action"], taken["onPodConditions"][0]["type"]) == ("Count", "DisruptionTarget")
    assert (failed["action"], failed["onExitCodes"]) == (
        "FailJob",
        {"containerName": "main", "operator": "NotIn", "values": [0]},
    )


def test_several_nodes_meet_at_the_first_and_start_over_together() -> None:
    spec = of_kind(SEVERAL, "Job")["spec"]
    pod = spec["template"]["spec"]

    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (4, 4, "Indexed")
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["Count", "Count"]
    assert spec["backoffLimit"] == 8
    command = pod["containers"][0]["command"]
    assert command[3:] == [
        *("torchrun", "--nnodes=4", "--nproc-per-node=8", "--node-rank=$(RUNCTL_NODE_RANK)"),
        *("--master-addr=digits-train-0.digits-train", "--master-port=29500", "train.py", "--epochs", "5"),
    ]
    zone, host = (
        pod["affinity"][kind]["requiredDuringSchedulingIgnoredDuringExecution"][0]["topologyKey"]
        for kind in ("podAffinity", "podAntiAffinity")
    )
    assert (zone, host) == ("topology.kubernetes.io/zone", "kubernetes.io/hostname")


def test_without_torchrun_a_script_finds_its_rank_and_the_others() -> None:
    plan = replace(SEVERAL, command=("python", "-m", "digits"), torchrun=False)
    variables = {each["name"]: each for each in pod_of(plan)["containers"][0]["env"]}

    assert pod_of(plan)["containers"][0]["command"][3:] == ["python", "-m", "digits"]
    assert variables["RANK"]["valueFrom"]["fieldRef"]["fieldPath"].endswith("job-completion-index']")
    assert (variables["WORLD_SIZE"]["value"], variables["RUNCTL_NODES"]["value"]) == ("4", "4")
    assert variables["RUNCTL_NODE_ADDRESSES"]["value"].split(",")[3] == "digits-train-3.digits-train"
    for document in documents(plan):
        kubernetes_validate.validate(document, VERSIONS[1], strict=True)


def test_a_volume_that_may_be_written_has_the_checkpoints_and_is_never_deleted() -> None:
    variables = {each["name"]: each.get("value") for each in pod_of(SPOT)["containers"][0]["env"]}
    volumes = [each["spec"] for each in documents(SPOT) if each["kind"] == "PersistentVolume"]

    assert variables["RUNCTL_CHECKPOINT_DIR"] == "/data/runs/digits-train/checkpoints"
    assert [volume["persistentVolumeReclaimPolicy"] for volume in volumes] == ["Retain", "Retain"]
    assert volumes[0]["csi"]["volumeHandle"] == "vol-0123456789abcdef0"
    assert volumes[0]["claimRef"] == {"namespace": "training", "name": "runctl-vol-0123456789abcdef0"}
    assert pod_of(PLAIN)["volumes"][-1] == {"name": "run", "emptyDir": {}}


def test_all_that_was_made_is_in_the_lines_that_remove_it() -> None:
    for plan in PLANS.values():
        made = {(each["kind"].lower(), each["metadata"]["name"]) for each in documents(plan)}
        if "kubectl create secret" in manifest(plan):
            made.add(("secret", plan.secret))
        lines = [line for line in manifest(plan).splitlines() if line.startswith("#   kubectl delete")]
        removed = {tuple(word.split("/")) for line in lines for word in line.split() if "/" in word}

        assert removed == made


def test_a_claim_is_the_same_when_its_volume_has_grown() -> None:
    def claims(plan: JobPlan) -> list[dict[str, Any]]:
        return [each for each in documents(plan) if each["kind"] == "PersistentVolumeClaim"]

    grown = replace(SPOT, volumes=tuple(replace(each, size_gib=2 * each.size_gib) for each in SPOT.volumes))

    assert claims(grown) == claims(SPOT)


@pytest.mark.parametrize("plan", [PLAIN, SEVERAL, changed(command=("run.sh",))])
def test_python_does_not_keep_its_log_back(plan: JobPlan) -> None:
    variables = {each["name"]: each.get("value") for each in pod_of(plan)["containers"][0]["env"]}

    assert variables["PYTHONUNBUFFERED"] == "1"


def test_a_script_may_want_its_log_kept_back() -> None:
    variables = pod_of(changed(env={"PYTHONUNBUFFERED": ""}))["containers"][0]["env"]

    assert [each["value"] for each in variables if each["name"] == "PYTHONUNBUFFERED"] == [""]


def test_a_store_is_fetched_from_before_and_published_to_until_after_the_script() -> None:
    pod = pod_of(STORED)

    fetch, publish = pod["initContainers"]
    assert ("restartPolicy" in fetch, publish["restartPolicy"]) == (False, "Always")
    assert fetch["command"][2:] == [
        *("fetch", "s3://mine/runs/digits-train/checkpoints", "/runctl/run/checkpoints", "60")
    ]
    assert pod["terminationGracePeriodSeconds"] == 90
    assert "- All checkpoints stay in the store." in manifest(STORED)


def test_each_of_several_nodes_says_for_itself_when_its_checkpoints_were_written() -> None:
    for container in pod_of(SEVERAL)["initContainers"]:
        (rank,) = container["env"]
        assert rank["name"] == "RUNCTL_NODE_RANK"
        assert rank["valueFrom"]["fieldRef"]["fieldPath"].endswith("job-completion-index']")


def test_spot_nodes_are_found_by_the_label_of_whoever_made_them() -> None:
    terms = pod_of(SPOT)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]

    assert [term["matchExpressions"][0] for term in terms] == [
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]},
        {"key": "eks.amazonaws.com/capacityType", "operator": "In", "values": ["SPOT"]},
    ]
    assert {term["matchExpressions"][1]["values"][0] for term in terms} == {"p4d.24xlarge"}
    assert "affinity" not in pod_of(changed(nodes=Nodes(cpus=2)))
