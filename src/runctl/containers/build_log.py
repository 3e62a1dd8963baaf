"""What BuildKit says in plain progress, read as steps: which came from the cache, and which one failed."""

from __future__ import annotations

import re
from dataclasses import field

from runctl._dataclasses import dataclass

_LINE = re.compile(r"#(\d+) (.*)")
_STEP = re.compile(r"\[(?:\S+/\S*[^\W\d]\S* )?(?:(?P<stage>[^\s\]/]+) +)?(?P<number>\d+)/\d+\] (?P<text>.*)")
_NOISE = re.compile(
    r"sha256:[0-9a-f]{64}(?: .*)?|\.\.\.|CACHED|DONE [\d.]+s|transferring .*|resolve .*|extracting .*"
)
_FRAME = re.compile(r"-{3,}| > importing cache manifest from .*")
"""Around what is said once more at the end; a cache that is not there yet is said there too."""
_FAILED_TAIL = 40


@dataclass
class Step:
    """One vertex of the build."""

    stage: str | None
    """The stage's name, ``stage-N`` without one, ``None`` where there is only one stage."""
    number: int
    text: str
    """The instruction, with its variables as docker shows them."""
    cached: bool = False
    done: bool = False
    failed: bool = False


@dataclass
class BuildLog:
    """A build while it is read, line by line."""

    steps: dict[int, Step] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)
    """The last lines, whatever they are."""
    _names: dict[int, str] = field(default_factory=dict)

    def feed(self, line: str) -> str | None:
        """Take a line in; the line for a person, or ``None`` where it says nothing that matters to one."""
        line = line.rstrip()
        if not line:
            return None
        self.tail = [*self.tail[1 - _FAILED_TAIL :], line]
        found = _LINE.fullmatch(line)
        if found is None:
            return None if _FRAME.fullmatch(line) else line
        number, said = int(found.group(1)), found.group(2)
        step = _STEP.fullmatch(said)
        if step is not None:
            known = number not in self.steps
            found_step = Step(step["stage"], int(step["number"]), step["text"])
            self.steps.setdefault(number, found_step)
            return said if known else None
        if said.startswith("["):
            self._names.setdefault(number, said)
            return None
        return self._about(number, said)

    def _about(self, number: int, said: str) -> str | None:
        about = self.steps.get(number)
        if about is not None and said == "CACHED":
            about.cached = True
            return None if about.text.startswith("FROM ") else f"  from the cache: {about.text}"
        if about is not None and said.startswith("DONE"):
            about.done = True
            return None
        if said.startswith("ERROR"):
            if about is not None:
                about.failed = True
            # A cache that is not there yet is no error.
            if about is not None or "cache manifest" not in self._names.get(number, ""):
                self.errors.append(said)
                return said
            return None
        if said.startswith(("importing cache", "exporting", "pushing")):
            self._names.setdefault(number, said)
            return None
        if about is None or _NOISE.fullmatch(said):
            return None
        return f"  {said}"

    @property
    def ordered(self) -> tuple[Step, ...]:
        """The steps by stage and place."""
        return tuple(self.steps[number] for number in sorted(self.steps))
