"""The resources that a planned run consists of. Pure: the same plan gives the same values in the same order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from runctl.export.kubernetes.plan import LONGEST_NAME, MASTER_PORT, JobPlan, VolumeClaim, fit_for_a_name
from runctl.export.kubernetes.yaml_text import Document, render

MAIN, START = "main", "start.sh"
_CHECKPOINTS, _CARRY = "checkpoints.sh", "carry_checkpoints.sh"
START_FOLDER = "/runctl/start"
PUBLISH_SECONDS = 60
"""Of the grace, for what the script has saved last to reach the store."""
_EPHEMERAL = "run"
"""The volume of what ends with the pod."""
_ZONE, _TYPE, _HOST = (
    "topology.kubernetes.io/zone",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/hostname",
)
_GPU = "nvidia.com/gpu"
_ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}
_RANK = "RUNCTL_NODE_RANK"
_JOB_LABEL = "batch.kubernetes.io/job-name"
_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def named(plan: JobPlan) -> JobPlan:
    """The plan with a name that says what is in it: another run has another name."""
    digest = hashlib.sha256(manifest(plan).encode()).hexdigest()[:8]
    return replace(plan, name=f"{fit_for_a_name(plan.name, LONGEST_NAME - 9)}-{digest}")


def manifest(plan: JobPlan) -> str:
    """All of it as YAML."""
    documents = [_programs(plan)]
    for volume in plan.volumes:
        documents += [_volume(plan, volume), _claim(plan, volume)]
    if plan.nodes.count > 1:
        documents.append(_service(plan))
    documents.append(_job(plan))
    return render(_header(plan), documents)


def _header(plan: JobPlan) -> list[str]:
    options = f" --namespace {plan.namespace}" if plan.namespace else ""
    made = [f"job/{plan.name}", f"configmap/{plan.name}-start"]
    if plan.nodes.count > 1:
        made.append(f"service/{plan.name}")
    lines = [
        f"The run {plan.name} of {plan.project}, written by runctl export kubernetes, for Kubernetes 1.29 and newer.",
        "Follow it, and remove it (what is on its volumes stays):",
        f"$ kubectl logs{options} --follow job/{plan.name} --container {MAIN}",
        f"$ kubectl delete{options} {' '.join(made)}",
    ]
    if plan.volumes:
        claims = " ".join(f"persistentvolumeclaim/{volume.resource}" for volume in plan.volumes)
        volumes = " ".join(f"persistentvolume/{volume.resource}" for volume in plan.volumes)
        lines += [
            "When no run needs its volumes in the cluster any more, it forgets them, and they stay where they are:",
            f"$ kubectl delete{options} {claims}",
            f"$ kubectl delete {volumes}",
        ]
    if plan.secret_env:
        literals = " ".join(f'--from-literal={name}="${name}"' for name in plan.secret_env)
        lines += [
            "Values of variables that look secret are not in this file. Before the run:",
            f"$ kubectl create secret generic{options} {plan.secret} {literals}",
            "When no run needs it any more:",
            f"$ kubectl delete{options} secret/{plan.secret}",
        ]
    absent = (
        "The project is not sent, and dev-mode is not there: what runs is what the image has.",
        "No agent watches: the log is the cluster's, and the script is not asked for checkpoints.",
        "Checkpoints are not read: the newest of which no file is seen to be missing is taken.",
        "Nothing is in the ledger: runctl's costs, budgets, limits and runs know nothing of it.",
        "RUNCTL_ATTEMPT and RUNCTL_PROGRESS_FILE are not set.",
        *plan.left_out,
    )
    lines.append("What runctl does on machines that it rents, and nobody does here:")
    return lines + [f"- {sentence}" for sentence in absent]


def _metadata(plan: JobPlan, name: str, *, in_namespace: bool = True) -> dict[str, Any]:
    namespace = {"namespace": plan.namespace} if plan.namespace and in_namespace else {}
    return {"name": name, **namespace, "labels": _labels(plan)}


def _labels(plan: JobPlan) -> dict[str, str]:
    return {
        "app.kubernetes.io/managed-by": "runctl",
        "app.kubernetes.io/part-of": fit_for_a_name(plan.project, 63),
    }


@cache
def start_programs() -> Mapping[str, str]:
    """By file name, what starts the script in its container, and what that reads of its own folder."""
    return {
        name: Path(__file__).with_name(name).read_text(encoding="utf-8") for name in (START, _CHECKPOINTS)
    }


def _programs(plan: JobPlan) -> Document:
    carried = {_CARRY: plan.store.carrier.program} if plan.store else {}
    return Document(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _metadata(plan, f"{plan.name}-start"),
            "data": {**start_programs(), **carried},
        },
        ("What starts the script, with /bin/sh of the image.",),
    )


def _volume(plan: JobPlan, volume: VolumeClaim) -> Document:
    claim = {"claimRef": {"namespace": plan.namespace, "name": volume.resource}} if plan.namespace else {}
    where = {"key": _ZONE, "operator": "In", "values": [volume.zone]}
    metadata = _metadata(plan, volume.resource, in_namespace=False)
    return Document(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": metadata,
            "spec": {
                "capacity": {"storage": f"{volume.size_gib}Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "volumeMode": "Filesystem",
                **claim,
                "csi": {"driver": volume.driver, "volumeHandle": volume.volume_id, "fsType": volume.fstype},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [where]}]}},
            },
        },
        (
            f"The volume {volume.name or volume.volume_id}, which exists. Retain: the cluster never deletes it.",
            "fsType must be what is on it (--fstype), and the driver the cluster's own (--csi-driver).",
        ),
    )


def _claim(plan: JobPlan, volume: VolumeClaim) -> Document:
    return Document(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": _metadata(plan, volume.resource),
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "",
                "volumeName": volume.resource,
                # Not its size, which may grow: a cluster changes no claim to a volume that it did not make.
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
    )


def _service(plan: JobPlan) -> Document:
    return Document(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(plan, plan.name),
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": {_JOB_LABEL: plan.name},
                "ports": [{"name": "rendezvous", "port": MASTER_PORT, "protocol": "TCP"}],
            },
        },
        (f"Names for the pods: {_meeting_point(plan)} is where they meet.",),
    )


def _job(plan: JobPlan) -> Document:
    indexed = (
        {"completions": plan.nodes.count, "parallelism": plan.nodes.count, "completionMode": "Indexed"}
        if plan.nodes.count > 1
        else {}
    )
    limit = {"activeDeadlineSeconds": int(plan.timeout.total_seconds())} if plan.timeout else {}
    annotations = {"annotations": dict(plan.nodes.annotations)} if plan.nodes.annotations else {}
    return Document(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": _metadata(plan, plan.name),
            "spec": {
                **indexed,
                "backoffLimit": (plan.attempts - 1) * plan.nodes.count,
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {"rules": _failure_rules(plan)},
                **limit,
                "template": {"metadata": {"labels": _labels(plan), **annotations}, "spec": _pod(plan)},
            },
        },
        tuple(_job_comments(plan)),
    )


def _failure_rules(plan: JobPlan) -> list[dict[str, Any]]:
    """`runctl.agent.end_reason.RETRIED` in the cluster's terms: what says nothing of the script is tried again."""
    taken = {
        "action": "Count",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    failed = {
        # Of several, those fail too whose neighbour was taken.
        "action": "FailJob" if plan.nodes.count == 1 else "Count",
        "onExitCodes": {"containerName": MAIN, "operator": "NotIn", "values": [0]},
    }
    return [taken, failed]


def _job_comments(plan: JobPlan) -> list[str]:
    lines = list(plan.image_notes)
    retries = (
        f"A pod that is evicted, or whose node is taken back or lost, is replaced: at most {plan.attempts} attempts."
        if plan.attempts > 1
        else "A pod that is lost is not replaced: one attempt (--max-attempts, --auto-resume)."
    )
    if plan.nodes.count == 1:
        retries += " A script that fails by itself is not tried again: it would fail in the same way."
    elif plan.attempts > 1:
        retries += (
            " When one pod is lost the others fail, so that a script's own failure is tried again, too: a Job cannot"
            " tell the two apart."
        )
    else:
        retries += " The others fail with it, and the Job has failed."
    lines.append(retries)
    lines.append(
        f"At its end a pod gets SIGTERM, and {int(plan.grace.total_seconds())} s to save. A script that then ends with"
        f" 0 counts as interrupted: {START} makes that 143."
    )
    if plan.timeout:
        lines.append("activeDeadlineSeconds counts from the Job's start: waiting for a node is in it.")
    if plan.saves_to is None and plan.store is None:
        lines.append(
            "Checkpoints and output end with the pod: no volume may be written, and no store is named."
        )
    return lines


def _pod(plan: JobPlan) -> dict[str, Any]:
    nodes = plan.nodes
    grace = int(plan.grace.total_seconds()) + (PUBLISH_SECONDS if plan.store else 0)
    account: dict[str, Any] = {"automountServiceAccountToken": False}
    if plan.service_account:
        account = {"serviceAccountName": plan.service_account}
    found: dict[str, Any] = {
        "restartPolicy": "Never",
        # The script is not the first process, so that SIGTERM ends one that has no handler for it.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": grace,
        **account,
        **({"subdomain": plan.name} if nodes.count > 1 else {}),
        "securityContext": _security(plan),
    }
    if nodes.architecture:
        found["nodeSelector"] = {"kubernetes.io/arch": _ARCHITECTURES[nodes.architecture]}
    if affinity := _affinity(plan):
        found["affinity"] = affinity
    if nodes.gpus:
        found["tolerations"] = [{"key": _GPU, "operator": "Exists", "effect": "NoSchedule"}]
    if plan.store:
        found["initContainers"] = [_carrier(plan, "fetch"), _carrier(plan, "publish")]
    found["containers"] = [_main(plan)]
    found["volumes"] = _volumes(plan)
    return found


def _security(plan: JobPlan) -> dict[str, Any]:
    found: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if plan.user is not None:
        user, group = plan.user
        owner = user if group is None else group
        found |= {"runAsUser": user, "runAsGroup": owner, "fsGroup": owner}
        found["fsGroupChangePolicy"] = "OnRootMismatch"
    return found


def _affinity(plan: JobPlan) -> dict[str, Any]:
    nodes = plan.nodes
    found: dict[str, Any] = {}
    types = [{"key": _TYPE, "operator": "In", "values": list(nodes.types)}] if nodes.types else []
    # Terms are alternatives: a node has the label of whoever made it.
    terms = [
        {"matchExpressions": [{"key": label, "operator": "In", "values": [value]}, *types]}
        for label, value in nodes.spot_labels
    ]
    if types and not terms:
        terms = [{"matchExpressions": types}]
    if terms:
        found["nodeAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}
        }
    if nodes.count > 1:
        same = {"labelSelector": {"matchLabels": {_JOB_LABEL: plan.name}}}
        together = "requiredDuringSchedulingIgnoredDuringExecution"
        found["podAffinity"] = {together: [{**same, "topologyKey": _ZONE}]}
        found["podAntiAffinity"] = {together: [{**same, "topologyKey": _HOST}]}
    return found


def _main(plan: JobPlan) -> dict[str, Any]:
    nodes = plan.nodes
    requests: dict[str, Any] = {}
    if nodes.cpus:
        requests["cpu"] = str(nodes.cpus)
    if nodes.memory_gib:
        requests["memory"] = f"{nodes.memory_gib}Gi"
    limits = {_GPU: str(nodes.gpus)} if nodes.gpus else {}
    resources = {**({"requests": requests} if requests else {}), **({"limits": limits} if limits else {})}
    start = ("/bin/sh", f"{START_FOLDER}/{START}", str(len(plan.resume_args)))
    return {
        "name": MAIN,
        "image": plan.image,
        "command": [
            *start,
            *map(_literal, plan.resume_args),
            *(_torchrun(plan) if plan.torchrun else ()),
            *map(_literal, plan.command),
        ],
        **({"workingDir": plan.workdir} if plan.workdir else {}),
        "env": _variables(plan),
        **({"resources": resources} if resources else {}),
        "securityContext": {"allowPrivilegeEscalation": False},
        "volumeMounts": _mounts(plan),
    }


def _torchrun(plan: JobPlan) -> tuple[str, ...]:
    return (
        "torchrun",
        f"--nnodes={plan.nodes.count}",
        f"--nproc-per-node={plan.nodes.gpus or 1}",
        f"--node-rank=$({_RANK})",
        f"--master-addr={_meeting_point(plan)}",
        f"--master-port={MASTER_PORT}",
        *(() if plan.command[0].endswith(".py") else ("--no-python",)),
    )


def _meeting_point(plan: JobPlan) -> str:
    """The first pod, by the Service's name for it."""
    return f"{plan.name}-0.{plan.name}"


def _literal(text: str) -> str:
    """As the script gets it: in a cluster ``$(NAME)`` stands for a variable."""
    return text.replace("$(", "$$(")


def _variables(plan: JobPlan) -> list[dict[str, Any]]:
    data = plan.volumes[0].target if plan.volumes else ""
    ours = {
        "RUNCTL_RUN_ID": plan.name,
        "RUNCTL_CHECKPOINT_DIR": f"{plan.folder}/checkpoints",
        "RUNCTL_OUTPUT_DIR": f"{plan.folder}/output",
        "RUNCTL_DATA_DIR": data,
        # Else a log comes late, and its end is lost with the pod.
        **({} if "PYTHONUNBUFFERED" in {*plan.env, *plan.secret_env} else {"PYTHONUNBUFFERED": "1"}),
    }
    found: list[dict[str, Any]] = [
        {"name": name, "value": _literal(value)} for name, value in (*ours.items(), *sorted(plan.env.items()))
    ]
    found += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": plan.secret, "key": name}}}
        for name in sorted(plan.secret_env)
    ]
    if plan.nodes.count > 1:
        found += _rank_variables(plan)
    return found


