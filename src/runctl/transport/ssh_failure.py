"""What ssh's own words mean."""

from __future__ import annotations

import shlex
from pathlib import Path

from runctl.core.errors import CredentialsError, HostKeyChanged, RunctlError, Unreachable

SESSION_REFUSED = ("session open refused", "session request failed", "administratively prohibited")


def session_refused(log: str) -> bool:
    """Whether the server takes no further session on this connection (sshd's MaxSessions, 10 unless set)."""
    lowered = log.lower()
    return any(words in lowered for words in SESSION_REFUSED)


def classify(
    log: str, *, machine: str, alias: str, known_hosts: Path, identity: Path | None, one_time_key: bool
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
            f"{machine} refuses the login: {last}", hint=_login_hint(identity, one_time_key)
        )
    hint = "is the instance running, and does its security group allow port 22 from here? --transport ssm needs no port"
    return Unreachable(f"cannot reach {machine} over ssh: {last or 'ssh gave no reason'}", hint=hint)


def _login_hint(identity: Path | None, one_time_key: bool) -> str:
    if one_time_key:
        return (
            "the image needs EC2 Instance Connect (ec2-instance-connect) for this; "
            "use --transport ssm, or the instance's key pair"
        )
    if identity is not None:
        return (
            f"is {identity} the private key of the instance's key pair, and the login user the image's own?"
        )
    return "name the private key of the instance's key pair (aws.identity_file), or use --transport ssm"


def _last_line(log: str) -> str:
    lines = [line.strip().removeprefix("ssh: ") for line in log.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""
