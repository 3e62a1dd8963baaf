"""What a cluster refuses and no schema says: each rule is a sentence of what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ENUMS = {
    "action": {"FailJob", "Ignore", "Count", "FailIndex"},
    "completionMode": {"Indexed", "NonIndexed"},
    "podReplacementPolicy": {"Failed", "TerminatingOrFailed"},
    "persistentVolumeReclaimPolicy": {"Retain", "Delete", "Recycle"},
    "volumeMode": {"Filesystem", "Block"},
    "effect": {"NoSchedule", "NoExecute", "PreferNoSchedule"},
    "operator": {"In", "NotIn", "Exists", "DoesNotExist", "Equal", "Gt", "Lt"},
    "medium": {"", "Memory", "HugePages"},
    "fsGroupChangePolicy": {"OnRootMismatch", "Always"},
    "protocol": {"TCP", "UDP", "SCTP"},
}


def problems(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """All that is wrong with these documents, which belong together."""
    return [
        *(problem for document in documents for problem in _of_any(document)),
        *(problem for document in documents for problem in _enums(document)),
        *_of_the_whole(documents),
    ]


def _of_any(document: Mapping[str, Any]) -> Iterator[str]:
    kind, metadata = document["kind"], document["metadata"]
    name = metadata["name"]
    pattern = {"Job": LABEL, "Service": SERVICE}.get(kind, SUBDOMAIN)
    longest = {"Job": 63, "Service": 63}.get(kind, 253)
    if not pattern.fullmatch(name) or len(name) > longest:
        yield f"{kind} {name}: not a name"
    for key, value in metadata.get("labels", {}).items():
        if not LABEL_VALUE.fullmatch(value) or len(value) > 63:
            yield f"{kind} {name}: label {key}={value}"
    if kind == "PersistentVolume" and "namespace" in metadata:
        yield f"{kind} {name}: has no namespace"


def _enums(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in ENUMS and isinstance(inner, str) and inner not in ENUMS[key]:
                yield f"{key}: {inner}"
            yield from _enums(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _enums(inner)


def _of_the_whole(documents: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for document in documents:
        by_kind.setdefault(document["kind"], []).append(document)
    names = {kind: {each["metadata"]["name"] for each in found} for kind, found in by_kind.items()}
    (job,) = by_kind["Job"]
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    containers = [*pod["containers"], *pod.get("initContainers", [])]
    if pod["restartPolicy"] not in {"Never", "OnFailure"}:
        yield "restartPolicy"
    if "podFailurePolicy" in spec:
        if pod["restartPolicy"] != "Never":
            yield "podFailurePolicy needs restartPolicy Never"
        if spec.get("podReplacementPolicy") != "Failed":
            yield "podFailurePolicy needs podReplacementPolicy Failed"
        known = {each["name"] for each in containers}
        for rule in spec["podFailurePolicy"]["rules"]:
            codes = rule.get("onExitCodes")
            if ("onExitCodes" in rule) == ("onPodConditions" in rule):
                yield "a rule has exit codes or conditions"
            if codes and codes["containerName"] not in known:
                yield f"no container {codes['containerName']}"
            if codes and codes["operator"] == "In" and 0 in codes["values"]:
                yield "0 is not a failure"
            if codes and len(set(codes["values"])) != len(codes["values"]):
                yield "exit codes twice"
    if spec.get("activeDeadlineSeconds", 1) < 1:
        yield "activeDeadlineSeconds"
    if spec.get("completionMode") == "Indexed":
        if spec["completions"] != spec["parallelism"]:
            yield "all nodes at once"
        longest = f"{job['metadata']['name']}-{spec['completions'] - 1}"
        if len(longest) > 63:
            yield f"{longest}: not the name of a host"
        (service,) = by_kind["Service"]
        if service["metadata"]["name"] != pod["subdomain"]:
            yield "subdomain without a Service"
        if service["spec"]["selector"] != {"batch.kubernetes.io/job-name": job["metadata"]["name"]}:
            yield "the Service selects other pods"
    if len(f"{job['metadata']['name']}-xxxxx") > 63:
        yield "names of pods"
    volumes = {each["name"]: each for each in pod["volumes"]}
    if len(volumes) != len(pod["volumes"]):
        yield "volumes twice"
    for name, volume in volumes.items():
        if not LABEL.fullmatch(name) or len(name) > 63:
            yield f"volume {name}: not a name"
        if "configMap" in volume and volume["configMap"]["name"] not in names["ConfigMap"]:
            yield f"no ConfigMap {volume['configMap']['name']}"
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim is not None and claim not in names.get("PersistentVolumeClaim", ()):
            yield f"no claim {claim}"
    for container in containers:
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        if len(set(paths)) != len(paths):
            yield f"{container['name']}: two mounts at one path"
        for mount in container["volumeMounts"]:
            if (
                mount["name"] not in volumes
                or not mount["mountPath"].startswith("/")
                or ":" in mount["mountPath"]
            ):
                yield f"{container['name']}: mount {mount}"
        variables = [each["name"] for each in container.get("env", [])]
        if len(set(variables)) != len(variables):
            yield f"{container['name']}: variables twice"
        yield from (f"variable {each}" for each in variables if not VARIABLE.fullmatch(each))
        if not all(isinstance(each, str) for each in container["command"]):
            yield f"{container['name']}: its command has something else than text"
    for claim in by_kind.get("PersistentVolumeClaim", ()):
        if claim["spec"]["volumeName"] not in names["PersistentVolume"]:
            yield "a claim without a volume"
        if claim["spec"].get("storageClassName") != "":
            yield "a claim that the default class would fill"
    programs = sum(len(text) for each in by_kind["ConfigMap"] for text in each["data"].values())
    if programs > 1 << 20:
        yield "a ConfigMap has at most 1 MiB"
