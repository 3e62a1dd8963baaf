"""What ssh's own words mean."""

from __future__ import annotations

import shlex
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.core.errors import CredentialsError, HostKeyChanged, RunctlError, Unreachable


@dataclass(frozen=True)
class SshHints:
    """What to do when SSH fails, as whoever gives the machine knows it."""

    unreachable: str = "is the machine running, and does its firewall let SSH in from here?"
    one_time_key: str = "the machine refuses keys that are made for one connection"
    key_refused: str = "is {identity} a private key that the machine lets in, and the login user right?"
    """With ``{identity}``, the key file."""
    no_key: str = "name the private key that the machine lets in"
    unknown_host_key: str = "add the machine's key to the known hosts, or do without the strict check"


SESSION_REFUSED = ("session open refused", "session request failed", "administratively prohibited")


def session_refused(log: str) -> bool:
    """Whether the server takes no further session on this connection (sshd's MaxSessions, 10 unless set)."""
    lowered = log.lower()
    return any(phrase in lowered for phrase in SESSION_REFUSED)


def classify(
    log: str,
    *,
    machine: str,
    alias: str,
    known_hosts: Path,
    identity: Path | None,
    one_time_key: bool,
    hints: SshHints,
) -> RunctlError:
    """The error that a failed connection is. ``log`` is what ssh wrote with ``-E``, nothing else in it."""
    lowered = log.lower()
    last = _last_line(log)
    if "remote host identification has changed" in lowered or "host key verification failed" in lowered:
        return HostKeyChanged(
            f"{machine} answers with another host key than {alias} had before",
            hint="if it really was rebuilt: "
            + shlex.join(["ssh-keygen", "-R", alias, "-f", str(known_hosts)]),
        )
    if "unprotected private key file" in lowered:
        return CredentialsError(
            f"ssh does not use {identity}: others may read it",
            hint=shlex.join(["chmod", "600", str(identity)]),
        )
    if "permission denied" in lowered or "too many authentication failures" in lowered:
        return CredentialsError(
            f"{machine} refuses the login: {last}", hint=_login_hint(identity, one_time_key, hints)
        )
    why = last or "ssh gave no reason"
    return Unreachable(f"cannot reach {machine} over ssh: {why}", hint=hints.unreachable)


def _login_hint(identity: Path | None, one_time_key: bool, hints: SshHints) -> str:
    if one_time_key:
        return hints.one_time_key
    return hints.no_key if identity is None else hints.key_refused.format(identity=identity)


def _last_line(log: str) -> str:
    lines = [line.strip().removeprefix("ssh: ") for line in log.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""
