"""SageMaker's contract: what a script finds, and that the package which runs scripts there gives the same."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from runctl.agent import sagemaker
from runctl.agent.disks.run_folders import run_folders
from runctl.agent.end_reason import EndReason
from runctl.agent.records import AttemptFolder
from runctl.agent.sagemaker import Facts
from runctl.agent.spec import ContainerSpec, MountSpec, RunSpec
from tests.package_environments import environment_with

PACKAGE = "sagemaker-training==5.1.4"
FACTS = Facts("algo-1", "ml.g5.xlarge", "us-east-1", 4, 1, "/workspace")
TRAINING = MountSpec("/mnt/datasets", "/opt/ml/input/data/training", volume_id="vol-0123456789abcdef0")
SPEC = RunSpec("run-1234567890", "train.py", contract="sagemaker")


@pytest.fixture
def folder(tmp_path: Path) -> AttemptFolder:
    found = AttemptFolder(tmp_path / "runs" / SPEC.run_id / "1")
    found.path.mkdir(parents=True)
    return found


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], {}),
        (["--epochs", "5", "--lr=1e-4", "-v", "2"], {"epochs": "5", "lr": "1e-4", "v": "2"}),
        (
            ["--flag", "--shift", "-0.5", "--low=-1", "--empty="],
            {"flag": "", "shift": "-0.5", "low": "-1", "empty": ""},
        ),
        (["data", "--a", "1", "extra", "--a", "2", "--", "-"], {"a": "2"}),
    ],
)
def test_hyperparameters_are_the_options_of_a_command_line(args: list[str], expected: dict[str, str]) -> None:
    assert sagemaker.hyperparameters(args) == expected


def test_folders_are_added_before_the_runs_own_mounts_and_its_data_stay_its_data(
    folder: AttemptFolder,
) -> None:
    plain = replace(SPEC, contract=None, mounts=(TRAINING,))
    shown = sagemaker.with_mounts(replace(SPEC, mounts=(TRAINING,)), folder)

    assert sagemaker.with_mounts(plain, folder) is plain
    assert [mount.target for mount in shown.mounts] == [
        *(f"/opt/ml/{name}" for name in ("input", "model", "output", "checkpoints")),
        TRAINING.target,
    ]
    # They are where the run's own are: on the volume.
    own = run_folders(replace(SPEC, mounts=(TRAINING,)), folder)
    assert shown.mounts[3].source == str(own.checkpoints)
    assert shown.mounts[3].source.startswith("/mnt/datasets/runs/")
    assert run_folders(shown, folder).checkpoints == own.checkpoints
    assert shown.data_target == TRAINING.target
    assert sagemaker.with_mounts(SPEC, folder).data_target == "/opt/ml/input/data"


def test_another_user_of_a_container_can_write(folder: AttemptFolder) -> None:
    sagemaker.make_folders(replace(SPEC, container=ContainerSpec(image="digits", user="1234")), folder)

    model = folder.path.parent / "output" / "model"
    assert model.stat().st_mode & 0o777 == 0o777
    assert (folder.path / "ml" / "input" / "data").is_dir()


def test_the_configuration_is_what_sagemaker_writes(folder: AttemptFolder) -> None:
    spec = replace(SPEC, args=("--lr", "1e-4", "--opt", "adam"), mounts=(TRAINING,))
    sagemaker.make_folders(replace(spec, mounts=()), folder)

    sagemaker.write_configuration(spec, folder, FACTS)

    config = folder.path / "ml" / "input" / "config"
    found = {path.stem: json.loads(path.read_text()) for path in config.iterdir()}
    assert found["hyperparameters"] == {
        "lr": "1e-4",
        "opt": "adam",
        "sagemaker_program": '"train.py"',
        "sagemaker_submit_directory": '"/workspace"',
        "sagemaker_container_log_level": "20",
        "sagemaker_job_name": '"run-1234567890"',
        "sagemaker_region": '"us-east-1"',
    }
    assert found["inputdataconfig"]["training"]["TrainingInputMode"] == "File"
    assert found["resourceconfig"]["current_instance_type"] == "ml.g5.xlarge"


@pytest.mark.parametrize(
    ("reason", "left"),
    [
        (EndReason.COMPLETED, {"success": ""}),
        (EndReason.FAILED, {"failure": "m" * 1024}),
        (EndReason.OUT_OF_MEMORY, {"failure": "m" * 1024}),
        (EndReason.STOPPED, {}),
        (EndReason.INTERRUPTED, {}),
    ],
)
def test_a_file_says_how_the_run_ended(
    folder: AttemptFolder, reason: EndReason, left: dict[str, str]
) -> None:
    folders = run_folders(SPEC, folder)
    folders.output.mkdir(parents=True)

    sagemaker.report(folders, reason, "m" * 2000)

    assert {path.name: path.read_text() for path in folders.output.iterdir()} == left


def test_what_the_script_says_of_its_failure_stays(folder: AttemptFolder) -> None:
    folders = run_folders(SPEC, folder)
    folders.output.mkdir(parents=True)
    (folders.output / "failure").write_text("no data")

    sagemaker.report(folders, EndReason.FAILED, "the script failed with exit code 1")

    assert (folders.output / "failure").read_text() == "no data"


@pytest.fixture(scope="session")
def program() -> Path:
    """``train`` of the package."""
    return environment_with([PACKAGE]) / "bin/train"


SCRIPT = """\
import json, os, pathlib, sys
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "env.json").write_text(json.dumps([dict(os.environ), sys.argv[1:]]))
sys.exit(int(json.loads(os.environ["SM_HPS"])["exit-code"]))
"""


@pytest.mark.slow
@pytest.mark.timeout(func_only=True)
@pytest.mark.parametrize("code", [0, 3])
def test_the_package_that_runs_scripts_there_gives_the_same(
    program: Path, folder: AttemptFolder, tmp_path: Path, code: int
) -> None:
    base = tmp_path / "base"
    # The order of names in which the package passes them on.
    args = ("--exit-code", str(code), "--lr", "0.1", "--name", "adam", "--steps", "5")
    spec = replace(SPEC, args=args, mounts=(TRAINING,))
    facts = Facts(
        socket.gethostname(), "ml.g5.xlarge", "us-east-1", os.cpu_count() or 1, 0, str(base / "code")
    )
    sagemaker.make_folders(replace(spec, mounts=()), folder)
    sagemaker.write_configuration(spec, folder, facts)
    for name in ("code", "model", "output/data"):
        (base / name).mkdir(parents=True)
    (base / "input").symlink_to(folder.path / "ml" / "input")
    (base / "code" / "train.py").write_text(SCRIPT)
    kept = {
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TRAINING_JOB_NAME": spec.run_id,
    }

    done = subprocess.run(
        [program], env={**kept, "SAGEMAKER_BASE_DIR": str(base)}, capture_output=True, text=True, check=False
    )

    text = (base / "output" / "data" / "env.json").read_text()
    theirs, argv = json.loads(text.replace(str(base), "/opt/ml"))
    ours = {
        name: value.replace(str(base), "/opt/ml") for name, value in sagemaker.variables(spec, facts).items()
    }
    assert {name: theirs.get(name) for name in ours} == ours, done.stderr
    assert {name for name in theirs if name.startswith("SM_")} == {
        name for name in ours if name.startswith("SM_")
    }
    assert argv == list(args)
    # It tells the service 1, whatever the script ended with.
    assert bool(done.returncode) == bool(code)
    left = {path.name for path in (base / "output").iterdir()} - {"data"}
    reported = run_folders(spec, AttemptFolder(tmp_path / "other" / "1"))
    own = replace(reported, output=tmp_path / "reported")
    own.output.mkdir()
    sagemaker.report(own, EndReason.FAILED if code else EndReason.COMPLETED, "the script failed")
    assert left == {path.name for path in own.output.iterdir()}
