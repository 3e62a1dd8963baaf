"""What docker says when a build, a push or a login fails, in our words. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runctl.core.errors import (
    CredentialsError,
    MachineError,
    NotFound,
    PermissionDenied,
    ProjectError,
    RunctlError,
    Unreachable,
)

_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_NO_ENGINE = re.compile(r"cannot connect to the docker daemon|docker daemon is not running", re.IGNORECASE)
_EXPIRED = re.compile(r"token has expired|expired token", re.IGNORECASE)
_DENIED = re.compile(r"\bdenied\b|\b403\b|not authorized to perform|insufficient_scope", re.IGNORECASE)
_LOGIN = re.compile(r"no basic auth credentials|unauthorized|authentication required|\b401\b", re.IGNORECASE)
_NO_REPOSITORY = re.compile(
    r"name unknown|repository .* does not exist|repository .* not found", re.IGNORECASE
)
_SILENT = re.compile(
    r"connection refused|no such host|i/o timeout|no route to host|network is unreachable|connection reset"
    r"|TLS handshake timeout|pinging v2 registry|server gave HTTP response to HTTPS client|\bEOF\b"
    r"|503 service unavailable|502 bad gateway",
    re.IGNORECASE,
)
_NO_STAGE = re.compile(r"target stage .* could not be found|failed to reach build target", re.IGNORECASE)


def general_failure(said: str) -> RunctlError | None:
    """The engine is gone, or its disk full; ``None`` for anything else."""
    if _FULL.search(said):
        return MachineError(
            f"the Docker engine's disk is full: {last_line(said, _FULL)}",
            hint="free some space: docker builder prune, docker image prune, or give Docker a larger disk",
            code="disk-full",
        )
    if _NO_ENGINE.search(said):
        return MachineError(
            f"the Docker engine does not answer: {last_line(said, _NO_ENGINE)}",
            hint="start Docker; docker version shows whether it answers",
            code="no-engine",
        )
    return None


def build_failure(tail: Sequence[str], exit_code: int) -> RunctlError:
    """A build that failed; the message ends with what docker said."""
    said = "\n".join(tail)
    general = general_failure(said)
    if general is not None:
        return general
    excerpt = "\n".join(f"  {line}" for line in tail[-12:])
    hint = "correct what the last lines say, and build again: what was built so far is kept"
    if _NO_STAGE.search(said):
        hint = "runctl docker detect shows the stages that --target can name"
    return ProjectError(
        f"the image could not be built (docker build ended with {exit_code}):\n{excerpt}",
        hint=hint,
        code="build-failed",
    )


def registry_failure(said: str, reference: str, doing: str) -> RunctlError:
    """A push, a pull, a login or a look at a registry that failed."""
    general = general_failure(said)
    if general is not None:
        return general
    last = said.strip().splitlines()[-1] if said.strip() else "docker said nothing"
    message = f"{doing} {reference}: {last}"
    host = reference.partition("/")[0]
    if _EXPIRED.search(said):
        return CredentialsError(
            f"the registry's token has expired: {message}",
            hint="run the command again: it asks for a new one",
            code="expired-credentials",
        )
    if _NO_REPOSITORY.search(said):
        return NotFound(message, hint="create the repository first", code="no-repository")
    if _LOGIN.search(said) or (_DENIED.search(said) and "/" not in reference):
        return CredentialsError(
            f"the registry does not let you in: {message}", hint=f"docker login {host}", code="registry-login"
        )
    if _DENIED.search(said):
        return PermissionDenied(
            f"not allowed: {message}", hint=f"ask for the right to push to {reference.rpartition(':')[0]}"
        )
    if _SILENT.search(said):
        return Unreachable(
            f"the registry does not answer: {message}",
            hint="check the network and the registry's name ([docker] registry)",
            code="registry-unreachable",
        )
    return MachineError(message, code="registry-failed")


def last_line(said: str, pattern: re.Pattern[str]) -> str:
    """The last line that the pattern is in."""
    return next(line.strip() for line in reversed(said.splitlines()) if pattern.search(line))
