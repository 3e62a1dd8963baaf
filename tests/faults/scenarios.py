"""The commands that faults are put into: what is there before, the command, and what makes its job done once."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from runctl.providers.aws.calls.parse import mounts_of
from tests.faults.account import OTHER_ZONE, OWNED, ZONE, Account, Thing, until

Things = Mapping[str, Thing]
_RUN = re.compile(r"run-[a-z0-9]{10}")


class Scenario(ABC):
    """One command, again and again in an account that is cleaned in between."""

    makes: ClassVar[Mapping[str, int]] = {}
    """How many new things of a kind one success leaves, where more would be too many."""
    needs_machine: ClassVar[bool] = False

    def __init__(self, account: Account, transport: str = "auto") -> None:
        self.account = account
        self.way = [] if transport == "auto" else ["--transport", transport]
        self.machine = ""
        self.number = 0
        self.cwd: Path | None = None
        self.shares_with: Sequence[Scenario] = ()
        """Scenarios that use, and keep, the same machine."""

    @property
    def name(self) -> str:
        """Of what this round is about."""
        return f"{type(self).__name__.lower()}{self.number}"

    @property
    def where(self) -> tuple[str, ...]:
        """The options by which the commands about resources look only where this one makes something."""
        return ("--region", self.account.info.region)

    def begin(self) -> None:
        """A clean account with what the command needs."""
        self.number += 1
        things = self.account.things()
        if self.machine not in things:
            self.machine = ""
        # Its root disk and spot request go with it.
        self.account.clean(frozenset({self.machine} if self.machine else ()))
        if self.needs_machine and not self.machine:
            self.machine = self.account.ok("aws", "create", "--zone", ZONE, "--quiet").split()[0]
            for other in self.shares_with:
                other.machine = self.machine
        self.prepare()

    def prepare(self) -> None:  # noqa: B027 - many need nothing
        """What this command needs beyond a machine is there."""

    @abstractmethod
    def command(self) -> list[str]:
        """runctl's arguments."""

    @abstractmethod
    def missing(self, before: Things, after: Things) -> str:
        """Empty when the job is done; else what is not."""

    def volume(self) -> str:
        """A new volume of this round's name; its id. By AWS's own calls: making one is not what is tested here."""
        owned = {OWNED: "true", "runctl:owner": self.account.user, "Name": self.name}
        tags = [{"Key": key, "Value": value} for key, value in owned.items()]
        created = self.account.ec2.create_volume(
            AvailabilityZone=ZONE,
            Size=1,
            VolumeType="gp3",
            Encrypted=True,
            TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
        )
        return str(created["VolumeId"])

    def attached(self) -> str:
        """The same, mounted on the machine."""
        volume = self.volume()
        where = f"/mnt/{self.name}"
        self.account.ok("aws", "ebs", "attach", self.name, self.machine, "--mount-point", where)
        return volume

    def can_write(self) -> str:
        """Empty where the volume on the machine takes writes: it is not frozen."""
        script = f"echo x > /mnt/{self.name}/g && sync -f /mnt/{self.name}"
        seen = self.account.run("aws", "exec", self.machine, "-n", "--", "timeout", "5", "sh", "-c", script)
        return "" if seen.code == 0 else f"the volume cannot be written to: {seen.err[-100:]}"


class EbsCreate(Scenario):
    makes: ClassVar[Mapping[str, int]] = {"volume": 1}

    def command(self) -> list[str]:
        return ["aws", "ebs", "create", "--size", "1", "--name", self.name, "--zone", ZONE, "--quiet"]

    def missing(self, before: Things, after: Things) -> str:
        states = [t.state for t in new(before, after, "volume") if t.tags.get("Name") == self.name]
        return "" if states == ["available"] else f"volumes of the name: {states}"


class EbsCreateUnnamed(EbsCreate):
    def command(self) -> list[str]:
        return ["aws", "ebs", "create", "--size", "1", "--zone", ZONE, "--quiet"]

    def missing(self, before: Things, after: Things) -> str:
        return "" if new(before, after, "volume") else "there is no volume"


