"""What starts a script in its container, in the shells that images have."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import boto3
import pytest

from runctl.export.kubernetes.manifest import start_program
from runctl.providers.aws.kubernetes import AwsKubernetes
from tests.e2e.command_line import until

SHELLS = tuple(
    argv
    for argv in (("/bin/sh",), ("bash", "--posix"), ("busybox", "sh"))
    if shutil.which(argv[0]) is not None
)
SAVES = """
import os, signal, sys
def save(*_):
    print("saved", flush=True)
    sys.exit(int(sys.argv[1]))
signal.signal(signal.SIGTERM, save)
print("running", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(params=SHELLS, ids=lambda argv: argv[0].rpartition("/")[2])
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found


@pytest.fixture
def start(tmp_path: Path) -> Path:
    path = tmp_path / "start.sh"
    path.write_text(start_program())
    return path


def variables(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "RUNCTL_CHECKPOINT_DIR": str(tmp_path / "run" / "checkpoints"),
        "RUNCTL_OUTPUT_DIR": str(tmp_path / "run" / "output"),
    }


def run(shell: tuple[str, ...], start: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*shell, str(start), *argv],
        env=variables(start.parent),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


PRINT = (sys.executable, "-c", "import os, sys; print([os.environ['RUNCTL_RESUME_FROM'], *sys.argv[1:]])")


def test_the_first_attempt_has_its_folders_and_nothing_to_resume_from(
    shell: tuple[str, ...], start: Path
) -> None:
    done = run(shell, start, "2", "--resume", "{checkpoint}", *PRINT, "--lr", "a b", "*")

    assert (done.returncode, done.stdout) == (0, "['', '--lr', 'a b', '*']\n")
    assert (start.parent / "run" / "output").is_dir()


def test_a_further_attempt_goes_on_from_the_newest_checkpoint(shell: tuple[str, ...], start: Path) -> None:
    folder = start.parent / "run" / "checkpoints"
    (folder / "run 1" / "step-2").mkdir(parents=True)
    (folder / "nothing").mkdir()
    for age, name in enumerate(
        (".step3.pt.partial", "step3.pt.tmp", "empty.pt", "metrics.json", "run 1/step-2/0", "step1.pt")
    ):
        path = folder / name
        if not path.is_dir():
            path.write_text("" if name == "empty.pt" else "x")
        os.utime(path, (1_000_000 - age, 1_000_000 - age))

    done = run(shell, start, "2", "--resume={checkpoint}", "{checkpoint}:{checkpoint}!", *PRINT, "last")

    newest = f"{folder}/run 1/step-2"
    assert done.stdout == f"{[newest, 'last', f'--resume={newest}', f'{newest}:{newest}!']}\n"


def test_a_folder_is_as_new_as_its_newest_file_whenever_it_was_copied(
    shell: tuple[str, ...], start: Path
) -> None:
    folder = start.parent / "run" / "checkpoints"
    for step in (1000, 500):
        path = folder / f"checkpoint-{step}"
        path.mkdir(parents=True)
        (path / "weights").write_text("x")
        (path / "config").write_text("x")
        os.utime(path / "weights", (1_000_000 + step, 1_000_000 + step))
        os.utime(path / "config", (1_000_000, 1_000_000))
        os.utime(path, (2_000_000 - step, 2_000_000 - step))

    done = run(shell, start, "0", *PRINT)

    assert done.stdout == f"{[f'{folder}/checkpoint-1000']}\n"


@pytest.mark.parametrize(("argv", "code"), [(("sh", "-c", "exit 7"), 7), (("/no/such/program",), 127)])
def test_the_scripts_exit_code_is_its_own(
    shell: tuple[str, ...], start: Path, argv: tuple[str, ...], code: int
) -> None:
    assert run(shell, start, "0", *argv).returncode == code


@pytest.mark.parametrize(("own", "code"), [(0, 143), (143, 143), (3, 3)])
def test_a_script_that_is_asked_to_end_may_save_and_is_not_complete(
    shell: tuple[str, ...], start: Path, own: int, code: int
) -> None:
    with subprocess.Popen(
        [*shell, str(start), "0", sys.executable, "-c", SAVES, str(own)],
        env=variables(start.parent),
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "running\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == "saved\n"
        assert child.wait(timeout=60) == code


@pytest.mark.namespaces
@pytest.mark.root
@pytest.mark.usefixtures("in_sandbox")
def test_a_store_gives_what_it_has_and_gets_what_was_saved_last(tmp_path: Path) -> None:
    program, folder = tmp_path / "carry.sh", tmp_path / "checkpoints"
    program.write_text(AwsKubernetes.carrier.program)
    s3 = boto3.client("s3")
    bucket = f"runs-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="runs/digits/checkpoints/step1.pt", Body=b"1")
    address = f"s3://{bucket}/runs/digits/checkpoints"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def carry(what: str, rank: int = 0) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", str(program), what, address, str(folder), "3600"],
            env={**environment, "RUNCTL_NODE_RANK": str(rank)},
        )

    with carry("fetch") as fetching:
        assert fetching.wait(timeout=60) == 0
    assert (folder / "step1.pt").read_bytes() == b"1"
    with carry("publish") as publishing:
        # It sleeps before it copies for the first time.
        until(lambda: "sleep" in _children(publishing.pid) or None, what="the first copy to be waited for")
        (folder / "last [1].pt").write_bytes(b"older one")
        (folder / "step2").mkdir()
        (folder / "step2" / "weights").write_bytes(b"2")
        (folder / "step2" / ".metadata").write_bytes(b"its index")
        (folder / ".step3.pt.partial").write_bytes(b"half")
        os.utime(folder / "step1.pt", (1_000_000.5, 1_000_000.5))
        os.utime(folder / "step2" / "weights", (1_000_000.25, 1_000_000.25))
        publishing.send_signal(signal.SIGTERM)
        assert publishing.wait(timeout=60) == 0
    there = {
        item["Key"].rpartition("checkpoints/")[2] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]
    }
    assert there == {"step1.pt", "last [1].pt", "step2/weights", "step2/.metadata", ".times-0"}

    # Another node, which has saved nothing and is the last to publish. Meanwhile the first has written a file anew.
    folder = tmp_path / "another node"
    with carry("fetch", rank=1) as fetching:
        assert fetching.wait(timeout=60) == 0
    s3.put_object(Bucket=bucket, Key="runs/digits/checkpoints/last [1].pt", Body=b"newer")
    with carry("publish", rank=1) as publishing:
        until(lambda: "sleep" in _children(publishing.pid) or None, what="the first copy to be waited for")
        publishing.send_signal(signal.SIGTERM)
        assert publishing.wait(timeout=60) == 0

    # Another pod, after one that died when it had sent a file and not yet the times.
    s3.put_object(Bucket=bucket, Key="runs/digits/checkpoints/step4.pt", Body=b"4")
    folder = tmp_path / "another pod"
    with carry("fetch") as fetching:
        assert fetching.wait(timeout=60) == 0
    assert (folder / "last [1].pt").read_bytes() == b"newer"
    assert (folder / "step1.pt").stat().st_mtime == 1_000_000.5
    assert (folder / "step2" / "weights").stat().st_mtime == 1_000_000.25
    assert (folder / "step4.pt").stat().st_mtime > 1_700_000_000
    assert (folder / "step2" / ".metadata").read_bytes() == b"its index"
    assert [path.name for path in folder.glob(".*")] == [".fetched"]


def _children(pid: int) -> set[str]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {Path(f"/proc/{each}/comm").read_text().strip() for each in found}
