"""The real Ray on two machines of the sandbox."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import CommandLine, until, write_project
from tests.e2e.test_renting_nodes import NOTHING, left

pytestmark = [
    pytest.mark.slow,
    pytest.mark.namespaces,
    # Each machine installs Ray.
    pytest.mark.timeout(1800, func_only=True),
    pytest.mark.usefixtures("clean_account"),
]

EXAMPLE = Path(__file__).parents[2] / "examples/digits-ray"
# One worker and then two, in the cluster of one run: what the second has to come to is what the first came to.
BOTH = """\
import re, sys, ray, train

for workers in (1, 2):
    sys.argv[1:] = ["--workers", str(workers), "--steps", "12"]
    print("workers", workers, flush=True)
    train.main()
    ray.shutdown()
"""
SAVES = """\
import os, pathlib, signal, sys, time, ray

ray.init()

@ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
def where():
    time.sleep(1)
    return ray.util.get_node_ip_address()

def save(*_):
    pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"], "step-1.bin").write_bytes(b"saved")
    print("has saved with", len(set(ray.get([where.remote() for _ in range(4)]))), flush=True)
    sys.exit(143)

signal.signal(signal.SIGTERM, save)
print("machines", len(set(ray.get([where.remote() for _ in range(8)]))), flush=True)
while True:
    time.sleep(0.1)
"""
LAUNCH = (
    "aws",
    "launch",
    "--on-demand",
    "--instance-type",
    "m7i.large",
    "--nodes",
    "2",
    "--engine",
    "ray",
    "--yes",
)
# Of two indexes that have Ray, the first may not have this version.
INDEXES = ("--env", "UV_INDEX_STRATEGY=unsafe-best-match")


def loss_of(log: str, workers: int) -> float:
    part = log.partition(f"workers {workers}\n")[2].partition("workers")[0]
    (last,) = set(re.findall(r"step 12 loss (\d+\.\d+)", part))
    return float(last)


def test_ray_train_comes_to_the_same_loss_on_two_machines_as_on_one(runctl: CommandLine, ec2: Any) -> None:
    files = {name: (EXAMPLE / name).read_text() for name in ("train.py", "requirements.txt")}
    write_project(runctl.cwd, {**files, "both.py": BOTH})

    done = runctl(*LAUNCH, *INDEXES, "both.py", "--wait", timeout=1500).ok()

    assert "Ray's cluster has 2 of 2 machines" in done.out
    log = re.sub(r"(?m)^\[0\] ", "", done.out)
    assert loss_of(log, 2) == pytest.approx(loss_of(log, 1), abs=1e-6)
    assert loss_of(log, 1) < 2
    (run,) = runctl("runs", "list", "--output", "json").ok().json
    assert (run["end_reason"], run["exit_code"]) == ("COMPLETED", 0)
    assert left(ec2) == NOTHING


def test_a_ray_script_that_is_stopped_saves_with_all_machines_and_nothing_of_ray_is_left(
    runctl: CommandLine,
) -> None:
    write_project(runctl.cwd, {"train.py": SAVES, "requirements.txt": "ray==2.60.0\n"})
    run = str(runctl(*LAUNCH, *INDEXES, "--keep", "train.py", "--quiet", timeout=900).ok().out.strip())
    log = partial(runctl, "runs", "logs", run)
    until(lambda: "machines 2" in log().out, seconds=600, what="a task on each machine")

    runctl("runs", "stop", run, timeout=200).ok()

    assert "has saved with 2" in log().out, log().out[-3000:]
    shown = runctl("runs", "show", run, "--output", "json").ok().json
    assert (shown["end_reason"], shown["exit_code"]) == ("STOPPED", 143)
    for machine in [each["instance_id"] for each in shown["nodes"]]:
        listed = runctl("aws", "exec", machine, "--", "sh", "-c", "cat /proc/*/comm; ls /tmp").ok().out
        assert "raylet" not in listed
        assert "ray-" not in listed
