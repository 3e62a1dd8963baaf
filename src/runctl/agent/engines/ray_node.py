"""One machine of a Ray cluster: runs with the script's own Python, which has Ray, and has nothing else of ours.

Arguments: what the engine knows, as JSON, then the script's command. Rank 0 starts the head, waits for the others and runs
the script; its exit code is the script's. The others join, and end when the head is gone. Ray is started with its own
command and stopped by its process number: ``ray stop`` ends every Ray of the computer.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

JOIN_SECONDS = 300.0
"""For all machines to be in the cluster."""
LAST_CALL_SECONDS = 20.0
"""For more than the least number of machines, once those are there."""
GONE_SECONDS = 3.0
"""A head that answers nobody for so long is gone: rank 0's agent tells of a machine that is lost."""
STOP_SECONDS = 3.0
TRIES = 5
"""How often Ray is started on a machine where it does not stay up."""
NODES = """\
import sys, ray
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()))
"""


class Node:
    """Ray on this machine."""

    def __init__(self, told):
        self.told = told
        self.cluster = "{}:{}".format(told["head"], told["port"])
        self.folder = told["folder"]
        self.log = self.folder + ".log"
        self.ray = None

    def start(self, *more):
        """Ray has been started, with its output in a file."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        command += ["--node-ip-address", self.told["address"], *more, *self.told["options"]]
        # A session of its own: what is meant for the script's processes is not for Ray's.
        with open(self.log, "wb") as log:
            self.ray = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self):
        """Nothing of Ray is left on this machine that was started here."""
        if self.ray is not None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    if number == signal.SIGTERM:
                        self.ray.send_signal(number)
                    else:
                        os.killpg(self.ray.pid, number)
                    self.ray.wait(STOP_SECONDS)
                except (OSError, subprocess.TimeoutExpired):
                    continue
        shutil.rmtree(self.folder, ignore_errors=True)
        if os.path.exists(self.log):
            os.unlink(self.log)

    def ended(self):
        """Ray has ended here."""
        return self.ray is None or self.ray.poll() is not None

    def head_answers(self):
        """Somebody listens where the head does."""
        try:
            socket.create_connection((self.told["head"], self.told["port"]), 3.0).close()
        except OSError:
            return False
        return True

    def machines(self):
        """How many are in the cluster."""
        asked = [sys.executable, "-c", NODES, self.cluster]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, env=without_address())
        words = done.stdout.split()
        return int(words[-1]) if done.returncode == 0 and words else 0

    def fail(self, what):
        """Say why, with Ray's own last words."""
        try:
            with open(self.log, errors="replace") as file:
                said = "".join(file.readlines()[-15:])
        except OSError:
            said = ""
        sys.stderr.write("[runctl] {}\n{}".format(what, said))
        return 1


def without_address():
    """The environment without RAY_ADDRESS, which commands of Ray's would follow."""
    return {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}


def lead(node, command):
    """Rank 0: the cluster, and the script in it."""
    told = node.told
    node.start("--head", "--port", str(told["port"]), "--temp-dir", node.folder)
    began, enough_at = time.monotonic(), None
    seen = 0
    while seen < told["count"]:
        now = time.monotonic()
        if node.ended():
            return node.fail("Ray's head has ended before the script could start")
        if node.head_answers():
            seen = max(seen, node.machines())
        if seen >= told["enough"] and enough_at is None:
            enough_at = now
        if enough_at is not None and now - enough_at >= LAST_CALL_SECONDS:
            break
        if now - began >= JOIN_SECONDS:
            return node.fail("only {} of {} machines have joined Ray's cluster".format(seen, told["count"]))
        time.sleep(0.3)
    print("[runctl] Ray's cluster has {} of {} machines".format(seen, told["count"]), flush=True)
    try:
        script = subprocess.Popen(command)
    except OSError as error:
        sys.stderr.write("[runctl] {} cannot be started: {}\n".format(command[0], error.strerror))
        return 127
    signal.signal(signal.SIGTERM, lambda *_: script.poll() is None and script.send_signal(signal.SIGTERM))
    return script.wait()


def follow(node):
    """Another rank: in the cluster until the head is gone."""
    began = time.monotonic()
    while not node.head_answers():
        if time.monotonic() - began >= JOIN_SECONDS:
            return node.fail("Ray's head at {} was not heard of".format(node.cluster))
        time.sleep(0.3)
    # The script is told to end on rank 0: it saves with the machines that it has.
    signal.signal(signal.SIGTERM, lambda *_: None)
    heard_at, tries = time.monotonic(), 0
    while True:
        if node.head_answers():
            heard_at = time.monotonic()
            if node.ended():
                if tries == TRIES:
                    return node.fail("Ray does not stay up on this machine")
                tries += 1
                node.start("--address", node.cluster)
        elif time.monotonic() - heard_at >= GONE_SECONDS:
            return 0
        time.sleep(1.0)


def main():
    """The script's exit code; its signal, where it has died of one."""
    node, command = Node(json.loads(sys.argv[1])), sys.argv[2:]
    # Until there is a script to tell.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code = lead(node, command) if node.told["rank"] == 0 else follow(node)
    finally:
        node.stop()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
