"""Commands whose answer is lost, that arrive twice, or whose machine dies: each runs once."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest

from runctl.core.errors import (
    MachineError,
    Unreachable,
)
from runctl.providers.aws.ssm import spool as ssm_spool
from runctl.providers.aws.ssm.run_command import RemoteError, RunCommand
from runctl.providers.aws.ssm.transport import SsmTransport
from runctl.transport.interface import CommandTimeout
from tests.providers.aws.ssm.server import HURRY, FakeSsm

pytestmark = [pytest.mark.root, pytest.mark.linux]


@pytest.mark.parametrize("fate", ["carried-out", "never-arrived", "twice"])
@pytest.mark.parametrize("size", [10, 50_000])
def test_a_command_whose_answer_is_lost_runs_once(
    bare: SsmTransport, ssm: FakeSsm, tmp_path: Path, fate: str, size: int
) -> None:
    noise = os.urandom(size)
    (tmp_path / "noise").write_bytes(noise)
    ssm.lose.append(fate)

    done = bare.run(["sh", "-c", 'echo once >>"$1/count"; cat "$1/noise"', "sh", str(tmp_path)])

    assert (tmp_path / "count").read_text() == "once\n"
    assert (done.exit_code, done.stdout) == (0, noise)
    assert ssm.verbs().count("start") == (2 if fate == "twice" else 1)


@pytest.mark.parametrize("fate", ["carried-out", "never-arrived", "twice"])
def test_a_file_whose_answer_is_lost_is_written(
    staged: SsmTransport, ssm: FakeSsm, tmp_path: Path, fate: str
) -> None:
    ssm.lose.append(fate)

    staged.put(os.urandom(100_000), PurePosixPath(tmp_path / "file"))

    assert (tmp_path / "file").stat().st_size == 100_000


@pytest.mark.parametrize("lost", range(1, 5))
def test_whichever_request_of_a_command_is_lost_its_output_is_whole(
    bare: SsmTransport, ssm: FakeSsm, tmp_path: Path, lost: int
) -> None:
    noise = os.urandom(50_000)
    (tmp_path / "noise").write_bytes(noise)
    ssm.lose += [""] * (lost - 1) + ["twice"]

    assert bare.run(["cat", str(tmp_path / "noise")]).stdout == noise


def test_a_start_that_arrives_after_its_caller_gave_up_starts_nothing(ssm: FakeSsm, tmp_path: Path) -> None:
    commands = RunCommand(ssm, ssm.instance_id, clock=HURRY)
    request = {"id": os.urandom(16).hex(), "argv": ["touch", str(tmp_path / "ran")], "user": "root"}
    commands.ask("drop", request)

    with pytest.raises(RemoteError, match="gave up"):
        commands.ask("start", request)

    assert not (tmp_path / "ran").exists()


def test_a_timeout_says_so_at_once_and_leaves_no_process(bare: SsmTransport, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(CommandTimeout):
        bare.run(
            ["sh", "-c", 'echo $$ >"$1"; exec sleep 300', "sh", str(pid)], timeout=timedelta(seconds=0.5)
        )
    assert time.monotonic() - began < 10
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_a_command_outlives_the_ssm_agents_own_command(ssm: FakeSsm, tmp_path: Path) -> None:
    """SSM's agent kills what it started when it restarts; ours goes on and is found again."""
    go = tmp_path / "go"
    seen = bytearray()
    killed: list[str] = []

    def on_stdout(data: bytes) -> None:
        seen.extend(data)
        for process in ssm.running():
            process.kill()
            killed.append(str(process.pid))
        go.touch()

    transport = SsmTransport(ssm, ssm.instance_id, user="root", clock=HURRY)
    script = 'echo one; until [ -e "$1" ]; do sleep 0.05; done; echo two'
    code = transport.stream(["sh", "-c", script, "sh", str(go)], on_stdout=on_stdout, on_stderr=on_stdout)
    assert (code, bytes(seen)) == (0, b"one\ntwo\n")


def test_a_supervisor_that_was_killed_is_not_an_end(bare: SsmTransport, tmp_path: Path) -> None:
    """The command kills its own parent, the supervisor."""
    with pytest.raises(Unreachable, match="lost"):
        bare.run(["sh", "-c", "kill -9 $PPID; sleep 0.2"])


def test_the_same_start_twice_runs_the_command_once(ssm: FakeSsm, tmp_path: Path) -> None:
    """As when boto3 repeats a SendCommand whose answer was lost."""
    mark, go = tmp_path / "mark", tmp_path / "go"
    commands = RunCommand(ssm, ssm.instance_id, clock=HURRY)
    empty = {"size": 0, "sha256": __import__("hashlib").sha256().hexdigest(), "data": "eJwDAAAAAAE="}
    request = {
        "id": os.urandom(16).hex(),
        "argv": [
            "sh",
            "-c",
            'echo x >>"$1"; until [ -e "$2" ]; do sleep 0.05; done',
            "sh",
            str(mark),
            str(go),
        ],
        "user": "root",
        "root": False,
        "timeout": None,
        "out": 0,
        "err": 0,
        "input": empty,
    }
    first = commands.ask("start", {**request, "wait": 0.1})
    second = commands.ask("start", {**request, "wait": 5}, wait=5)
    assert not first["done"]
    assert not second["done"]
    go.touch()
    done = commands.ask("poll", {**request, "wait": 60}, wait=60)
    assert done["done"]
    assert mark.read_text() == "x\n"


def test_old_spools_are_swept_and_young_ones_are_not(bare: SsmTransport) -> None:
    old, young = (ssm_spool.ROOT / (ssm_spool.PREFIX + os.urandom(16).hex()) for _ in range(2))
    old.mkdir()
    young.mkdir()
    long_ago = time.time() - 3 * 86400
    os.utime(old, (long_ago, long_ago))
    try:
        bare.run(["true"])
        assert not old.exists()
        assert young.exists()
    finally:
        young.rmdir()


@pytest.mark.parametrize("name", ["../../etc", "", "0" * 31, "0" * 32 + "/x"])
def test_an_id_cannot_lead_out_of_the_spools(ssm: FakeSsm, name: str) -> None:
    with pytest.raises(MachineError, match="no such id"):
        RunCommand(ssm, ssm.instance_id, clock=HURRY).ask("drop", {"id": name})