def _rank_variables(plan: JobPlan) -> list[dict[str, Any]]:
    """As `runctl.agent.engines` has them; torchrun sets the others itself."""
    count = plan.nodes.count
    ranks, values = (
        [_RANK],
        {
            "RUNCTL_NODES": str(count),
            "RUNCTL_NODE_ADDRESSES": ",".join(f"{plan.name}-{rank}.{plan.name}" for rank in range(count)),
            "MASTER_ADDR": _meeting_point(plan),
            "MASTER_PORT": str(MASTER_PORT),
        },
    )
    if not plan.torchrun:
        ranks += ["NODE_RANK", "GROUP_RANK", "RANK"]
        values |= {"WORLD_SIZE": str(count), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    return [
        *(_rank_as(name) for name in ranks),
        *({"name": name, "value": value} for name, value in values.items()),
    ]


def _rank_as(name: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": _INDEX}}}


def _mounts(plan: JobPlan) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "start", "mountPath": START_FOLDER, "readOnly": True},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 (where it is)
    ]
    if plan.saves_to is None:
        found.append({"name": _EPHEMERAL, "mountPath": plan.folder})
    for volume in plan.volumes:
        read_only = {"readOnly": True} if volume.read_only else {}
        found.append({"name": volume.resource, "mountPath": volume.target, **read_only})
    return found


