"""Every error that runctl raises on purpose.

::

    RunctlError                     exit code 1
    ├── UsageError                  2   the command line says something that cannot be meant
    ├── ConfigError                 3   a configuration file or variable is wrong
    ├── CredentialsError            4   who you are is unknown, expired or refused
    │   └── PermissionDenied        4   known, but not allowed to do this
    ├── NotFound                    5   no such instance, volume, run, file, image
    ├── CapacityError               6   the provider has no such machine now
    │   └── QuotaExceeded           6   the account may not have more of them
    ├── Unreachable                 7   the machine, or the provider, does not answer
    │   ├── HostKeyChanged          7   another machine answers
    │   ├── HostKeyUnknown          7   nothing vouches for the machine's key, and that was asked for
    │   └── OutcomeUnknown          7   the request was sent, the answer lost: it may have been carried out
    ├── InstanceEnded               7   the provider says that the machine has ended
    ├── Conflict                    1   it exists already, is in use, or is in the wrong state
    │   └── ZoneMismatch            1   the volume and the instance are in different zones
    ├── Unsupported                 1   this provider, transport or machine cannot do that, and says why
    ├── ProviderError               1   the provider refused, in its own words
    ├── ProjectError                1   the project on this disk cannot be sent as it is
    ├── MachineError                1   the agent on the machine refused or failed
    └── Interrupted                 130 Ctrl-C; says what exists and how to go on

A message says what happened to what. ``hint`` is what to do next, a command where there is one. ``code`` is
stable and appears in JSON. Exit codes are documented in docs/exit-codes.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class RunctlError(Exception):
    """Base of all; catch this to catch everything that runctl raises on purpose."""

    code = "error"
    exit_code = 1
    rented_on = ""
    """The market on which something had been rented, and paid for, when it came to this; it was given back."""

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def reword(self, message: str) -> None:
        """It says this instead."""
        self.message = message
        self.args = (message,)

    def add_hint(self, hint: str) -> None:
        """This may be done as well, or is to be known, after what it says."""
        self.hint = "; ".join(part for part in (self.hint, hint) if part)


ASKED_TOO_OFTEN = "throttled"
"""The ``code`` of the refusal of a provider, or a store, that was asked too often."""


def passes_by_itself(error: RunctlError) -> bool:
    """Whether who was asked may well answer a moment later: it could not be reached, or was asked too often. Pure."""
    return isinstance(error, Unreachable) or error.code == ASKED_TOO_OFTEN


def add_fact(error: BaseException, fact: str, hint: str = "") -> None:
    """The error says this as well, after its own message; the hint comes before its own."""
    if not isinstance(error, RunctlError):
        error.add_note(fact)
        return
    error.reword(f"{error.message}; {fact}")
    error.hint = "; ".join(part for part in (hint, error.hint) if part)


class UsageError(RunctlError):
    """The command line says something that cannot be meant."""

    code = "usage"
    exit_code = 2


class ConfigError(RunctlError):
    """A configuration file or variable is wrong; the message names file, line and key."""

    code = "config"
    exit_code = 3


class CredentialsError(RunctlError):
    """There are no credentials, or they are expired or refused."""

    code = "credentials"
    exit_code = 4


class PermissionDenied(CredentialsError):
    """The credentials are good, but may not do this; the message names the action."""

    code = "permission"


class NotFound(RunctlError):
    """There is no such instance, volume, run, file or image."""

    code = "not-found"
    exit_code = 5


class CapacityError(RunctlError):
    """The provider has no such machine at the moment, there."""

    code = "no-capacity"
    exit_code = 6


class QuotaExceeded(CapacityError):
    """The account may not have more of them."""

    code = "quota"


class BudgetExceeded(RunctlError):
    """A budget of the configuration would be exceeded; nothing was rented."""

    code = "over-budget"


class Unreachable(RunctlError):
    """The machine or the provider does not answer. It may well be running: this is never read as "gone"."""

    code = "unreachable"
    exit_code = 7


class HostKeyChanged(Unreachable):
    """The machine that answers is not the one that answered before."""

    code = "host-key-changed"


class HostKeyUnknown(Unreachable):
    """Nothing that can be trusted says which key the machine has, and that was asked for."""

    code = "host-key-unknown"


class OutcomeUnknown(Unreachable):
    """A request was sent and its answer lost. It may have been carried out: look before it is sent again."""

    code = "outcome-unknown"

    def __init__(self, message: str, *, hint: str = "", may_still_happen: bool = False) -> None:
        super().__init__(
            message,
            hint=hint or "check what exists now (list) before you try again",
        )
        self.may_still_happen = may_still_happen
        """Nothing was heard for so long that it may be carried out after we have looked."""


class InstanceEnded(RunctlError):
    """The provider says that the machine has ended: not to be confused with `Unreachable`."""

    code = "instance-ended"
    exit_code = 7

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        interrupted: bool = False,
        at: datetime | None = None,
        by_itself: bool = False,
        forgotten: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.interrupted = interrupted
        """The provider took it back (a spot interruption)."""
        self.by_itself = by_itself
        """It was shut down from inside, by the provider's word."""
        self.forgotten = forgotten
        """The provider knows nothing of it any more, so neither how it ended."""
        self.at = at
        """When it ended, by the provider's clock; ``None`` where the provider does not say."""


class Conflict(RunctlError):
    """It exists already, is in use, or is in a state in which this cannot be done."""

    code = "conflict"


class ZoneMismatch(Conflict):
    """The volume and the instance are in different availability zones."""

    code = "zone-mismatch"

    def __init__(self, volume: str, volume_zone: str, instance_zone: str, *, hint: str = "") -> None:
        super().__init__(
            f"volume {volume} is in {volume_zone}, the instance in {instance_zone}",
            hint=hint
            or f"create the instance with --zone {volume_zone}, or move the volume to {instance_zone}",
        )


class Unsupported(RunctlError):
    """This provider, transport or machine cannot do that; the message says why."""

    code = "unsupported"


class ProviderError(RunctlError):
    """The provider refused, in its own words."""

    code = "provider"


class ProjectError(RunctlError):
    """The project on this disk cannot be sent or run as it is."""

    code = "project"


class MachineError(RunctlError):
    """The agent on the machine refused or failed; ``code`` is the agent's own."""

    code = "machine"


class Interrupted(RunctlError):
    """Ctrl-C. The message says what exists now, the hint how to go on or undo."""

    code = "interrupted"
    exit_code = 130
