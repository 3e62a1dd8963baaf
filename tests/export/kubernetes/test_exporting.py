"""What ``train`` would be asked, as a Job: decisions, and what is refused before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runctl.checkpoints.keeping import Keeping
from runctl.containers.container_options import ContainerOptions
from runctl.containers.image_plan import BuildOptions
from runctl.containers.mounts import CONFIG, VOLUME_FLAG, MountRequest, parse_mount
from runctl.core.config import Config
from runctl.core.errors import RunctlError
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Market, VolumeState
from runctl.export.kubernetes.exporting import JobRequest, KubernetesExport
from runctl.export.kubernetes.image import ImageReference, check_code
from runctl.export.kubernetes.plan import JobPlan
from runctl.machines.nodes import Engine
from runctl.machines.session import Session
from runctl.providers.abilities.kubernetes import CheckpointCarrier, Kubernetes, NodeTypes
from runctl.providers.capacity import Needs
from runctl.runs.recovery import Recovery, RecoveryRules
from runctl.runs.train.project_plan import TrainRequest
from tests.cli.fake_provider import FakeProvider, Script, a_volume

DATASETS = MountRequest("datasets", "", False, VOLUME_FLAG)
Export = Callable[..., KubernetesExport]


class Cluster(Kubernetes):
    volume_driver = "disks.example"
    spot_labels = (("example/spot", "yes"),)
    pod_annotations = ()
    carrier = CheckpointCarrier("client:1", "exit")

    def types_with(self, needs: Needs, market: Market) -> NodeTypes:
        assert (needs.cpus, needs.memory_gib) == (None, None)
        return NodeTypes(("large", "larger"), 8)

    def types_named(self, names: Sequence[str]) -> NodeTypes:
        return NodeTypes(tuple(names), 4)


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """An export of ``train.py`` in the project digits, with changes to what is asked for."""
    root = tmp_path / "digits"
    (root / ".git").mkdir(parents=True)
    (root / "train.py").write_text("")
    monkeypatch.chdir(root)

    def make(job: JobRequest | None = None, volumes: Sequence[Any] = (), **changes: Any) -> KubernetesExport:
        by_name = {volume.name: volume for volume in volumes}
        provider = FakeProvider(Script({"volume": by_name.__getitem__}))
        provider.kubernetes = Cluster()
        session = Session(config=Config())
        monkeypatch.setattr(session, "provider", lambda _: provider)
        values: dict[str, Any] = {"script": Path("train.py"), "image": "digits@sha256:" + "0" * 64, **changes}
        return KubernetesExport(session, "fake", TrainRequest(**values), job or JobRequest())

    return make


def planned(export: KubernetesExport) -> JobPlan:
    return export.plan(export.named_image())


def test_a_script_of_python_runs_as_it_would_elsewhere(export: Export) -> None:
    plan = planned(export(args=("--lr", "1e-4"), timeout=timedelta(hours=2), name=None))

    assert plan.command == ("python3", "-u", "train.py", "--lr", "1e-4")
    assert (plan.image, plan.image_notes) == ("digits@sha256:" + "0" * 64, ())
    assert (plan.attempts, plan.workdir, plan.store, plan.volumes) == (1, None, None, ())
    assert plan.name.startswith("digits-train-")
    assert plan == planned(export(args=("--lr", "1e-4"), timeout=timedelta(hours=2)))


def test_an_image_that_a_tag_names_is_told_of(export: Export) -> None:
    assert "tag" in planned(export(image="digits:1")).image_notes[0]


def test_several_nodes_run_a_script_of_python_by_torchrun_and_a_command_as_it_is(export: Export) -> None:
    job = JobRequest(nodes=2, market=Market.SPOT)

    script = planned(export(job))
    command = planned(export(job, script=None, is_command=True, args=("python", "-m", "digits")))
    by_itself = planned(export(replace(job, engine=Engine.NONE)))

    assert (script.command, script.torchrun, script.attempts) == (("train.py",), True, 1)
    assert (command.command, command.torchrun) == (("python", "-m", "digits"), False)
    assert (by_itself.command, by_itself.torchrun) == (("python3", "-u", "train.py"), False)
    assert script.nodes.spot_labels == (("example/spot", "yes"),)


@pytest.mark.parametrize(
    ("nodes", "recovery", "attempts"),
    [
        (1, Recovery(), 1),
        (1, Recovery(True), 20),
        (2, Recovery(), 1),
        (2, Recovery(True), 3),
        (1, Recovery(True, RecoveryRules(5, 60)), 5),
    ],
)
def test_further_attempts_are_those_that_runctl_would_start(
    export: Export, nodes: int, recovery: Recovery, attempts: int
) -> None:
    # On spot, too: whether it is usual there has been settled before.
    job = JobRequest(market=Market.SPOT, nodes=nodes)
    assert planned(export(job, recovery=recovery)).attempts == attempts


@pytest.mark.parametrize(
    ("job", "container", "types", "gpus"),
    [
        (JobRequest(), ContainerOptions(), (), 0),
        (JobRequest(needs=Needs(cpus=8, memory_gib=32)), ContainerOptions(), (), 0),
        (
            JobRequest(needs=Needs(gpu="A100", gpu_count=2, cpus=8)),
            ContainerOptions(),
            ("large", "larger"),
            2,
        ),
        (JobRequest(instance_types=("p4d",)), ContainerOptions(), ("p4d",), 4),
        (JobRequest(instance_types=("p4d",)), ContainerOptions(gpus="none"), ("p4d",), 0),
        (JobRequest(), ContainerOptions(gpus="3"), (), 3),
    ],
)
def test_nodes_have_what_is_asked_for(
    export: Export, job: JobRequest, container: ContainerOptions, types: tuple[str, ...], gpus: int
) -> None:
    nodes = planned(export(job, container=container)).nodes

    assert (nodes.types, nodes.gpus) == (types, gpus)
    assert (nodes.cpus, nodes.memory_gib) == (job.needs.cpus, job.needs.memory_gib)


def test_what_looks_secret_is_in_a_secret_and_what_cannot_be_is_not(export: Export) -> None:
    env = {"WANDB_API_KEY": "abc", "MAX_TOKENS": "4096", "URL": "https://me:word@example.com", "LR": "1e-4"}

    plan = planned(export(env=env))

    assert plan.env == {"MAX_TOKENS": "4096", "LR": "1e-4"}
    assert (plan.secret_env, plan.secret) == (("URL", "WANDB_API_KEY"), "digits-env")


def test_a_volume_is_where_train_would_show_it(export: Export) -> None:
    plan = planned(
        export(volumes=[a_volume(), a_volume(name="out")], mounts=(DATASETS, parse_mount("out:/out:ro")))
    )

    shown = [(each.target, each.read_only, each.name, each.driver) for each in plan.volumes]
    assert shown == [
        ("/out", True, "out", "disks.example"),
        ("/mnt/datasets", False, "datasets", "disks.example"),
    ]


def test_a_volume_is_attached_by_the_clusters_own_driver(export: Export) -> None:
    job = JobRequest(csi_driver="other.example", fstype="xfs")

    (volume,) = planned(export(job, volumes=[a_volume()], mounts=(DATASETS,))).volumes

    assert (volume.driver, volume.fstype) == ("other.example", "xfs")


def test_what_the_configuration_has_and_a_pod_cannot_is_said(export: Export) -> None:
    mount = replace(parse_mount("/mnt/data:/data"), origin=CONFIG)

    plan = planned(
        export(configured_mounts=(mount,), keeping=Keeping(s3="s3://mine/runs", keep_last=3, every="10m"))
    )

    assert plan.volumes == ()
    assert plan.store is not None
    assert (plan.store.url, plan.store.carrier.image) == ("s3://mine/runs", "client:1")
    said = " ".join(plan.left_out)
    assert all(
        each in said for each in ("/mnt/data:/data", "nobody prunes", "every 10m", "--service-account")
    )


@pytest.mark.parametrize(
    ("job", "changes", "code"),
    [
        (JobRequest(), {"image": None}, "no-container"),
        (JobRequest(nodes=2, engine=Engine.RAY), {}, "not-carried-over"),
        (JobRequest(name="Digits"), {}, "bad-name"),
        (JobRequest(name="a" * 53), {}, "bad-name"),
        (JobRequest(namespace="a_b"), {}, "bad-name"),
        (JobRequest(), {"mounts": (parse_mount("/mnt/data:/data"),)}, "bad-mount"),
        (JobRequest(nodes=2), {"mounts": (DATASETS,)}, "volume-of-several"),
        (JobRequest(), {"args": ("hf_" + "a" * 30,)}, "secret-argument"),
        (JobRequest(), {"container": ContainerOptions(user="ada")}, "bad-user"),
        (JobRequest(), {"script": None, "is_command": True}, "no-command"),
        (JobRequest(instance_types=("p4d",), needs=Needs(gpu="A100")), {}, "usage"),
        (JobRequest(), {"keeping": Keeping(s3="s3://mine/runs", endpoint="https://minio.example")}, "usage"),
        (JobRequest(build=BuildOptions(target="train")), {}, "usage"),
        (JobRequest(fstype="xfs"), {}, "usage"),
        (JobRequest(csi_driver="other.example"), {}, "usage"),
        (JobRequest(secret="mine"), {"env": {"LR": "1e-4"}}, "usage"),
        (JobRequest(), {"resume_args": ("--resume", "{checkpoint}")}, "usage"),
        (JobRequest(needs=Needs(gpu="T4", gpu_count=1)), {"container": ContainerOptions(gpus="9")}, "usage"),
        (JobRequest(instance_types=("p4d",)), {"container": ContainerOptions(gpus="5")}, "usage"),
    ],
)
def test_what_cannot_be_is_refused(
    export: Export, job: JobRequest, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(RunctlError) as caught:
        planned(export(job, **changes))

    assert (caught.value.code, bool(caught.value.hint)) == (code, True)


@pytest.mark.parametrize(
    ("second", "code"),
    [({"zone": "us-east-1b"}, "zone-mismatch"), ({"state": VolumeState.DELETING}, "bad-volume")],
)
def test_volumes_that_a_pod_cannot_have_are_refused(
    export: Export, second: dict[str, Any], code: str
) -> None:
    other = a_volume(
        **{
            "name": "other",
            "id": VolumeId("vol-0123456789abcdef1"),
            "attached_to": InstanceId("i-1"),
            **second,
        }
    )
    mounts = (parse_mount("datasets:/data"), parse_mount("other:/other"))

    with pytest.raises(RunctlError) as caught:
        planned(export(volumes=[a_volume(), other], mounts=mounts))

    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "has_folder"),
    [
        ("FROM python\nWORKDIR /app\nCOPY . .\n", True),
        ("FROM python\nCOPY . /workspace\n", False),
        ("FROM python AS base\nWORKDIR /app\nFROM base\nCOPY train.py .\n", True),
        ("FROM python\nCOPY requirements.txt .\n", None),
    ],
)
def test_an_image_must_bring_the_script(tmp_path: Path, text: str, has_folder: bool | None) -> None:
    (tmp_path / "Dockerfile").write_text(text)

    if has_folder is None:
        with pytest.raises(RunctlError) as caught:
            check_code(tmp_path, "Dockerfile", None, "train.py")
        assert caught.value.code == "no-code"
    else:
        assert check_code(tmp_path, "Dockerfile", None, "train.py") is has_folder


def test_a_project_that_brings_no_working_folder_is_at_the_configured_one(export: Export) -> None:
    Path("Dockerfile").write_text("FROM python\nCOPY . /workspace\n")
    found = export(image=None)

    assert found.plan(ImageReference("digits@sha256:1")).workdir == "/workspace"
    assert found.image is not None