class EbsAttach(Scenario):
    needs_machine: ClassVar[bool] = True

    def prepare(self) -> None:
        self.id = self.volume()

    def command(self) -> list[str]:
        return [
            "aws",
            "ebs",
            "attach",
            self.name,
            self.machine,
            "--mount-point",
            f"/mnt/{self.name}",
            *self.way,
        ]

    def missing(self, before: Things, after: Things) -> str:
        if self.machine not in after[self.id].attached_to:
            return "it is not attached"
        find = ("findmnt", "-n", "-o", "FSTYPE", f"/mnt/{self.name}")
        seen = self.account.run("aws", "exec", self.machine, "-n", "--", *find)
        return "" if seen.out.strip() == "ext4" else f"it is not mounted: {seen.out!r} {seen.err[-100:]!r}"


class EbsDetach(EbsAttach):
    def prepare(self) -> None:
        self.id = self.attached()

    def command(self) -> list[str]:
        return ["aws", "ebs", "detach", self.name, "--yes", *self.way]

    def missing(self, before: Things, after: Things) -> str:
        if after[self.id].state != "available":
            return f"it is {after[self.id].state}"
        if self.id in mounts_of(after[self.machine].tags):
            return "the machine will mount it again: its tag names it"
        table = self.account.run("aws", "exec", self.machine, "-n", "--", "cat", "/etc/fstab").out
        return f"fstab still has /mnt/{self.name}" if f"/mnt/{self.name} " in table else ""


class EbsSnapshot(EbsAttach):
    makes: ClassVar[Mapping[str, int]] = {"snapshot": 1}

    def prepare(self) -> None:
        self.id = self.attached()

    def command(self) -> list[str]:
        return ["aws", "ebs", "snapshot", self.name, "--name", f"s-{self.name}", "--quiet", *self.way]

    def missing(self, before: Things, after: Things) -> str:
        states = [t.state for t in new(before, after, "snapshot")]
        return self.can_write() if states == ["completed"] else f"snapshots: {states}"


class EbsSnapshotUnnamed(EbsAttach):
    needs_machine: ClassVar[bool] = False
    makes: ClassVar[Mapping[str, int]] = {"snapshot": 1}

    def command(self) -> list[str]:
        return ["aws", "ebs", "snapshot", self.name, "--quiet", "--no-freeze"]

    def missing(self, before: Things, after: Things) -> str:
        return "" if new(before, after, "snapshot") else "there is no snapshot"


class EbsRestore(Scenario):
    makes: ClassVar[Mapping[str, int]] = {"volume": 1}

    def prepare(self) -> None:
        self.volume()
        self.account.ok("aws", "ebs", "snapshot", self.name, "--name", f"s-{self.name}", "--no-freeze")

    def command(self) -> list[str]:
        named = ("--name", f"r-{self.name}")
        return ["aws", "ebs", "restore", f"s-{self.name}", *named, "--zone", ZONE, "--quiet"]

    def missing(self, before: Things, after: Things) -> str:
        names = [t.tags.get("Name") for t in new(before, after, "volume")]
        return "" if names == [f"r-{self.name}"] else f"volumes: {names}"


class EbsClone(EbsSnapshot):
    makes: ClassVar[Mapping[str, int]] = {"volume": 1}

    def command(self) -> list[str]:
        return ["aws", "ebs", "clone", self.name, "--name", f"c-{self.name}", "--yes", "--quiet", *self.way]

    def missing(self, before: Things, after: Things) -> str:
        names = [t.tags.get("Name") for t in new(before, after, "volume")]
        return self.can_write() if names == [f"c-{self.name}"] else f"volumes: {names}"


