"""What copies a run's checkpoints between a pod and a store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import boto3
import pytest

from runctl.export.kubernetes.manifest import start_programs
from runctl.providers.aws.kubernetes import AwsKubernetes
from tests.e2e.command_line import until
from tests.export.kubernetes.test_start import SHELLS

AWS = f"""#!{sys.executable} -IS
import fnmatch, os, shutil, sys

# As the AWS command line: it sends what the filters let through (of those that fit, the last counts) and what is
# missing or of another size; up also what is newer than the object, down what is older than the file. An object is as
# old as its upload. For each upload uploads-left has a byte: after the last of them the node is lost.
_, kind, source, target, *options = sys.argv[1:]
root = os.environ["STORE"]
up, left = target.startswith("s3://"), root + "/uploads-left"
source, target = (each.replace("s3://mine", root, 1) for each in (source, target))
assert options.pop(0) == "--only-show-errors"
filters = list(zip(options[::2], options[1::2]))

def send(path, to):
    if up and os.path.exists(left):
        # A byte for each.
        if os.stat(left).st_size == 0:
            sys.exit(1)
        os.truncate(left, os.stat(left).st_size - 1)
    os.makedirs(os.path.dirname(to), exist_ok=True)
    (shutil.copyfile if up else shutil.copy2)(path, to)

def let_through(path):
    chosen = [kind for kind, pattern in filters if fnmatch.fnmatch(path, os.path.join(source, pattern))]
    return not chosen or chosen[-1] == "--include"

if kind == "cp":
    send(source, target)
else:
    found = sorted(os.path.join(above, name) for above, _, names in os.walk(source) for name in names)
    for path in filter(let_through, found):
        to = target + path[len(source):]
        one, other = os.stat(path), os.stat(to) if os.path.exists(to) else None
        if other is None or one.st_size != other.st_size or (
            one.st_mtime > other.st_mtime if up else one.st_mtime < other.st_mtime
        ):
            send(path, to)
"""


def program_in(folder: Path) -> Path:
    """The program, with what lies beside it in a cluster."""
    for name, program in {**start_programs(), "carry.sh": AwsKubernetes.carrier.program}.items():
        (folder / name).write_text(program)
    return folder / "carry.sh"


class Pods:
    """Pods one after the other, or beside each other, with one store."""

    shell: tuple[str, ...] = ("/bin/sh",)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._program = program_in(path)
        self.store = path / "store" / "runs"
        self.store.mkdir(parents=True)
        aws = path / "bin" / "aws"
        aws.parent.mkdir()
        aws.write_text(AWS)
        aws.chmod(0o755)

    def folder(self, name: str) -> Path:
        """The script's folder of this pod."""
        return self._path / name / "checkpoints"

    def fetch(self, name: str, rank: int | None = None) -> dict[str, str]:
        """What the script of the pod finds: every file, and each folder that has none."""
        with self._start("fetch", name, rank) as fetching:
            assert fetching.wait(timeout=60) == 0
        return contents(self.folder(name))

    def publish(self, name: str, rank: int | None = None, uploads: int | None = None) -> None:
        """What is there when the script has ended. With ``uploads`` the pod's node is lost after so many."""
        left = self._path / "store" / "uploads-left"
        if uploads is not None:
            left.write_text("x" * uploads)
        with self._start("publish", name, rank) as publishing:
            # It sleeps before it copies for the first time.
            until(
                lambda: "sleep" in _children(publishing.pid) or None, what="the first copy to be waited for"
            )
            publishing.send_signal(signal.SIGTERM)
            assert (publishing.wait(timeout=60) == 0) == (uploads is None)
        left.unlink(missing_ok=True)

    def pass_time(self) -> None:
        """All that is there is older: to some shells a moment is a second."""
        for path in self._path.rglob("*"):
            at = path.stat().st_mtime - 100
            os.utime(path, (at, at))

    def _start(self, what: str, name: str, rank: int | None) -> subprocess.Popen[bytes]:
        ranks = {} if rank is None else {"RUNCTL_NODE_RANK": str(rank)}
        path = f"{self._path / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            [*self.shell, str(self._program), what, "s3://mine/runs", str(self.folder(name)), "3600"],
            env={**os.environ, "PATH": path, "STORE": str(self._path / "store"), **ranks},
        )


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else "a folder"
        for path in folder.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }


