"""Planned runs to write manifests of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from runctl.export.kubernetes.plan import JobPlan, Nodes, Store, VolumeClaim
from runctl.providers.aws.kubernetes import AwsKubernetes

IMAGE = "1.dkr.ecr.us-east-1.amazonaws.com/digits@sha256:" + "ab" * 32
DATASETS = VolumeClaim(
    "vol-0123456789abcdef0", "datasets", 100, "us-east-1a", "/data", False, AwsKubernetes.volume_driver
)
STORE = Store("s3://mine/runs", AwsKubernetes.carrier, 60)
PLAIN = JobPlan(
    name="digits-train",
    namespace=None,
    project="digits",
    image=IMAGE,
    image_notes=(),
    command=("python3", "-u", "train.py"),
    torchrun=False,
    resume_args=(),
    env={},
    secret_env=(),
    secret="digits-env",
    volumes=(),
    nodes=Nodes(),
    workdir=None,
    user=None,
    shm_mib=None,
    timeout=None,
    grace=timedelta(seconds=30),
    attempts=1,
    store=None,
    service_account=None,
)
SPOT = replace(
    PLAIN,
    namespace="training",
    command=(*PLAIN.command, "--lr", "1e-4", "$(HOME)"),
    resume_args=("--resume", "{checkpoint}"),
    env={"LR": "1e-4", "DEBUG": "no"},
    secret_env=("WANDB_API_KEY",),
    volumes=(
        DATASETS,
        replace(DATASETS, volume_id="vol-0123456789abcdef1", name=None, target="/in", read_only=True),
    ),
    nodes=Nodes(
        types=("p4d.24xlarge", "p4de.24xlarge"),
        spot_labels=AwsKubernetes.spot_labels,
        architecture="x86_64",
        gpus=1,
        cpus=8,
        memory_gib=64,
        annotations=AwsKubernetes.pod_annotations,
    ),
    workdir="/workspace",
    user=(1000, None),
    shm_mib=8192,
    timeout=timedelta(hours=12),
    attempts=20,
    service_account="trainer",
)
STORED = replace(PLAIN, store=STORE, attempts=20, left_out=("All checkpoints stay in the store.",))
SEVERAL = replace(
    PLAIN,
    command=("train.py", "--epochs", "5"),
    torchrun=True,
    nodes=Nodes(count=4, gpus=8, types=("p4d.24xlarge",)),
    store=STORE,
    attempts=3,
)
PLANS: dict[str, JobPlan] = {"plain": PLAIN, "spot": SPOT, "stored": STORED, "several": SEVERAL}


def changed(**changes: Any) -> JobPlan:
    """The plain one, with changes."""
    return replace(PLAIN, **changes)