class EbsMove(EbsAttach):
    needs_machine: ClassVar[bool] = False
    makes: ClassVar[Mapping[str, int]] = {"volume": 1}

    def command(self) -> list[str]:
        to = ("--zone", OTHER_ZONE, "--no-initialization-rate")
        return ["aws", "ebs", "move", self.name, *to, "--yes", "--quiet"]

    def missing(self, before: Things, after: Things) -> str:
        zones = [t.zone for t in after.values() if t.kind == "volume" and t.tags.get("Name") == self.name]
        if zones != [OTHER_ZONE]:
            return f"volumes of the name: {zones}"
        left = [t.id for t in after.values() if "runctl:move" in t.tags or t.kind == "snapshot"]
        return f"left over: {left}" if left else ""


class EbsDelete(EbsAttach):
    needs_machine: ClassVar[bool] = False

    def command(self) -> list[str]:
        return ["aws", "ebs", "delete", self.name, "--yes"]

    def missing(self, before: Things, after: Things) -> str:
        return f"it is {after[self.id].state}" if self.id in after else ""


class Create(Scenario):
    makes: ClassVar[Mapping[str, int]] = {"instance": 1, "spot request": 1, "root disk": 1}

    def prepare(self) -> None:
        self.id = self.volume()

    def command(self) -> list[str]:
        with_volume = ("--ebs-volume", self.name, "--mount-point", "/mnt/data")
        return ["aws", "create", "--spot", *with_volume, "--quiet"]

    def missing(self, before: Things, after: Things) -> str:
        created = tuple(t.id for t in new(before, after, "instance"))
        if len(created) != 1 or after[self.id].attached_to != created:
            return f"instances {created}, the volume is on {after[self.id].attached_to}"
        seen = self.account.run("aws", "exec", created[0], "-n", "--", "findmnt", "-n", "/mnt/data")
        return "" if seen.code == 0 else f"/mnt/data is not mounted: {seen.err[-100:]}"


class Terminate(Create):
    makes: ClassVar[Mapping[str, int]] = {}

    def prepare(self) -> None:
        super().prepare()
        self.instance = self.account.ok(*super().command(), "--no-wait").split()[0]

    def command(self) -> list[str]:
        return ["aws", "terminate", self.instance, "--yes"]

    def missing(self, before: Things, after: Things) -> str:
        def is_gone() -> bool:
            now = self.account.things()
            return self.instance not in now and now[self.id].state == "available"

        until(is_gone, what="the machine to be gone and its volume free")
        return ""


class Train(Scenario):
    """On the host. Again, it is another run: what counts is that every run is known, and told truly."""

    needs_machine: ClassVar[bool] = True

    def prepare(self) -> None:
        self.cwd = self.account.folder / "work" / self.name
        self.cwd.mkdir(parents=True)
        (self.cwd / "train.py").write_text("print('begin', flush=True)\nprint('end')\n")
        (self.cwd / ".runctl.toml").write_text("[project]\nname = 'faults'\n")

    def command(self) -> list[str]:
        return ["aws", "train", self.machine, "train.py", "--wait", *self.way]

    def missing(self, before: Things, after: Things) -> str:
        shown = self.account.run("aws", "processes", self.machine, "--all", "--output", "json").out
        known = self.account.run("runs", "list", "--output", "json").out
        unknown = set(_RUN.findall(shown)) - set(_RUN.findall(known))
        return f"runs that are not known here: {sorted(unknown)}" if unknown else ""


SCENARIOS: Mapping[str, type[Scenario]] = {
    "create": Create,
    "terminate": Terminate,
    "train": Train,
    "ebs-create": EbsCreate,
    "ebs-create-unnamed": EbsCreateUnnamed,
    "ebs-attach": EbsAttach,
    "ebs-detach": EbsDetach,
    "ebs-snapshot": EbsSnapshot,
    "ebs-snapshot-unnamed": EbsSnapshotUnnamed,
    "ebs-restore": EbsRestore,
    "ebs-clone": EbsClone,
    "ebs-move": EbsMove,
    "ebs-delete": EbsDelete,
}
"""By the name that `scripts/campaign` knows them by."""


def new(before: Things, after: Things, kind: str) -> list[Thing]:
    """The things of a kind that were not there before."""
    return [thing for thing in after.values() if thing.kind == kind and thing.id not in before]
