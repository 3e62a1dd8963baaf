"""Containers as command lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.containers.container_plan import (
    Plan,
    command,
    create,
    entrypoint,
    entrypoint_and_arguments,
    environment,
    init_failed,
    kept_entrypoint,
    mount,
    shm_mib,
)
from runctl.agent.disks.run_folders import run_folders
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import ContainerSpec, MountSpec, RunSpec
from runctl.agent.supervising.start import systemd_command


def plan(spec: RunSpec, **more: object) -> Plan:
    folder = AttemptFolder(Path("/state/runs/r/1"))
    values: dict[str, object] = {
        "spec": spec,
        "image": "img",
        "container": spec.container,
        "run_folders": run_folders(spec, folder),
        "folder": folder,
        "mount_code": False,
        "entrypoint": None,
        "user": "1000:1000",
        "user_name": "ubuntu",
        "gpus": "",
        "shm_mib": 64,
        **more,
    }
    return Plan(**values)  # type: ignore[arg-type]


def spec(**more: object) -> RunSpec:
    return RunSpec("r", "training/train.py", args=("a b",), container=ContainerSpec(image="img"), **more)  # type: ignore[arg-type]


def test_values_of_variables_are_on_no_command_line() -> None:
    item = plan(spec(env={"TOKEN": "secret"}))
    text = create(item, sorted(environment(item)))
    assert "TOKEN" in text
    assert not any("secret" in word for word in text)


def test_gpus_are_asked_for_only_where_there_are_some() -> None:
    assert "--gpus" not in create(plan(spec()), [])
    text = create(plan(spec(), gpus="2"), [])
    assert text[text.index("--gpus") + 1] == "2"


def test_it_runs_as_the_login_user_without_privileges() -> None:
    text = create(plan(spec()), [])
    assert text[text.index("--user") + 1] == "1000:1000"
    assert "--privileged" not in text
    assert "--cap-add" not in text


def test_the_scripts_folder_and_arguments_are_kept() -> None:
    text = create(plan(spec()), [])
    assert text[text.index("--entrypoint") :] == [
        "--entrypoint",
        "python3",
        "img",
        "-u",
        "training/train.py",
        "a b",
    ]


def test_a_wrapping_entry_point_gets_the_whole_command() -> None:
    text = create(plan(spec(), entrypoint=["/entry.sh"]), [])
    assert "--entrypoint" not in text
    assert text[-5:] == ["img", "python3", "-u", "training/train.py", "a b"]


def test_checkpoints_go_to_the_first_writable_volume_where_the_script_sees_it() -> None:
    mounts = (
        MountSpec("/mnt/ro", "/ro", read_only=True, volume_id="vol-1"),
        MountSpec("/mnt/data", "/data", volume_id="vol-2"),
    )
    item = plan(spec(mounts=mounts))
    assert str(item.run_folders.checkpoints) == "/mnt/data/runs/r/checkpoints"
    env = environment(item)
    assert (env["RUNCTL_CHECKPOINT_DIR"], env["RUNCTL_DATA_DIR"]) == ("/data/runs/r/checkpoints", "/ro")
    binds = [word for word in create(item, []) if word.startswith("type=bind")]
    assert "type=bind,source=/mnt/ro,target=/ro,readonly" in binds
    assert not any("target=/runctl/checkpoints" in word for word in binds)


@pytest.mark.parametrize(
    ("image_has", "kept"),
    [
        (None, None),
        ([], None),
        (["python", "serve.py"], None),
        (["/opt/nvidia/nvidia_entrypoint.sh"], ["/opt/nvidia/nvidia_entrypoint.sh"]),
        (["/usr/bin/tini", "--"], ["/usr/bin/tini", "--"]),
        (["/bin/sh", "-c", "python serve.py"], None),
        (["/bin/bash", "/entry.sh"], ["/bin/bash", "/entry.sh"]),
        (["tini", "--", "python", "serve.py"], None),
        (["python3"], None),
    ],
)
def test_an_entry_point_is_kept_only_if_it_runs_its_arguments(
    image_has: list[str] | None, kept: list[str] | None
) -> None:
    assert entrypoint(image_has) == kept


def test_a_path_with_a_comma_is_one_field() -> None:
    assert mount("/a,b", "/c")[1] == 'type=bind,"source=/a,b",target=/c'


def test_shared_memory_is_a_quarter_and_never_less_than_the_engines_own() -> None:
    assert shm_mib(16 << 30) == 4096
    assert shm_mib(100 << 20) == 64


def test_scripts_run_by_their_kind() -> None:
    container = ContainerSpec(image="x")
    assert command(RunSpec("r", "go.sh", container=container), "python3") == ["sh", "go.sh"]
    assert command(RunSpec("r", "bin/tool", container=container), "python3") == ["bin/tool"]


def in_container(*, is_command: bool = False, args: tuple[str, ...] = (), **options: object) -> RunSpec:
    container = ContainerSpec(image="img", **options)  # type: ignore[arg-type]
    return RunSpec(
        "r", "python" if is_command else "t.py", args=args, is_command=is_command, container=container
    )


@pytest.mark.parametrize(
    ("item", "image_has", "start", "run"),
    [
        (in_container(), ["/entry.sh"], [], ["python3", "-u", "t.py"]),
        (in_container(), ["serve"], ["--entrypoint", "python3"], ["-u", "t.py"]),
        (in_container(entrypoint=()), ["/entry.sh"], ["--entrypoint", "python3"], ["-u", "t.py"]),
        (
            in_container(entrypoint=("my", "-x")),
            ["/entry.sh"],
            ["--entrypoint", "my"],
            ["-x", "python3", "-u", "t.py"],
        ),
        (in_container(is_command=True, args=("-c", "1")), ["serve"], [], ["python", "-c", "1"]),
        (in_container(is_command=True, args=("-c", "1")), None, ["--entrypoint", "python"], ["-c", "1"]),
        (in_container(is_command=True, entrypoint=()), ["serve"], ["--entrypoint", "python"], []),
        (RunSpec("r", "", is_command=True, container=ContainerSpec(image="img")), ["serve"], [], []),
        (RunSpec("r", "", is_command=True, container=ContainerSpec(image="img")), None, [], []),
    ],
)
def test_a_script_goes_through_a_wrapper_and_a_command_through_any_entry_point(
    item: RunSpec, image_has: list[str] | None, start: list[str], run: list[str]
) -> None:
    assert item.container is not None
    kept = kept_entrypoint(item.container, image_has, is_command=item.is_command)
    assert entrypoint_and_arguments(plan(item, entrypoint=kept)) == (start, run)


def test_options_of_dockers_own_stand_before_the_image() -> None:
    item = in_container(docker_args=("--network=host", "-v/a:/b"))
    text = create(plan(item), ["A"])
    assert text.index("--network=host") < text.index("img")
    assert text.index("-v/a:/b") < text.index("img")


def test_the_images_own_user_is_left_alone() -> None:
    assert "--user" not in create(plan(in_container(), user=""), [])


def test_the_inits_complaint_is_told_from_a_scripts_own_exit_code() -> None:
    said = b"[FATAL tini (7)] exec python9 failed: No such file or directory\n"
    assert init_failed(127, said) == "exec python9 failed: No such file or directory"
    assert init_failed(1, said) is None
    assert init_failed(127, b"python: not found\n") is None


def test_the_supervisor_is_a_unit_of_its_own_that_outlives_an_out_of_memory_kill() -> None:
    text = systemd_command(
        RunSpec("r", "train.py", grace_seconds=60), False, ["python3", "a.pyz"], {"A": "b"}, 1000, 1000
    )
    assert "--property=OOMPolicy=continue" in text
    assert "--property=KillMode=mixed" in text
    assert "--property=TimeoutStopSec=90" in text
    assert text[text.index("--") + 1 :] == ["python3", "a.pyz", "supervise", "--foreground", "r", "1"]


def test_where_a_run_has_a_store_its_unit_has_time_to_publish_after_the_grace() -> None:
    spec = RunSpec("r", "train.py", grace_seconds=60, store=StoreSpec("s3://bucket/runs"))
    text = systemd_command(spec, False, ["python3", "a.pyz"], {}, 1000, 1000)
    assert "--property=TimeoutStopSec=162" in text


def test_a_supervisor_that_must_mount_starts_as_root() -> None:
    text = systemd_command(RunSpec("r", "train.py"), True, ["python3", "a.pyz"], {}, 1000, 1000)
    assert not any(word.startswith("--uid") for word in text)
    assert "--namespace" in text
