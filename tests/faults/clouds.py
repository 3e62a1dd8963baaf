"""Commands of the clouds that have a REST API: a machine is made, trained on and ended there, and a volume is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tests.faults.jobs import Job
from tests.faults.scenarios import Scenario, Things, new


class CloudJob(Job):
    """At one cloud."""

    cloud: ClassVar[str]
    kind: ClassVar[str]
    """What its machines are called in `Account.things`."""
    asked: ClassVar[tuple[str, ...]]
    """The machine's options."""

    @property
    def where(self) -> tuple[str, ...]:
        """It has no regions."""
        return ("--provider", self.cloud)

    def creation(self) -> list[str]:
        """The command that makes the machine of this round."""
        return [self.cloud, "create", *self.asked, "--name", self.name, "--yes", "--quiet"]


class Created(CloudJob):
    """A machine is rented."""

    def command(self) -> list[str]:
        return self.creation()

    def missing(self, before: Things, after: Things) -> str:
        made = len(new(before, after, self.kind))
        return "" if made == 1 else f"machines: {made}"


class Terminated(CloudJob):
    """It ends, and its volumes stay."""

    def prepare(self) -> None:
        self.machine_id = self.account.ok(*self.creation()).split()[0]

    def command(self) -> list[str]:
        return [self.cloud, "terminate", self.machine_id, "--yes"]

    def missing(self, before: Things, after: Things) -> str:
        return "it is still there" if self.machine_id in after else ""


class Launched(CloudJob):
    """A machine is rented, trained on and given back."""

    def prepare(self) -> None:
        self.project("print('begin', flush=True)\nprint('end')\n")

    def command(self) -> list[str]:
        kept = ("--results", "results", "--no-checkpoint")
        return [self.cloud, "launch", "train.py", *self.asked, *kept, "--wait", "--yes"]

    def missing(self, before: Things, after: Things) -> str:
        left = new(before, after, self.kind)
        return f"not given back: {[each.id for each in left]}" if left else ""


class RunPod(CloudJob):
    cloud = "runpod"
    kind = "pod"
    asked: ClassVar[tuple[str, ...]] = ("--instance-type", "rtx-a5000")


class RunPodCreate(RunPod, Created):
    makes: ClassVar[Mapping[str, int]] = {"pod": 1}


class RunPodTerminate(RunPod, Terminated):
    pass


class RunPodLaunch(RunPod, Launched):
    makes: ClassVar[Mapping[str, int]] = {"pod": 1}


class RunPodVolume(RunPod):
    """A network volume is made."""

    makes: ClassVar[Mapping[str, int]] = {"network volume": 1}

    def command(self) -> list[str]:
        return [
            "runpod",
            "volumes",
            "create",
            "--name",
            self.name,
            "--size",
            "10",
            "--zone",
            "EU-RO-1",
            "--quiet",
        ]

    def missing(self, before: Things, after: Things) -> str:
        made = len(new(before, after, "network volume"))
        return "" if made == 1 else f"volumes: {made}"


class Lyceum(CloudJob):
    cloud = "lyceum"
    kind = "vm"
    asked: ClassVar[tuple[str, ...]] = ("--instance-type", "a100", "--spot")


class LyceumCreate(Lyceum, Created):
    """With a block volume, which nothing but the machine's creation makes."""

    asked = (*Lyceum.asked, "--new-volume", "10")
    makes: ClassVar[Mapping[str, int]] = {"vm": 1, "block volume": 1}


class LyceumTerminate(Lyceum, Terminated):
    asked = LyceumCreate.asked


class LyceumLaunch(Lyceum, Launched):
    makes: ClassVar[Mapping[str, int]] = {"vm": 1}


CLOUDS: Mapping[str, type[Scenario]] = {
    "runpod-create": RunPodCreate,
    "runpod-terminate": RunPodTerminate,
    "runpod-launch": RunPodLaunch,
    "runpod-volume": RunPodVolume,
    "lyceum-create": LyceumCreate,
    "lyceum-terminate": LyceumTerminate,
    "lyceum-launch": LyceumLaunch,
}
"""By the name that `scripts/campaign` knows them by."""
