"""Why a run ended: the decision as a table, and memory and disks that are really full."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.agent.attempt.end_decision import Facts, decide_end
from runctl.agent.attempt.log import says_no_space
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import RunState
from runctl.agent.supervising.supervisor import told_once
from tests.agent.driver import Agent, until

R = EndReason


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (Facts(0, None), R.COMPLETED),
        (Facts(1, None), R.FAILED),
        (Facts(None, 11), R.FAILED),
        (Facts(None, 9), R.FAILED),
        (Facts(0, None, requested=R.STOPPED), R.STOPPED),
        (Facts(0, None, requested=R.TIME_LIMIT), R.TIME_LIMIT),
        (Facts(None, 9, requested=R.STOPPED, oom_kills=1), R.STOPPED),
        (Facts(0, None, oom_kills=3), R.COMPLETED),
        (Facts(None, 9, oom_kills=1), R.OUT_OF_MEMORY),
        (Facts(1, None, oom_kills=1), R.OUT_OF_MEMORY),
        (Facts(137, None, machine_oom_kills=1), R.OUT_OF_MEMORY),
        (Facts(None, 9, machine_oom_kills=1), R.OUT_OF_MEMORY),
        (Facts(1, None, machine_oom_kills=1), R.FAILED),
        (Facts(None, 15, machine_oom_kills=1), R.FAILED),
        (Facts(1, None, says_no_space=True), R.FAILED),
        (Facts(1, None, disk_full="/data"), R.FAILED),
        (Facts(1, None, says_no_space=True, disk_full="/data"), R.DISK_FULL),
        (Facts(1, None, says_no_space=True, ends_with_no_space=True), R.DISK_FULL),
        (Facts(0, None, says_no_space=True, disk_full="/data"), R.COMPLETED),
    ],
)
def test_the_reason_follows_from_what_was_seen(facts: Facts, reason: EndReason) -> None:
    assert decide_end(facts)[0] is reason


def test_the_message_names_what_happened() -> None:
    assert "SIGSEGV" in decide_end(Facts(None, 11))[1]
    assert "/data" in decide_end(Facts(1, None, says_no_space=True, disk_full="/data"))[1]
    assert (
        "killed"
        in decide_end(Facts(None, 9, requested=R.STOPPED, requested_message="stopped", killed=True))[1]
    )


def test_only_the_last_lines_of_the_script_speak_of_a_full_disk() -> None:
    assert says_no_space(b"OSError: [Errno 28] No space left on device: 'x'\n") == (True, True)
    assert says_no_space(b"No space left on device\nretrying\nboom\n") == (True, False)
    assert says_no_space(b"No space left on device\n" + b"fine\n" * 40) == (False, False)
    assert says_no_space(b"[runctl] No space left on device\n") == (False, False)
    assert says_no_space(b"") == (False, False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MiB."""
    image, point = tmp_path / "small.img", tmp_path / "small"
    with image.open("wb") as file:
        file.truncate(96 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-F", str(image)], check=True)
    point.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
    yield point
    # A supervisor that has written the end is still about to leave.
    until(
        lambda: subprocess.run(["umount", str(point)], check=False).returncode == 0,
        "nothing to use the disk any more",
    )


@pytest.mark.linux
@pytest.mark.root
@pytest.mark.namespaces
def test_a_script_that_fills_the_disk_ends_with_that_reason_and_with_its_log(
    built: Path, small_disk: Path
) -> None:
    agent = Agent(built, small_disk / "state")
    agent.sync(
        {
            "train.py": (
                "print('saving')\n"
                "with open('big', 'wb', buffering=0) as f:\n"
                "    while True: f.write(bytes(1 << 20))\n"
            )
        }
    )
    agent.start("r", "train.py")
    end = agent.ended("r")
    assert end.reason is EndReason.DISK_FULL
    assert agent.output("r")[0] == "saving"
    assert len(agent.log("r").encode()) == end.log_bytes


@pytest.mark.linux
@pytest.mark.root
@pytest.mark.namespaces
def test_a_log_that_fills_the_disk_ends_no_training_and_says_what_is_missing(
    built: Path, small_disk: Path, tmp_path: Path
) -> None:
    agent = Agent(built, small_disk / "state")
    code = (
        "import os, sys, time\nfor i in range(2000): sys.stdout.write('x' * 65535 + '\\n')\n"
        "print('last words', flush=True)\nopen(sys.argv[1] + '/written', 'w')\n"
        "while not os.path.exists(sys.argv[1] + '/go'): time.sleep(0.05)\n"
    )
    agent.sync({"train.py": code})
    (small_disk / "filler").write_bytes(bytes(40 << 20))
    agent.start("r", "train.py", str(tmp_path))
    until((tmp_path / "written").exists, "more output than fits")
    (small_disk / "filler").unlink()
    (tmp_path / "go").touch()
    end = agent.ended("r")
    assert end.reason is EndReason.COMPLETED
    tail = agent.frames("r", offset=end.log_bytes - 200_000)[0].decode()
    assert "[runctl] the disk was full: " in tail
    assert "last words\n" in tail


@pytest.mark.linux
@pytest.mark.root
@pytest.mark.namespaces
def test_a_script_that_fails_when_the_disk_of_its_log_is_full_is_told_so(
    built: Path, small_disk: Path
) -> None:
    agent = Agent(built, small_disk / "state")
    agent.sync({"train.py": "for i in range(2000): print('x' * 65535)\nraise SystemExit(1)\n"})
    agent.start("r", "train.py")
    assert agent.ended("r").reason is EndReason.DISK_FULL


@pytest.mark.linux
@pytest.mark.root
@pytest.mark.namespaces
def test_a_full_disk_refuses_a_run_before_it_starts(built: Path, small_disk: Path) -> None:
    agent = Agent(built, small_disk / "state")
    agent.sync({"train.py": "print(1)\n"})
    (small_disk / "filler").write_bytes(bytes(70 << 20))
    with (small_disk / "filler").open("ab", buffering=0) as file:
        while file.tell() < 90 << 20:
            try:
                file.write(bytes(1 << 20))
            except OSError:
                break
    assert agent.refused("r", "train.py")["code"] == "disk-full"


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group that may use 200 MiB; processes that write themselves into it are limited."""
    v1 = Path("/sys/fs/cgroup/memory")
    root = v1 if v1.is_dir() else Path("/sys/fs/cgroup")
    group = root / f"runctl-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if root == v1 else "memory.max")).write_text(str(200 << 20))
    except OSError as error:
        pytest.skip(f"namespaces: no memory control group can be made: {error}")
    yield group
    until(lambda: not (group / "cgroup.procs").read_text(), "an empty control group")
    group.rmdir()


@pytest.mark.linux
@pytest.mark.root
@pytest.mark.namespaces
def test_a_script_that_the_kernel_kills_for_want_of_memory_is_out_of_memory(
    agent: Agent, memory_group: Path
) -> None:
    agent.sync({"train.py": "x = []\nwhile True: x.append(bytearray(10 << 20))\n"})
    enter = 'echo $$ > "$0"; exec "$@"'
    agent.prefix = ("sh", "-c", enter, str(memory_group / "cgroup.procs"))
    agent.start("r", "train.py")
    agent.prefix = ()
    end = agent.ended("r")
    assert end.reason is EndReason.OUT_OF_MEMORY
    assert agent.status("r").state is RunState.ENDED


@pytest.mark.linux
@pytest.mark.root
@pytest.mark.namespaces
def test_a_worker_that_the_kernel_kills_makes_the_run_out_of_memory(agent: Agent, memory_group: Path) -> None:
    agent.sync(
        {
            "train.py": (
                "import subprocess, sys\n"
                "code = 'x = []\\nwhile True: x.append(bytearray(10 << 20))'\n"
                "raise SystemExit(subprocess.call([sys.executable, '-c', code]) != 0)\n"
            )
        }
    )
    enter = 'echo $$ > "$0"; exec "$@"'
    agent.prefix = ("sh", "-c", enter, str(memory_group / "cgroup.procs"))
    agent.start("r", "train.py")
    agent.prefix = ()
    assert agent.ended("r").reason is EndReason.OUT_OF_MEMORY


def test_what_a_failed_program_said_is_told_once() -> None:
    log = "Collecting nosuch\nERROR: No matching distribution\n  found for nosuch\n"
    said = "installing failed (exit code 1):\nCollecting nosuch\nERROR: No matching distribution\nfound for nosuch"
    assert told_once(said, log) == "installing failed (exit code 1): ERROR: No matching distribution"
    assert (
        told_once("it failed:\nsomething that is in no log", log) == "it failed:\nsomething that is in no log"
    )
    assert told_once("it failed", log) == "it failed"
