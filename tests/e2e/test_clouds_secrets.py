"""No secret of RunPod or Lyceum is in a variable of a machine's processes, on a command line, in a log or in a file of
this computer's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from runctl.sandbox.connection import SandboxInfo
from tests.e2e.command_line import CommandLine, until, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.root]

END_KEY = "rpa_may-end-pods-and-nothing-else"
TRAIN = """\
import os, pathlib, time
for name, value in os.environ.items():
    print(name, value)
checkpoint = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"], "step-1.json")
checkpoint.write_text("{}")
while not pathlib.Path("/tmp/enough").exists():
    time.sleep(0.1)
"""
LOOK = r"""
for each in /proc/[0-9]*; do
    [ "$each" = "/proc/1" ] || cat "$each/environ" 2>/dev/null
    cat "$each/cmdline" 2>/dev/null
done | tr '\0' '\n'
echo FILES
find /var/lib/runctl /var/log /tmp /root /home -type f ! -name store-keys.json -size -2000k -exec cat {} + 2>/dev/null
"""
"""All that anybody finds there who may look everywhere, but for the one file that is for the keys."""
TYPES = {"runpod": "rtx-a5000", "lyceum": "a100"}


@pytest.fixture
def runctl(in_sandbox: SandboxInfo, tmp_path: Path) -> CommandLine:
    project = write_project(tmp_path / "project", {"train.py": TRAIN})
    (project / ".runctl.toml").write_text('[runpod]\nend_key = "POD_ENDER"\n')
    folders = {f"XDG_{kind}_HOME": str(tmp_path / kind) for kind in ("DATA", "CONFIG", "CACHE", "STATE")}
    trusting = CommandLine(project, {**folders, "POD_ENDER": END_KEY})
    trusting("config", "trust").ok()
    return trusting


@pytest.mark.parametrize("cloud", sorted(TYPES))
def test_no_secret_of_a_cloud_is_among_variables_on_a_command_line_or_in_a_log(
    runctl: CommandLine, cloud: str, tmp_path: Path
) -> None:
    store = ("--checkpoint-s3", "own/digits") if cloud == "lyceum" else ()
    said = []

    def run(*argv: str) -> Any:
        done = runctl("--verbose", *argv).ok()
        said.append(done.out + done.err)
        return done

    made = run(cloud, "create", "--instance-type", TYPES[cloud], "--yes", "--quiet").out.strip()
    run(cloud, "train", made, "train.py", *store)
    shown = until(
        lambda: run("runs", "show", "latest", "--output", "json").json.get("checkpoint"), what="a checkpoint"
    )
    assert shown
    there = run(cloud, "exec", made, "--", *(("sudo",) if cloud == "lyceum" else ()), "sh", "-c", LOOK).out
    secrets = {"the account's key": os.environ["RUNPOD_API_KEY" if cloud == "runpod" else "LYCEUM_API_KEY"]}
    if cloud == "runpod":
        secrets["the key that ends pods"] = END_KEY
        platform = run(cloud, "exec", made, "--", "sh", "-c", "tr '\\0' '\\n' </proc/1/environ").out
        (own,) = [line for line in platform.splitlines() if line.startswith("RUNPOD_API_KEY=")] or [""]
        secrets |= {"the pod's own key": own.partition("=")[2]} if own else {}
        kept = run(cloud, "exec", made, "--", "sh", "-c", "stat -c %a-%U /usr/local/lib/runctl/*.key").out
        assert kept.strip() == "600-root"
    else:
        kept = run(cloud, "exec", made, "--", "sudo", "cat", "/var/lib/runctl/store-keys.json").json
        said.pop()
        secrets |= {f"the store's {name}": kept[name] for name in ("access_key", "secret_key", "token")}
        mode = run(
            cloud, "exec", made, "--", "sudo", "stat", "-c", "%a", "/var/lib/runctl/store-keys.json"
        ).out
        assert mode.strip() == "600"
    run(cloud, "exec", made, "--", "touch", "/tmp/enough")
    run(cloud, "monitor", made)
    run(cloud, "terminate", made, "--yes")

    assert "train.py" in there.partition("FILES")[0], "it has looked at a run that goes on"
    assert all(len(secret) > 10 for secret in secrets.values()), secrets.keys()
    for name, secret in secrets.items():
        assert secret not in there, f"{name} is on the machine"
        assert not [each for each in said if secret in each], f"{name} was printed"
        for folder in ("DATA", "CACHE", "STATE"):
            files = [path for path in (tmp_path / folder).rglob("*") if path.is_file()]
            found = [path for path in files if secret.encode() in path.read_bytes()]
            assert not found, f"{name} is in {found}"
