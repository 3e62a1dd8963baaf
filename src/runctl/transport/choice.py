"""Which of a provider's transports is taken for a machine, and why: a function of what somebody else found out."""

from __future__ import annotations

from collections.abc import Sequence

from runctl._dataclasses import dataclass
from runctl.core.errors import Unreachable
from runctl.core.names import did_you_mean
from runctl.transport.ssh_programs import INSTALL, not_installed

AUTO = "auto"


@dataclass(frozen=True)
class Candidate:
    """A transport that the provider offers for a machine."""

    name: str
    reason: str
    """Why it works, for a person; shown under ``--verbose``."""
    obstacle: str = ""
    """Why it does not work; empty where it does."""
    hint: str = ""
    """What to do about the obstacle."""


@dataclass(frozen=True)
class Choice:
    """The transport that is taken."""

    name: str
    reason: str


@dataclass(frozen=True)
class NoChoice:
    """None works."""

    reasons: tuple[str, ...]
    """One for each transport that was considered."""
    hint: str

    def error(self, machine: str) -> Unreachable:
        """What to raise about it."""
        return Unreachable(f"cannot reach {machine}: {'; '.join(self.reasons)}", hint=self.hint)


def choose(requested: str, candidates: Sequence[Candidate]) -> Choice | NoChoice:
    """Take the first candidate that works. Pure.

    The order is the provider's. An explicit request is never answered with another transport.
    """
    if requested == AUTO:
        considered = list(candidates)
    else:
        considered = [candidate for candidate in candidates if candidate.name == requested]
    if not considered:
        names = (AUTO, *(candidate.name for candidate in candidates))
        hint = did_you_mean(requested, names) or f"it can be {', '.join(names)}"
        return NoChoice((f'unknown transport "{requested}"',), hint)
    obstacles = [f"{each.name}: {each.obstacle}" for each in considered]
    for index, candidate in enumerate(considered):
        if candidate.obstacle:
            continue
        if requested == AUTO:
            return Choice(candidate.name, "; ".join([candidate.reason, *obstacles[:index]]))
        return Choice(candidate.name, f"{requested} was asked for: {candidate.reason}")
    hints = [each.hint for each in reversed(considered) if each.hint]
    otherwise = "" if requested == AUTO else "leave --transport out to take whatever works"
    return NoChoice(tuple(obstacles), hints[0] if hints else otherwise)


@dataclass(frozen=True)
class SshFacts:
    """What is known of the way to a machine over SSH."""

    address: str | None
    """``None``: the machine has no address that can be reached from here."""
    port: int = 22
    port_open: bool | None = None
    """``None``: nobody has tried it."""
    key: str | None = None
    """Which key the machine lets in, such as "key file …"."""
    no_key: str = "no key is configured"
    """Why there is none."""
    closed_hint: str = "is the machine running, and does its firewall let SSH in from here?"
    """What to do where the port is closed."""
    missing: str | None = None
    """The program that SSH needs and this computer lacks."""


def ssh_candidate(facts: SshFacts) -> Candidate:
    """SSH with these facts. Pure."""
    answer = "answers" if facts.port_open else "is assumed to answer"
    reason = f"{facts.address} {answer} on port {facts.port}, and there is a key: {facts.key}"
    if facts.missing is not None:
        return Candidate("ssh", reason, not_installed(facts.missing), INSTALL)
    if facts.address is None:
        return Candidate("ssh", reason, "the machine has no address that can be reached from here")
    if facts.key is None:
        return Candidate("ssh", reason, facts.no_key, facts.closed_hint if facts.port_open is False else "")
    if facts.port_open is False:
        obstacle = f"{facts.address} does not answer on port {facts.port}"
        return Candidate("ssh", reason, obstacle, facts.closed_hint)
    return Candidate("ssh", reason)
