"""A machine that is taken back: the script saves in time, and the end record says what the next attempt finds."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from pathlib import Path

import pytest

from runctl.agent.checkpoint_spec import StoreSpec
from runctl.agent.checkpoints import layout
from runctl.agent.checkpoints.stores import open_store
from runctl.agent.end_reason import EndReason
from runctl.agent.interruption import HAND_OFF_STAGES
from runctl.agent.spec import RunState
from tests.agent.driver import Agent, until
from tests.agent.metadata_service import MetadataService
from tests.agent.s3_bucket import Bucket
from tests.agent.store_proxy import Proxy
from tests.agent.supervising.test_stop import STUBBORN

pytestmark = pytest.mark.linux

SAVES = """\
import json, os, signal, sys, time
folder = os.environ["RUNCTL_CHECKPOINT_DIR"]
step = 0
def save(number, _):
    open(folder + "/.new", "w").write(json.dumps({"step": step}))
    os.replace(folder + "/.new", f"{folder}/step-{step}.json")
    # In one piece: the supervisor says something of its own at the same time.
    os.write(1, b"saved by %d\\n" % number)
    if number == signal.SIGTERM:
        sys.exit(0)
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGUSR1, save)
print("up", flush=True)
while True:
    step += 1
    time.sleep(0.01)
"""


def test_a_notice_lets_the_script_save_and_the_end_record_hands_over(
    agent: Agent, metadata: MetadataService
) -> None:
    agent.sync({"train.py": SAVES})
    agent.start("r", "train.py")
    agent.says("r", "up")
    metadata.recommend_rebalance()
    agent.says("r", f"saved by {int(signal.SIGUSR1)}")
    assert agent.status("r").state is RunState.RUNNING
    assert agent.status("r").rebalance_at is not None
    metadata.interrupt(90)
    end = agent.ended("r")
    assert (end.reason, end.exit_code) == (EndReason.INTERRUPTED, 0)
    assert end.message.startswith("EC2 takes the spot machine back at ")
    given = end.hand_off
    assert given is not None
    in_turn = sorted(given.stages, key=given.stages.__getitem__)
    assert in_turn == ["heard", "signalled", "script_ended", "verified"]
    assert in_turn == [stage for stage in HAND_OFF_STAGES if stage in in_turn]
    assert given.stages["verified"] <= end.ended_at < given.machine_ends_at
    assert given.checkpoint == f"step-{given.step}.json"
    saved = (agent.state / "runs/r/checkpoints" / given.checkpoint).read_bytes()
    assert given.sha256 == hashlib.sha256(saved).hexdigest()
    assert (given.left, given.is_rehearsal) == ((), False)


def test_with_a_store_the_checkpoint_is_published_before_the_end_is_written(
    agent: Agent, metadata: MetadataService, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    agent.sync({"train.py": SAVES})
    agent.start("r", "train.py", store={"url": str(tmp_path / "store")})
    agent.says("r", "up")
    metadata.interrupt(90)
    given = agent.ended("r").hand_off
    assert given is not None
    in_turn = sorted(given.stages, key=given.stages.__getitem__)
    assert in_turn == ["heard", "signalled", "script_ended", "verified", "published"]
    store = tmp_path / "store/r"
    assert (store / "data" / str(given.sha256)).is_file()
    (kept,) = store.glob("attempts/*/end.json")
    assert json.loads(kept.read_text())["hand_off"]["checkpoint"] == given.checkpoint


def test_a_store_that_is_away_delays_no_end_and_the_hand_over_says_what_it_lacks(
    agent: Agent, metadata: MetadataService, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    agent.sync({"train.py": SAVES})
    agent.start("r", "train.py", store={"url": str(tmp_path / "store")})
    agent.says("r", "up")
    (tmp_path / "store").rename(tmp_path / "away")
    metadata.interrupt(10)
    end = agent.ended("r")
    assert end.reason is EndReason.INTERRUPTED
    assert end.hand_off is not None
    assert end.ended_at < end.hand_off.machine_ends_at
    # It was on this machine alone, and no other one will find it.
    assert end.hand_off.checkpoint is None
    assert "verified" in end.hand_off.stages
    assert "published" not in end.hand_off.stages
    assert any("published" in sentence for sentence in end.hand_off.left)


LARGE = """\
import os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
def save(*_):
    (folder / ".new").write_bytes(os.urandom(4 << 20))
    (folder / ".new").rename(folder / "step-2.bin")
    sys.exit(int(sys.argv[1]))
