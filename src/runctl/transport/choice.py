"""Which way to a machine is taken, and why: a function of facts that somebody else gathered."""

from __future__ import annotations

from dataclasses import dataclass

from runctl.core.errors import Unreachable
from runctl.core.names import did_you_mean

NAMES = ("auto", "ssh", "ssm", "local")


@dataclass(frozen=True)
class SshFacts:
    """What is known of a way over SSH."""

    address: str | None
    """``None``: the machine has no address that we could reach."""
    port: int = 22
    port_open: bool | None = None
    """``None``: nobody looked."""
    key: str | None = None
    """What opens the door, in words: "key file …", "EC2 Instance Connect"."""
    no_key: str = "no key file is configured and EC2 Instance Connect is not available"
    """Why there is none."""


@dataclass(frozen=True)
class SsmFacts:
    """What is known of a way over Systems Manager."""

    ping: str | None
    """PingStatus of DescribeInstanceInformation: ``Online``, ``ConnectionLost``, ``Inactive``; ``None``: the
    machine's SSM agent has not registered."""
    problem: str = ""
    """Why SSM could not be asked, in words; then ``ping`` means nothing."""


@dataclass(frozen=True)
class Choice:
    """The way that is taken."""

    name: str
    reason: str
    """In words for a person, shown under ``--verbose``."""


@dataclass(frozen=True)
class NoChoice:
    """None works."""

    requested: str
    reasons: tuple[str, ...]
    """One for each way that was considered."""
    hint: str

    def error(self, machine: str) -> Unreachable:
        """What to raise about it."""
        return Unreachable(f"there is no way to {machine}: {'; '.join(self.reasons)}", hint=self.hint)


def choose(
    requested: str, *, ssh: SshFacts | None = None, ssm: SsmFacts | None = None, this_computer: bool = False
) -> Choice | NoChoice:
    """Decide. ``None`` for a way says that the provider does not have it.

    SSH comes first: it streams. An explicit request is never answered with another way.
    """
    if requested not in NAMES:
        hint = did_you_mean(requested, NAMES) or f"it can be {', '.join(NAMES)}"
        return NoChoice(requested, (f'there is no transport "{requested}"',), hint)
    against = {
        "local": "" if this_computer else "local: the machine is not this computer",
        "ssh": _against_ssh(ssh),
        "ssm": _against_ssm(ssm),
    }
    considered = ["local", "ssh", "ssm"] if requested == "auto" else [requested]
    if requested == "auto" and not this_computer:
        considered.remove("local")
    for name in considered:
        if not against[name]:
            passed_over = [against[other] for other in considered[: considered.index(name)]]
            return Choice(name, _reason(name, requested, ssh, passed_over))
    return NoChoice(requested, tuple(against[name] for name in considered), _hint(requested, ssh, ssm))


def _against_ssh(facts: SshFacts | None) -> str:
    if facts is None:
        return "ssh: the provider does not offer it"
    if facts.address is None:
        return "ssh: the machine has no address that can be reached from here"
    if facts.key is None:
        return f"ssh: {facts.no_key}"
    if facts.port_open is False:
        return f"ssh: {facts.address} does not answer on port {facts.port}"
    return ""


def _against_ssm(facts: SsmFacts | None) -> str:
    if facts is None:
        return "ssm: the provider does not offer it"
    if facts.problem:
        return f"ssm: {facts.problem}"
    if facts.ping is None:
        return "ssm: the machine's SSM agent has not registered"
    if facts.ping != "Online":
        return f"ssm: the machine's SSM agent is not online ({facts.ping})"
    return ""


def _reason(name: str, requested: str, ssh: SshFacts | None, passed_over: list[str]) -> str:
    words = {
        "local": "the machine is this computer",
        "ssm": "the machine's SSM agent is online",
        "ssh": "",
    }[name]
    if name == "ssh" and ssh is not None:
        answer = "answers" if ssh.port_open else "is assumed to answer"
        words = f"{ssh.address} {answer} on port {ssh.port}, and there is a key: {ssh.key}"
    if requested != "auto":
        return f"{name} was asked for: {words}"
    return "; ".join([words, *passed_over])


def _hint(requested: str, ssh: SshFacts | None, ssm: SsmFacts | None) -> str:
    if requested == "local":
        return "leave --transport out"
    if requested != "ssh" and ssm is not None and ssm.ping is None and not ssm.problem:
        return (
            "a new machine needs a minute; after that: does it have an instance profile with "
            "AmazonSSMManagedInstanceCore and a way to the internet?"
        )
    if requested != "ssm" and ssh is not None and ssh.port_open is False:
        return "a new machine needs a minute; after that: does its security group allow the port from here?"
    return "" if requested == "auto" else "leave --transport out to take whatever works"
