"""The log of a run on the host, as a follower reads it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time

import pytest

from tests.agent.driver import Agent, parse_frames

pytestmark = pytest.mark.linux


def test_the_end_proves_the_log_by_length_and_checksum(agent: Agent) -> None:
    agent.sync(
        {"train.py": "import sys\nfor i in range(20000): print('line', i)\nsys.stderr.write('no newline')\n"}
    )
    agent.start("r", "train.py")
    end = agent.ended("r")
    log, frames = agent.frames("r", follow=True)
    assert (end.log_bytes, end.log_sha256) == (len(log), hashlib.sha256(log).hexdigest())
    assert frames[-1].last
    assert frames[-1].end == end
    assert b"line 19999\n" in log
    assert b"no newline\n[runctl] COMPLETED" in log


def test_a_follower_sees_lines_while_the_script_runs(agent: Agent) -> None:
    agent.sync({"train.py": "import time\nfor i in range(1000):\n    print(time.time()); time.sleep(0.2)\n"})
    agent.start("r", "train.py")
    agent.running("r")
    with subprocess.Popen(
        agent.command("logs"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=agent.environment
    ) as follower:
        assert follower.stdin is not None
        assert follower.stdout is not None
        follower.stdin.write(json.dumps({"run_id": "r", "follow": True}).encode())
        follower.stdin.close()
        delays: list[float] = []
        while len(delays) < 5:
            frame = json.loads(follower.stdout.readline())
            data = follower.stdout.read(frame["length"])
            delays += [time.time() - float(line) for line in data.split(b"\n")[-2:-1] if line[:1].isdigit()]
        follower.terminate()
    assert min(delays) < 1.0


def test_reading_from_an_offset_neither_loses_nor_repeats(agent: Agent) -> None:
    agent.sync({"train.py": "for i in range(500): print(i)\n"})
    agent.start("r", "train.py")
    whole, _ = agent.frames("r", follow=True)
    got = b""
    while True:
        data, frames = agent.frames("r", offset=len(got), max_bytes=777)
        assert len(data) <= 777
        got += data
        if frames[-1].end is not None:
            break
    assert got == whole


def test_a_long_poll_waits_for_the_first_byte(agent: Agent) -> None:
    agent.sync({"train.py": "import time\ntime.sleep(1.5)\nprint('now')\ntime.sleep(60)\n"})
    agent.start("r", "train.py")
    agent.running("r")
    offset = len(agent.frames("r")[0])
    data, frames = agent.frames("r", offset=offset, wait_seconds=30)
    assert data == b"now\n"
    assert frames[-1].last
    assert frames[-1].end is None


def test_an_offset_beyond_the_log_is_an_error(agent: Agent) -> None:
    agent.sync({"train.py": "print(1)\n"})
    agent.start("r", "train.py")
    agent.ended("r")
    assert agent.call("logs", {"run_id": "r", "offset": 10_000_000}).error["code"] == "bad-offset"


def test_frames_survive_any_bytes(agent: Agent) -> None:
    agent.sync({"train.py": "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 1000)\n"})
    agent.start("r", "train.py")
    data, _ = agent.frames("r", follow=True)
    assert bytes(range(256)) * 1000 in data
    assert parse_frames(b"") == (b"", [])