(folder / "step-1.json").write_text("{}")
signal.signal(signal.SIGTERM, save)
print("up", flush=True)
if sys.argv[1] == "0":
    save()
while True:
    time.sleep(0.1)
"""


@pytest.mark.parametrize("completes", [False, True])
def test_a_store_that_is_too_slow_for_a_checkpoint_has_the_log_and_the_end_before_the_machine_is_gone(
    agent: Agent, metadata: MetadataService, bucket: Bucket, s3_account: dict[str, str], completes: bool
) -> None:
    """Also where the run had completed, and would be run once more without them."""
    agent.env.update(bucket.account)
    agent.sync({"train.py": LARGE})
    store = open_store(StoreSpec(f"s3://{bucket.name}/runs"), "r", bucket.account)
    with Proxy(s3_account["AWS_ENDPOINT_URL"]) as proxy:
        proxy.holds_large = True
        url = {"url": f"s3://{bucket.name}/runs", "endpoint": proxy.url}
        agent.start("r", "train.py", "0" if completes else "1", store=url)
        if completes:
            until(lambda: agent.status("r").phase.startswith("publishing"), "the last checkpoint")
        else:
            until(lambda: list(store.keys("checkpoints/")), "the first checkpoint")
        metadata.interrupt(16)
        ends_at = time.time() + 16

        end = agent.ended("r")

    assert end.reason is (EndReason.COMPLETED if completes else EndReason.INTERRUPTED)
    assert end.ended_at < ends_at
    told = json.loads(store.read("attempts/0001/end.json"))
    assert (told["reason"], told["log_bytes"]) == (end.reason.value, end.log_bytes)
    assert (
        b"".join(store.read(key) for key in store.keys(layout.log_prefix(1)))
        == agent.folder("r").joinpath("log").read_bytes()
    )
    store.close()
    assert "could not be published in time" in agent.log("r")
    if not completes:
        assert end.hand_off is not None
        # What is on this machine alone goes with it.
        assert end.hand_off.checkpoint == "step-1.json"


def test_a_script_that_ignores_sigterm_is_killed_before_the_machine_ends(
    agent: Agent, metadata: MetadataService
) -> None:
    agent.sync({"train.py": STUBBORN})
    agent.start("r", "train.py", grace_seconds=600.0)
    agent.says("r", "up")
    metadata.interrupt(10)
    end = agent.ended("r")
    assert (end.reason, end.signal) == (EndReason.INTERRUPTED, signal.SIGKILL)
    assert end.hand_off is not None
    assert end.ended_at < end.hand_off.machine_ends_at
    assert end.hand_off.checkpoint is None
    assert any("starts from the beginning" in sentence for sentence in end.hand_off.left)


def test_a_notice_during_the_set_up_is_an_interruption_too(agent: Agent, metadata: MetadataService) -> None:
    agent.sync({"train.py": "print('never')\n", "setup.py": "import time\ntime.sleep(600)\n"})
    agent.start("r", "train.py", dependencies={"kind": "package", "path": "setup.py"})
    until(lambda: "installing" in agent.log("r"), "the set-up")
    metadata.interrupt(60)
    end = agent.ended("r")
    assert end.reason is EndReason.INTERRUPTED
    assert "never" not in agent.output("r")
    assert end.hand_off is not None
    assert end.hand_off.checkpoint is None


def test_a_user_rehearses_an_interruption_anywhere(agent: Agent) -> None:
    agent.sync({"train.py": SAVES})
    agent.start("r", "train.py")
    agent.says("r", "up")
    assert agent.call("interrupt", {"run_id": "r", "seconds": 60.0}).ok["state"] in ("RUNNING", "STOPPING")
    end = agent.ended("r")
    assert end.reason is EndReason.INTERRUPTED
    assert "rehearsed" in end.message
    assert end.hand_off is not None
    assert end.hand_off.checkpoint is not None
    assert end.hand_off.is_rehearsal
    assert agent.call("interrupt", {"run_id": "r"}).error["code"] == "has-ended"