def save(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    return Pods(tmp_path)


FIRST = {"step-1/.metadata": "1", "step-1/__0_0.distcp": "1", "log.txt": "1"}
SECOND = {"step-2/.metadata": "2", "step-2/__0_0.distcp": "2", "step-2/deep/more": "2"}


@pytest.mark.parametrize("uploads", range(5))
def test_a_folder_that_is_in_the_store_in_part_is_not_given_to_the_script(pods: Pods, uploads: int) -> None:
    assert pods.fetch("a") == {}
    save(pods.folder("a"), FIRST)
    pods.publish("a")
    save(pods.folder("a"), {**SECOND, "log.txt": "12"})
    pods.publish("a", uploads=uploads)

    found = pods.fetch("b")

    assert found == {**FIRST, "log.txt": "12" if uploads else "1"}


@pytest.mark.parametrize("shell", SHELLS, ids=lambda argv: argv[0].rpartition("/")[2])
def test_the_first_one_of_all_counts_only_when_it_is_whole(pods: Pods, shell: tuple[str, ...]) -> None:
    pods.shell = shell
    pods.fetch("a")
    save(pods.folder("a"), FIRST)
    pods.publish("a", uploads=2)

    assert pods.fetch("b") == {"log.txt": "1"}
    save(pods.folder("b"), FIRST)
    pods.publish("b")
    assert pods.fetch("c") == FIRST


def test_a_folder_that_is_written_anew_counts_only_when_all_of_it_is(pods: Pods) -> None:
    pods.fetch("a")
    save(pods.folder("a"), {**FIRST, "last.ckpt/.metadata": "1", "last.ckpt/meta.pt": "1"})
    pods.publish("a")
    pods.pass_time()
    save(pods.folder("a"), {"last.ckpt/.metadata": "22", "last.ckpt/meta.pt": "22"})
    pods.publish("a", uploads=1)

    assert contents(pods.store)["last.ckpt/.metadata"] == "22"
    assert pods.fetch("b") == FIRST


def test_what_a_store_had_before_the_run_is_taken_as_it_is(pods: Pods) -> None:
    save(pods.store, FIRST)

    assert pods.fetch("a") == FIRST
    save(pods.folder("a"), SECOND)
    pods.publish("a", uploads=1)
    assert pods.fetch("b") == FIRST


def test_what_is_on_a_volume_is_neither_taken_away_nor_replaced(pods: Pods) -> None:
    pods.fetch("a")
    save(pods.folder("a"), {**FIRST, "the-last/model.safetensors": "1"})
    pods.publish("a")
    pods.pass_time()
    save(pods.folder("a"), {**SECOND, "the-last/model.safetensors": "2"})
    pods.publish("a", uploads=2)

    assert pods.fetch("a") == {**FIRST, **SECOND, "the-last/model.safetensors": "2"}


@pytest.mark.parametrize("rank", [None, 0, 1])
def test_a_scripts_folder_has_nothing_in_it_that_is_not_the_scripts(pods: Pods, rank: int | None) -> None:
    assert pods.fetch("a", rank) == {}
    assert list(pods.folder("a").iterdir()) == []


def test_a_node_sends_what_it_has_saved_itself(pods: Pods) -> None:
    pods.fetch("a", 0)
    save(pods.folder("a"), {"last.pt": "1", "step-1/0.pt": "1"})
    pods.publish("a", 0)
    pods.pass_time()
    assert pods.fetch("b", 1) == {"last.pt": "1", "step-1/0.pt": "1"}
    save(pods.folder("a"), {"last.pt": "2"})
    pods.publish("a", 0)
    pods.pass_time()
    save(pods.folder("b"), {"step-2/1.pt": "2"})
    pods.publish("b", 1)

    assert pods.fetch("c", 0) == {"last.pt": "2", "step-1/0.pt": "1", "step-2/1.pt": "2"}


UNFINISHED = (
    *(
        ".step-2/.metadata",
        ".step-2/a/.metadata",
        "a/.step-2/.metadata",
        "a/.w.pt",
        ".w.pt",
        "tmp-step-2/w.pt",
    ),
    *("step-2.tmp/w.pt", "step-2.PART-1/w.pt", "a/w.incomplete", "step-1/w.pt.lock", "TMPw", "a/w_tmp", "w~"),
)
FINISHED = ("step-1/.metadata", ".metadata", "a/.metadata", "w.tmpl", "atmp", "parts/w", "w.json")


def test_what_is_still_being_written_is_not_sent(pods: Pods) -> None:
    pods.fetch("a")
    save(pods.folder("a"), dict.fromkeys((*UNFINISHED, *FINISHED), "x"))
    pods.publish("a")

    assert sorted(contents(pods.store)) == sorted([*FINISHED, ".times-0"])
    save(pods.store, dict.fromkeys(UNFINISHED, "x"))
    assert sorted(pods.fetch("b")) == sorted(FINISHED)


@pytest.mark.namespaces
@pytest.mark.root
@pytest.mark.usefixtures("in_sandbox")
def test_a_store_gives_what_it_has_and_gets_what_was_saved_last(tmp_path: Path) -> None:
    program, folder = program_in(tmp_path), tmp_path / "pod" / "checkpoints"
    s3 = boto3.client("s3")
    bucket = f"runs-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="runs/digits/checkpoints/step1.pt", Body=b"1")
    address = f"s3://{bucket}/runs/digits/checkpoints"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def carry(what: str, rank: int | None = None) -> subprocess.Popen[bytes]:
        ranks = {} if rank is None else {"RUNCTL_NODE_RANK": str(rank)}
        return subprocess.Popen(
            ["/bin/sh", str(program), what, address, str(folder), "3600"], env={**environment, **ranks}
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
        (folder / ".step4").mkdir()
        (folder / ".step4" / ".metadata").write_bytes(b"half of it")
        os.utime(folder / "step1.pt", (1_000_000.5, 1_000_000.5))
        os.utime(folder / "step2" / "weights", (1_000_000.25, 1_000_000.25))
        publishing.send_signal(signal.SIGTERM)
        assert publishing.wait(timeout=60) == 0
    there = {
        item["Key"].rpartition("checkpoints/")[2] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]
    }
    assert there == {"step1.pt", "last [1].pt", "step2/weights", "step2/.metadata", ".times-0"}

    # Another node, which has saved nothing and is the last to publish. Meanwhile the first has written a file anew.
    folder = tmp_path / "another node" / "checkpoints"
    with carry("fetch", rank=1) as fetching:
        assert fetching.wait(timeout=60) == 0
    s3.put_object(Bucket=bucket, Key="runs/digits/checkpoints/last [1].pt", Body=b"newer")
    with carry("publish", rank=1) as publishing:
        until(lambda: "sleep" in _children(publishing.pid) or None, what="the first copy to be waited for")
        publishing.send_signal(signal.SIGTERM)
        assert publishing.wait(timeout=60) == 0

    # Another pod, after one that died when it had sent a file and not yet the times.
    s3.put_object(Bucket=bucket, Key="runs/digits/checkpoints/step4.pt", Body=b"4")
    s3.put_object(Bucket=bucket, Key="runs/digits/checkpoints/step5/weights", Body=b"and not the rest")
    folder = tmp_path / "another pod" / "checkpoints"
    with carry("fetch") as fetching:
        assert fetching.wait(timeout=60) == 0
    assert (folder / "last [1].pt").read_bytes() == b"newer"
    assert (folder / "step1.pt").stat().st_mtime == 1_000_000.5
    assert (folder / "step2" / "weights").stat().st_mtime == 1_000_000.25
    assert (folder / "step4.pt").stat().st_mtime > 1_700_000_000
    assert (folder / "step2" / ".metadata").read_bytes() == b"its index"
    assert sorted(path.name for path in folder.iterdir()) == ["last [1].pt", "step1.pt", "step2", "step4.pt"]


def _children(pid: int) -> set[str]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {Path(f"/proc/{each}/comm").read_text().strip() for each in found}
