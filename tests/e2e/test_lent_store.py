"""A spot machine is taken back without notice: its run goes on from the provider's own bucket, or from any store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.providers.lyceum.api import LyceumApi
from runctl.providers.lyceum.settings import LyceumConfig, find_account
from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.e2e.command_line import CommandLine, until, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.root]

TRAIN = """\
import json, os, pathlib, time
folder, resume = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"]), os.environ["RUNCTL_RESUME_FROM"]
step = json.loads(pathlib.Path(resume).read_text())["step"] if resume else 0
print("from", step, flush=True)
while step < 3:
    step += 1
    partial = folder / f".step-{step}"
    partial.write_text(json.dumps({"step": step}))
    partial.rename(folder / f"step-{step}.json")
while not resume: time.sleep(0.1)
print("done", flush=True)
"""


@pytest.fixture
def runctl(in_sandbox: SandboxInfo, tmp_path: Path) -> CommandLine:
    project = write_project(tmp_path / "project", {"train.py": TRAIN})
    return CommandLine(project, {"XDG_DATA_HOME": str(tmp_path / "data")})


@pytest.fixture
def faults(in_sandbox: SandboxInfo) -> Iterator[Faults]:
    found = Faults(in_sandbox)
    yield found
    found.clear()


def shown(runctl: CommandLine, run: str) -> Any:
    return runctl("runs", "show", run, "--output", "json").ok().json


@pytest.mark.parametrize("where", ["own", "any"])
@pytest.mark.slow
def test_a_spot_run_goes_on_from_an_object_store_when_its_machine_is_taken_back(
    runctl: CommandLine, in_sandbox: SandboxInfo, faults: Faults, where: str
) -> None:
    if where == "own":
        # Their end is told, and they end before the run does: who follows it has brought newer ones by then.
        faults.lyceum(storage_seconds=45)
        store: tuple[str, ...] = ("--checkpoint-s3", "own/digits")
    else:
        keys = in_sandbox.environment()
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        s3: Any = boto3.client("s3", endpoint_url=in_sandbox.endpoint_url, region_name=in_sandbox.region)
        s3.create_bucket(Bucket="anybodys")
        # The sandbox's own, by the address that machines reach it at.
        endpoint = (
            LyceumApi(
                find_account(LyceumConfig(base_url=keys["RUNCTL_LYCEUM_BASE_URL"]), keys, datetime.now(UTC))
            )
            .storage_keys()
            .endpoint
        )
        store = ("--checkpoint-s3", "s3://anybodys/runs", "--checkpoint-endpoint", endpoint)
        store += tuple(word for name in names for word in ("--env", f"{name}={keys[name]}"))
    launch = runctl.start(
        *("lyceum", "launch", "train.py", "--gpu", "A100", "--spot", "--run-name", f"spot-{where}"),
        *store,
        *("--wait", "--yes"),
    )

    def saved() -> Any:
        found = runctl("runs", "list", "--output", "json").ok().json
        run = next((each for each in found if each["name"] == f"spot-{where}"), None)
        return run and (shown(runctl, run["id"])["checkpoint"] or {}).get("published_at") and run["id"]

    try:
        run = until(saved, seconds=120, what="a checkpoint in the store")
        first = shown(runctl, run)["instance_id"]
        faults.lyceum_reclaim(first)
        out, err = (text.decode() for text in launch.communicate(timeout=240))
    finally:
        launch.kill()
    assert launch.returncode == 0, err
    assert "\nfrom 3\ndone\n" in out
    attempts = shown(runctl, run)["attempts"]
    assert [each["end_reason"] for each in attempts] == ["INTERRUPTED", "COMPLETED"]
    assert attempts[1]["instance_id"] != first
    assert runctl("lyceum", "list", "--everyone", "--quiet").ok().out == ""
    assert "ASIA" not in out + err, "keys are in no log"
    if where == "own":
        # Its machines are gone, and this computer has no keys of any store but those that end.
        bare = {
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        }
        here = CommandLine(runctl.cwd, {**runctl.env, **bare})
        (newest, *_) = here("checkpoint", "list", run, "--output", "json").ok().json
        assert newest["name"] == "step-3.json"
        address = f"{shown(runctl, run)['store']}/{run}"
        for reference in (run, address):
            target = runctl.cwd.parent / reference.rpartition("/")[2] / str(len(reference))
            here("checkpoint", "pull", reference, target).ok()
            assert (target / "step-3.json").read_text() == '{"step": 3}'
        shutil.rmtree(Path(runctl.env["XDG_DATA_HOME"]) / "runctl" / "logs")
        assert "\nfrom 3\ndone\n" in here("runs", "logs", run).ok().out
