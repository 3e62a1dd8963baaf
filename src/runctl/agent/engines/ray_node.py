"""One machine of a Ray cluster: a program that runs with the script's own Python, which has Ray and nothing of ours.

Arguments: what the engine knows, as JSON, then the script's command. Rank 0 starts the head, waits for the others and
runs the script, whose exit code it ends with. The others join, and end when the head is gone. Ray is started with its
own command and stopped by its process number: ``ray stop`` ends every Ray of the computer.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

JOIN_SECONDS = 300
"""For all machines to be in the cluster."""
PATIENCE = {
    "RAY_gcs_server_port_wait_time_s": str(JOIN_SECONDS),
    "RAY_agent_register_timeout_ms": str(1000 * JOIN_SECONDS),
    "RAY_raylet_start_wait_time_s": str(JOIN_SECONDS),
}
"""How long the parts of Ray wait for each other as they start: of itself half a minute, which is not enough where a
machine reads Ray's files for the first time, from an image above all. A part that ends is seen at once all the same."""
LAST_CALL_SECONDS = 20.0
"""For more than the least number of machines, once those are there."""
GONE_SECONDS = 3.0
"""A head that answers nobody for so long is gone: rank 0's agent tells of a machine that is lost."""
STOP_SECONDS = 3.0
TRIES = 5
"""How often Ray is started on a machine where it does not stay up."""
COUNT = """\
import sys, ray
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()))
"""


class Node:
    """Ray on this machine."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.rank: int = told["rank"]
        self.count: int = told["count"]
        self.enough: int = told["enough"]
        self.address: str = told["address"]
        self.head: tuple[str, int] = (told["head"], told["port"])
        self.cluster = "{}:{}".format(*self.head)
        self.options: list[str] = told["options"]
        self.folder = Path(told["folder"])
        self.log = Path(told["folder"] + ".log")
        self.ray: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Ray has been started, with its output in a file."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        command += ["--node-ip-address", self.address, *options, *self.options]
        with self.log.open("wb") as log:
            # A session of its own: what is meant for the script's processes is not for Ray's.
            self.ray = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**PATIENCE, **os.environ},
                start_new_session=True,
            )

    def stop(self) -> None:
        """Nothing is left of the Ray that was started here."""
        if self.ray is not None:
            self.ray.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.ray.wait(STOP_SECONDS)
            with contextlib.suppress(OSError):
                os.killpg(self.ray.pid, signal.SIGKILL)
            self.ray.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.log.exists():
            self.log.unlink()

    def has_ended(self) -> bool:
        """Ray is not running here."""
        return self.ray is None or self.ray.poll() is not None

    def head_answers(self) -> bool:
        """Somebody listens where the head does."""
        try:
            socket.create_connection(self.head, 3.0).close()
        except OSError:
            return False
        return True

    def machines(self) -> int:
        """How many are in the cluster, as far as it says so."""
        # Ray's own calls would follow the variable.
        env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        asked = [sys.executable, "-c", COUNT, self.cluster]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=60, env=env, check=False)
        except subprocess.TimeoutExpired:
            return 0
        last = done.stdout.split()[-1:]
        return int(last[0]) if done.returncode == 0 and last and last[0].isdigit() else 0

    def fail(self, what: str) -> int:
        """Say what is wrong, with Ray's last lines. The exit code."""
        lines = self.log.read_text(errors="replace").splitlines()[-15:] if self.log.exists() else []
        sys.stderr.write("\n".join(["[runctl] " + what, *lines, ""]))
        return 1


def lead(node: Node, command: list[str]) -> int:
    """Rank 0: the cluster, and the script as its driver. The exit code, negative for a signal."""
    node.start("--head", "--port", str(node.head[1]), "--temp-dir", str(node.folder))
    began, seen = time.monotonic(), 0
    enough_at: float | None = None
    while seen < node.count:
        if node.has_ended():
            return node.fail("Ray's head has ended before the script could start")
        if node.head_answers():
            seen = node.machines()
        now = time.monotonic()
        if seen >= node.enough and enough_at is None:
            enough_at = now
        if enough_at is not None and now - enough_at >= LAST_CALL_SECONDS and seen >= node.enough:
            break
        if now - began >= JOIN_SECONDS:
            return node.fail(f"only {seen} of {node.count} machines have joined Ray's cluster")
        time.sleep(0.3)
    sys.stdout.write(f"[runctl] Ray's cluster has {seen} of {node.count} machines\n")
    sys.stdout.flush()
    try:
        script = subprocess.Popen(command)
    except OSError as error:
        sys.stderr.write(f"[runctl] {command[0]} cannot be started: {error.strerror}\n")
        return 127

    def tell(*_: object) -> None:
        if script.poll() is None:
            script.terminate()

    signal.signal(signal.SIGTERM, tell)
    return script.wait()


def follow(node: Node) -> int:
    """Another rank: in the cluster until the head is gone. The exit code."""
    began = time.monotonic()
    while not node.head_answers():
        if time.monotonic() - began >= JOIN_SECONDS:
            return node.fail(f"Ray's head at {node.cluster} did not report")
        time.sleep(0.3)
    # The script is told to end on rank 0, and saves with the machines that it has.
    signal.signal(signal.SIGTERM, lambda *_: None)
    heard_at, tries = time.monotonic(), 0
    while True:
        if node.head_answers():
            heard_at = time.monotonic()
            if node.has_ended():
                if tries == TRIES:
                    return node.fail("Ray does not stay up on this machine")
                tries += 1
                node.start("--address", node.cluster)
        elif time.monotonic() - heard_at >= GONE_SECONDS:
            return 0
        time.sleep(0.5)


def main() -> int:
    """The script's exit code; where the script died of a signal, this process does, too."""
    node, command = Node(json.loads(sys.argv[1])), sys.argv[2:]
    # Until there is a script to tell.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code = lead(node, command) if node.rank == 0 else follow(node)
    finally:
        node.stop()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
