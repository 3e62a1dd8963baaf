"""Two machines and one training: ``launch --nodes 2 --engine torchrun`` against the same torchrun started by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from benchmarks.measure import Result, Skipped, interleaved
from runctl.agent.environments.installer_settings import for_uv
from runctl.sandbox import control
from runctl.sandbox.abilities import why_no_namespaces
from runctl.sandbox.connection import SandboxInfo

ROUNDS = 3
WHAT = "nothing to the first step of torchrun on two machines"
PEER = "rented and started by hand over ssh"
IMAGE, USER, KIND = "ami-0a12023000000001", "ec2-user", "m5.large"
"""What ``launch`` takes for that type, too."""
PORT = 29500
FIRST_STEP = "step 1 loss"
REQUIREMENTS = "torch==2.13.0\nnumpy\n"
SCRIPT = """\
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
torch.manual_seed(0)
dist.init_process_group("gloo")
rank = dist.get_rank()
model = DistributedDataParallel(torch.nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
inputs, labels = torch.randn(256, 64), torch.randint(10, (256,))
for step in range(1, 11):
    loss = torch.nn.functional.cross_entropy(model(inputs), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if rank == 0:
        print(f"step {step} loss {loss.item():.4f}", flush=True)
dist.destroy_process_group()
"""


def measure() -> Iterator[Result]:
    """From nothing rented to the first step, as whoever started it sees it; both install PyTorch with uv."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if against := why_no_namespaces():
        raise Skipped(f"needs machines that are reached over SSH: {against}")
    if uv is None:
        raise Skipped("uv is not installed")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        project = folder / "project"
        project.mkdir()
        (project / "train.py").write_text(SCRIPT)
        (project / "requirements.txt").write_text(REQUIREMENTS)
        with sandbox(folder) as info:
            account = Account(info, folder)
            ours = Launch(project, {**info.environment(), "XDG_DATA_HOME": str(folder / "data")})
            theirs = ByHand(project, account, uv)

            def clean_up() -> None:
                ours.finish()
                theirs.finish()
                account.wait_until_empty()

            try:
                result = interleaved(
                    WHAT, ours.to_first_step, PEER, theirs.to_first_step, rounds=ROUNDS, before=clean_up
                )
            finally:
                clean_up()
    yield result
    later = result.ours - (result.theirs or 0.0)
    yield Result("the same, how much later than by hand", later, "", None, ROUNDS, 10.0)


@contextmanager
def sandbox(folder: Path) -> Iterator[SandboxInfo]:
    """Machines with roots and addresses of their own, without Docker."""
    home = folder / "data" / "runctl" / "sandbox"
    try:
        yield control.start(home=home, kind="namespaces", docker="off")
    finally:
        control.stop(home=home)


class Account:
    """What somebody who works by hand has in their account: a key pair, and a group whose machines reach each other."""

    def __init__(self, info: SandboxInfo, folder: Path) -> None:
        environment = info.environment()
        self.ec2: Any = boto3.client(
            "ec2",
            endpoint_url=info.endpoint_url,
            region_name=info.region,
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )
        self.identity = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.identity], check=True)
        public = self.identity.with_suffix(".pub").read_bytes()
        self.ec2.import_key_pair(KeyName="by-hand", PublicKeyMaterial=public)
        self.group = self.ec2.create_security_group(GroupName="by-hand", Description="by hand")["GroupId"]
        self.ec2.authorize_security_group_ingress(
            GroupId=self.group,
            IpPermissions=[
                {
                    "IpProtocol": "tcp",
                    "FromPort": 22,
                    "ToPort": 22,
                    "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
                },
                {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": self.group}]},
            ],
        )

    def rent(self) -> dict[str, str]:
        """Two machines that run: their private addresses by their ids."""
        asked = self.ec2.run_instances(
            ImageId=IMAGE,
            InstanceType=KIND,
            KeyName="by-hand",
            SecurityGroupIds=[self.group],
            MinCount=2,
            MaxCount=2,
        )
        ids = [each["InstanceId"] for each in asked["Instances"]]
        while True:
            found = self.instances(ids)
            if all(each["State"]["Name"] == "running" for each in found):
                return {each["InstanceId"]: each["PrivateIpAddress"] for each in found}
            time.sleep(0.2)

    def instances(self, ids: list[str] | None = None) -> list[dict[str, Any]]:
        """Those, or all, as EC2 has them."""
        answer = self.ec2.describe_instances(**({} if ids is None else {"InstanceIds": ids}))
        return [each for reservation in answer["Reservations"] for each in reservation["Instances"]]

    def wait_until_empty(self) -> None:
        """Return when every machine has ended. Raises `RuntimeError` after two minutes."""
        limit = time.monotonic() + 120
        while left := [e["InstanceId"] for e in self.instances() if e["State"]["Name"] != "terminated"]:
            if time.monotonic() > limit:
                raise RuntimeError(f"still there: {', '.join(left)}")
            time.sleep(0.5)


def installer_variables() -> dict[str, str]:
    """What tells this computer's pip where PyTorch is, for the machines' uv."""
    pips = {name: value for name, value in os.environ.items() if name in {"PIP_FIND_LINKS", "PIP_INDEX_URL"}}
    return for_uv(pips)


def until_first_step(process: subprocess.Popen[str]) -> None:
    """Read what it writes up to the first step. Raises `RuntimeError` where it ends before."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        if FIRST_STEP in line:
            return
        seen.append(line)
    raise RuntimeError(f"it ended with {process.wait()} before its first step: {''.join(seen)[-3000:]}")


@dataclass
class Launch:
    """``runctl aws launch``, in that project."""

    project: Path
    environment: Mapping[str, str]
    _process: subprocess.Popen[str] | None = None

    def to_first_step(self) -> None:
        """Returns when the first step has been seen."""
        options = [
            word for name, value in installer_variables().items() for word in ("--env", f"{name}={value}")
        ]
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "runctl", "aws", "launch", "train.py"),
                *("--nodes", "2", "--engine", "torchrun", "--engine-args", "--nproc-per-node 1"),
                *("--instance-type", KIND, "--on-demand", "--no-checkpoint", "--no-results"),
                *(*options, "--yes", "--wait"),
            ],
            cwd=self.project,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until_first_step(self._process)

    def finish(self) -> None:
        """It has ended well, and its machines are given back."""
        process, self._process = self._process, None
        if process is None:
            return
        said, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"runctl aws launch ended with {process.returncode}: {said[-3000:]}")


@dataclass
class ByHand:
    """The same with EC2's own calls, ssh and scp: no more than has to be done, and side by side where it can be."""

    project: Path
    account: Account
    uv: str
    _ended: ExitStack = field(default_factory=ExitStack)

    def to_first_step(self) -> None:
        """Returns when the first step has been seen."""
        machines = self.account.rent()
        self._ended.callback(self.account.ec2.terminate_instances, InstanceIds=list(machines))
        addresses = list(machines.values())
        with ThreadPoolExecutor() as both:
            list(both.map(self._prepare, addresses))
        # Rank 0 is started last, as the one that is listened to.
        for rank in (1, 0):
            process = self._torchrun(addresses, rank)
            self._ended.callback(process.wait)
        until_first_step(process)
        self._ended.callback(process.communicate)

    def finish(self) -> None:
        """Its processes have ended, and its machines are given back."""
        self._ended.close()

    def _prepare(self, address: str) -> None:
        while subprocess.run([*self._ssh(address), "true"], check=False, capture_output=True).returncode:
            time.sleep(0.2)
        files = [self.uv, str(self.project / "train.py"), str(self.project / "requirements.txt")]
        copy = ["scp", "-q", *self._options(), *files, f"{USER}@{address}:"]
        subprocess.run(copy, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        settings = [f"{name}={value}" for name, value in installer_variables().items()]
        for words in (["venv", "--quiet", "env"], ["pip", "install", "--quiet", "-r", "requirements.txt"]):
            command = [*self._ssh(address), "env", "VIRTUAL_ENV=env", *settings, "./uv", *words]
            done = subprocess.run(
                command, check=False, capture_output=True, stdin=subprocess.DEVNULL, text=True
            )
            if done.returncode:
                raise RuntimeError(
                    f"uv {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}"
                )

    def _torchrun(self, addresses: list[str], rank: int) -> subprocess.Popen[str]:
        words = [
            *("env", "GLOO_SOCKET_IFNAME=eth0", "OMP_NUM_THREADS=2"),
            *("env/bin/python", "-m", "torch.distributed.run", "--nproc-per-node=1", "--nnodes=2"),
            *(f"--node-rank={rank}", "--rdzv-backend=static", f"--rdzv-endpoint={addresses[0]}:{PORT}"),
            *(f"--local-addr={addresses[rank]}", "train.py"),
        ]
        return subprocess.Popen(
            [*self._ssh(addresses[rank]), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _ssh(self, address: str) -> list[str]:
        return ["ssh", *self._options(), f"{USER}@{address}"]

    def _options(self) -> list[str]:
        settings = {
            "IdentityFile": self.account.identity,
            "IdentitiesOnly": "yes",
            # Each machine is a new one, at an address that another has had.
            "UserKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "no",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ConnectTimeout": "5",
        }
        return [
            "-F",
            "none",
            *(word for name, value in settings.items() for word in ("-o", f"{name}={value}")),
        ]
