"""What a machine is: asked in one short command, and remembered for when it does not answer."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from runctl.core.errors import MachineError
from runctl.core.files import cache_folder, write_atomically

ASK = """\
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
echo "boot $boot"
echo "booted $(sed -n 's/^btime //p' /proc/stat)"
echo "home $HOME"
echo "system $(uname -s | tr A-Z a-z) $(uname -m)"
echo "cpus $(getconf _NPROCESSORS_ONLN)"
if [ "$boot" = "$1" ]; then
    echo "same gpus"
elif gpus=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null); then
    echo "$gpus" | sed 's/^/gpu /'
fi
"""
"""``sh -c ASK sh BOOT``. The driver may need seconds for its answer, so it is asked once after each boot."""


@dataclass(frozen=True)
class Facts:
    """What is known of a machine."""

    boot: str
    """Another one after each boot."""
    booted: int
    """Seconds since the epoch."""
    home: str
    """The login user's."""
    system: str
    """Such as ``linux``."""
    architecture: str
    """Such as ``x86_64``."""
    cpus: int
    gpus: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What takes the place of an instance type: the GPUs, or the processors."""
        if self.gpus:
            return ", ".join(f"{count} x {name}" for name, count in Counter(self.gpus).items())
        return f"{self.architecture}, {self.cpus} CPUs"

    @property
    def platform(self) -> str:
        """For which platform images for it are built."""
        names = {"x86_64": "amd64", "aarch64": "arm64"}
        return f"{self.system}/{names.get(self.architecture, self.architecture)}"

    @property
    def booted_at(self) -> datetime:
        """The nearest to a creation that a machine of one's own has."""
        return datetime.fromtimestamp(self.booted, UTC)


def parse(said: str, before: Facts | None) -> Facts:
    """The answer to `ASK`; ``before`` has the GPUs of the same boot. Pure. Raises `MachineError`."""
    pairs = [line.partition(" ")[::2] for line in said.splitlines()]
    values = dict(pairs)
    gpus = tuple(name.strip() for key, name in pairs if key == "gpu")
    try:
        system, architecture = values["system"].split()
        return Facts(
            boot=values["boot"],
            booted=int(values["booted"]),
            home=values["home"],
            system=system,
            architecture=architecture,
            cpus=int(values["cpus"]),
            gpus=before.gpus if before is not None and "same" in values else gpus,
        )
    except (KeyError, ValueError) as error:
        raise MachineError(
            f"the machine does not say what it is, but {said[:200]!r}", hint="runctl trains on Linux"
        ) from error


@dataclass(frozen=True)
class FactsMemory:
    """What was seen last of each machine, in a file that may be lost."""

    file: Path

    @classmethod
    def in_cache(cls) -> FactsMemory:
        """The one that all commands share."""
        return cls(cache_folder() / "hosts.json")

    def all(self) -> Mapping[str, Facts]:
        """By the machine's name; nothing where the file is missing, or another version wrote it."""
        try:
            read = json.loads(self.file.read_bytes())
            return {name: Facts(**{**each, "gpus": tuple(each["gpus"])}) for name, each in read.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def keep(self, seen: Mapping[str, Facts]) -> None:
        """These are what was seen last of these machines."""
        before = self.all()
        after = {**before, **seen}
        if after != before:
            # Somebody else may keep another machine's at the same moment: that one is asked again then.
            with contextlib.suppress(OSError):
                self.file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self.file, json.dumps({name: asdict(each) for name, each in after.items()}))
