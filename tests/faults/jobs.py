"""Commands that make several things for one job, and those that remove: for `tests.faults.leaks`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from tests.faults.account import ZONE, until
from tests.faults.leaks import SOURCE
from tests.faults.scenarios import Create, Scenario, Things

_RUN = re.compile(r"run-[a-z0-9]{10}")


class Job(Scenario):
    """What it leaves when it is cut short is what is asked; see `tests.faults.leaks`."""

    def missing(self, before: Things, after: Things) -> str:
        del before, after
        return ""

    def project(self, script: str) -> None:
        self.cwd = self.account.folder / "work" / self.name
        self.cwd.mkdir(parents=True)
        (self.cwd / "train.py").write_text(script)
        (self.cwd / ".runctl.toml").write_text("[project]\nname = 'leaks'\n")


class Launch(Job):
    """A machine is rented, trained on and given back."""

    makes: ClassVar[Mapping[str, int]] = {"instance": 1, "spot request": 1, "root disk": 1}

    def prepare(self) -> None:
        self.project("print('begin', flush=True)\nprint('end')\n")

    def command(self) -> list[str]:
        return ["aws", "launch", "train.py", "--spot", "--no-checkpoint", "--wait", "--yes"]


class Prewarm(Job):
    """A helper machine with a role of its own fills a volume."""

    makes: ClassVar[Mapping[str, int]] = {"instance": 1, "root disk": 1}

    def prepare(self) -> None:
        self.volume()
        self.account.s3.create_bucket(Bucket=SOURCE)
        self.account.s3.put_object(Bucket=SOURCE, Key="data/file", Body=b"data")

    def command(self) -> list[str]:
        return ["aws", "ebs", "prewarm", self.name, "--from", f"s3://{SOURCE}/data", "--yes"]


class Recover(Job):
    """The next attempt of a run whose machine is gone."""

    makes: ClassVar[Mapping[str, int]] = {"instance": 1, "root disk": 1}

    def prepare(self) -> None:
        self.project("import time\nprint('begin', flush=True)\ntime.sleep(600)\n")
        machine = self.account.ok("aws", "create", "--zone", ZONE, "--spot", "--quiet").split()[0]
        started = self.account.ok("aws", "train", machine, "train.py", "--quiet", cwd=self.cwd)
        self.run = _RUN.findall(started)[0]
        self.account.ec2.terminate_instances(InstanceIds=[machine])
        until(lambda: machine not in self.account.things(), what="the machine to be gone")

    def command(self) -> list[str]:
        return ["runs", "recover", self.run, "--yes"]


LATE = """\
import os, pathlib, signal, sys, time

folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
step = 0

def leave(*_):
    part = folder / ".part"
    part.write_text(str(step))
    part.rename(folder / f"step-{step}.json")
    sys.exit(1)

signal.signal(signal.SIGTERM, leave)
while True:
    step += 1
    print(f"step {step}/10000000", flush=True)
    time.sleep(0.1)
"""


class MoveRun(Job):
    """A run that is too slow for its deadline is taken from its spot machine to one on demand."""

    makes: ClassVar[Mapping[str, int]] = {"instance": 1, "root disk": 1}

    def prepare(self) -> None:
        self.project(LATE)
        volume = self.volume()
        until(lambda: self.account.things()[volume].state == "available", what="the volume")
        how = ("--instance-type", "t3.medium", "--ebs-volume", self.name, "--deadline", "1h")
        pace = ("--progress-pattern", r"step (?P<step>\d+)/(?P<total>\d+)")
        started = self.account.ok("aws", "launch", "train.py", *how, *pace, "--yes", "--quiet", cwd=self.cwd)
        self.run = _RUN.findall(started)[0]
        log = ("runs", "logs", self.run)
        until(lambda: "step 50/" in self.account.run(*log).out, seconds=60, what="its pace to be known")

    def command(self) -> list[str]:
        return ["runs", "recover", self.run, "--yes"]


class Cleanup(Job):
    """A cleanup that is cut short itself."""

    def prepare(self) -> None:
        self.account.ok("aws", "create", "--zone", ZONE, "--spot", "--quiet", "--no-wait")
        volume = self.volume()
        until(lambda: self.account.things()[volume].state == "available", what="the volume")
        self.account.ok("aws", "ebs", "snapshot", self.name, "--no-freeze", "--quiet")

    def command(self) -> list[str]:
        return [
            *("resources", "cleanup", "--older-than", "0.001s", "--include", "all", "--yes"),
            *("--region", self.account.info.region),
        ]


class StopAll(Cleanup):
    """Every machine ends."""

    def command(self) -> list[str]:
        return ["resources", "stop-all", "--end", "--yes", "--region", self.account.info.region]


class Setup(Job):
    """The machines' role, the bucket and the alarm."""

    makes: ClassVar[Mapping[str, int]] = {"role": 1, "instance profile": 1, "bucket": 1, "budget alarm": 1}

    def command(self) -> list[str]:
        return ["aws", "setup", "--alarm", "200usd", "--email", "ada@example.com", "--yes"]


class SetupRemove(Setup):
    """They are taken back."""

    makes: ClassVar[Mapping[str, int]] = {}

    def prepare(self) -> None:
        self.account.ok(*super().command())

    def command(self) -> list[str]:
        return ["aws", "setup", "--remove", "--yes"]


class LaunchNodes(Launch):
    """Two machines with a network of their own."""

    makes: ClassVar[Mapping[str, int]] = {
        "instance": 2,
        "root disk": 2,
        "security group": 1,
        "placement group": 1,
    }

    def command(self) -> list[str]:
        how = ("--instance-type", "m5.large", "--nodes", "2", "--engine", "none", "--no-checkpoint")
        return ["aws", "launch", "train.py", *how, "--wait", "--yes"]


class LaunchUnattended(Launch):
    """A group rents the machine, from a template, and keeps what is written in a bucket."""

    makes: ClassVar[Mapping[str, int]] = {"instance": 1, "root disk": 1, "group": 1, "launch template": 1}

    def prepare(self) -> None:
        super().prepare()
        self.account.s3.create_bucket(Bucket=SOURCE)

    def command(self) -> list[str]:
        where = ("--checkpoint-s3", f"s3://{SOURCE}/runs", "--results", f"s3://{SOURCE}/results")
        return ["aws", "launch", "train.py", "--unattended", "--spot", *where, "--yes", "--quiet"]


class CreateOnDemand(Create):
    """With a fresh data volume."""

    makes: ClassVar[Mapping[str, int]] = {"instance": 1, "root disk": 1, "volume": 1}

    def command(self) -> list[str]:
        return ["aws", "create", "--zone", ZONE, "--data-volume-size", "1", "--quiet"]


JOBS: Mapping[str, type[Scenario]] = {
    "launch": Launch,
    "prewarm": Prewarm,
    "recover": Recover,
    "move-run": MoveRun,
    "cleanup": Cleanup,
    "stop-all": StopAll,
    "create-on-demand": CreateOnDemand,
    "setup": Setup,
    "setup-remove": SetupRemove,
    "launch-nodes": LaunchNodes,
    "launch-unattended": LaunchUnattended,
}
"""By the name that `scripts/campaign` knows them by."""