def _volumes(plan: JobPlan) -> list[dict[str, Any]]:
    size = {"sizeLimit": f"{plan.shm_mib}Mi"} if plan.shm_mib else {}
    found: list[dict[str, Any]] = [
        {"name": "start", "configMap": {"name": f"{plan.name}-start"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", **size}},
    ]
    if plan.saves_to is None:
        found.append({"name": _EPHEMERAL, "emptyDir": {}})
    for volume in plan.volumes:
        found.append({"name": volume.resource, "persistentVolumeClaim": {"claimName": volume.resource}})
    return found


def _carrier(plan: JobPlan, what: str) -> dict[str, Any]:
    assert plan.store is not None  # noqa: S101 - asked only where there is one
    folder = f"{plan.folder}/checkpoints"
    saves_to = plan.saves_to.resource if plan.saves_to else _EPHEMERAL
    mounts = [mount for mount in _mounts(plan) if mount["name"] in {"start", saves_to}]
    program = f"{START_FOLDER}/{_CARRY}"
    address = f"{plan.store.url}/{plan.name}/checkpoints"
    # One that goes on beside the script ends after it, with a grace of its own.
    extra: Mapping[str, Any] = {"restartPolicy": "Always"} if what == "publish" else {}
    return {
        "name": f"{what}-checkpoints",
        "image": plan.store.carrier.image,
        **extra,
        "command": ["/bin/sh", program, what, _literal(address), folder, str(plan.store.every_seconds)],
        **({"env": [_rank_as(_RANK)]} if plan.nodes.count > 1 else {}),
        "securityContext": {"allowPrivilegeEscalation": False},
        "volumeMounts": mounts,
    }
