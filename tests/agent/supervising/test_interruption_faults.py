"""A notice at the worst of moments: one end, what was complete is handed over, and the story says what is missing."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import pytest

from runctl.agent.checkpoints import layout
from runctl.agent.checkpoints.layout import Manifest, StoredFile
from runctl.agent.end_reason import EndReason
from tests.agent.driver import Agent, until
from tests.agent.metadata_service import MetadataService
from tests.agent.supervising.test_stop import STUBBORN

pytestmark = pytest.mark.linux

HALF = """\
import json, os, pathlib, signal, time
folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(folder / "step-1.json").write_text(json.dumps({"step": 1}))
time.sleep(0.1)
file = (folder / "step-2.json").open("w")
file.write('{"step"')
file.flush()
print("writes", flush=True)
time.sleep(600)
"""
SLOW = """\
import json, os, pathlib, signal, time
folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
(folder / "step-1.json").write_text(json.dumps({"step": 1}))
os.utime(folder / "step-1.json", (time.time() - 60, time.time() - 60))
def save(*_):
    print("saves", flush=True)
    time.sleep(600)
    (folder / "step-2.json").write_text(json.dumps({"step": 2}))
signal.signal(signal.SIGTERM, save)
print("up", flush=True)
while True:
    time.sleep(0.1)
"""
ENDS = """\
import pathlib, sys, time
print("up", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.001)
"""


def test_of_two_notices_the_earlier_end_counts_and_there_is_one_end(
    agent: Agent, metadata: MetadataService
) -> None:
    agent.sync({"train.py": STUBBORN})
    agent.start("r", "train.py")
    agent.says("r", "up")
    metadata.interrupt(110)
    until(lambda: "EC2 takes the spot machine back" in agent.log("r"), "the first notice")
    metadata.interrupt(12)
    earlier = time.time() + 12

    end = agent.ended("r")

    assert (end.reason, end.signal) == (EndReason.INTERRUPTED, signal.SIGKILL)
    assert end.hand_off is not None
    assert end.hand_off.machine_ends_at == pytest.approx(earlier, abs=2)
    assert end.ended_at < end.hand_off.machine_ends_at
    assert agent.ended("r") == end


def test_a_notice_in_the_middle_of_a_checkpoint_hands_over_the_one_before(
    agent: Agent, metadata: MetadataService
) -> None:
    agent.sync({"train.py": HALF})
    agent.start("r", "train.py")
    agent.says("r", "writes")

    metadata.interrupt(10)

    given = agent.ended("r").hand_off
    assert given is not None
    assert (given.checkpoint, given.step) == ("step-1.json", 1)
    assert "step-2.json is not complete" in agent.log("r")


def test_a_script_that_needs_longer_than_the_notice_is_told_of(
    agent: Agent, metadata: MetadataService
) -> None:
    agent.sync({"train.py": SLOW})
    agent.start("r", "train.py")
    agent.says("r", "up")

    metadata.interrupt(10)

    end = agent.ended("r")
    given = end.hand_off
    assert given is not None
    assert "saves" in agent.output("r")
    assert end.signal == signal.SIGKILL
    assert end.ended_at < given.machine_ends_at
    assert given.checkpoint == "step-1.json"
    assert any("saved nothing after the notice" in sentence for sentence in given.left)


def test_success_in_the_second_of_the_notice_is_success_unless_the_script_was_signalled(
    agent: Agent, metadata: MetadataService, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    agent.sync({"train.py": ENDS})
    agent.start("r", "train.py", str(go))
    agent.says("r", "up")

    metadata.interrupt(60)
    go.touch()

    end = agent.ended("r")
    told = end.hand_off is not None and "signalled" in end.hand_off.stages
    assert (end.reason is EndReason.INTERRUPTED) is told
    assert told or (end.reason, end.exit_code) == (EndReason.COMPLETED, 0)
    assert agent.ended("r") == end


def test_a_notice_while_a_checkpoint_is_restored_ends_the_attempt_and_leaves_the_store_as_it_is(
    agent: Agent, metadata: MetadataService, tmp_path: Path
) -> None:
    data = b"of a model"
    checksum = hashlib.sha256(data).hexdigest()
    store = tmp_path / "store" / "r"
    manifest = Manifest(
        "r", 1, 1, "step-1.bin", time.time(), (StoredFile("step-1.bin", len(data), checksum, 0o644),), 1
    )
    for name in ("data", "checkpoints"):
        (store / name).mkdir(parents=True)
    (store / manifest.key).write_bytes(layout.encode(manifest))
    # Whoever reads it waits for ever, as with a store that is slow.
    os.mkfifo(store / layout.data_key(checksum))
    agent.sync({"train.py": "print('never')\n"})
    agent.start("r", "train.py", attempt=2, store={"url": str(tmp_path / "store")})
    until(lambda: "looking for checkpoints" in agent.log("r"), "the restore")

    metadata.interrupt(20)

    end = agent.ended("r")
    assert end.reason is EndReason.INTERRUPTED
    assert "never" not in agent.output("r")
    assert (store / manifest.key).read_bytes() == layout.encode(manifest)
