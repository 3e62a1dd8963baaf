"""What an account must have and allow before runctl can rent in it: policies, and what is made once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core.progress import SILENT, Progress


class SetupState(StrEnum):
    """How a part of the account is."""

    READY = "ready"
    MISSING = "missing"
    INCOMPLETE = "incomplete"
    """It is there, and not as it should be: an earlier call was cut short, or an older runctl has made it."""
    NOT_OURS = "not-ours"
    """Something else has its name. It is left alone."""
    IN_USE = "in-use"
    """It cannot be removed now."""


@dataclass(frozen=True)
class SetupPart:
    """One thing that is made once for the account."""

    kind: str
    """Such as ``bucket``."""
    name: str
    purpose: str
    """In words, with what it costs."""
    state: SetupState
    detail: str = ""
    """What is missing, or why it stays."""


@dataclass(frozen=True)
class SetupRequest:
    """What is wanted."""

    profile: bool = True
    bucket: bool = True
    alarm: Decimal | None = None
    """USD a month: somebody is told when the account spends more."""
    email: str | None = None
    """Who is."""


@dataclass(frozen=True)
class SetupPlan:
    """What is there, and what would be made or removed."""

    request: SetupRequest
    parts: tuple[SetupPart, ...]
    removes: bool = False

    @property
    def to_do(self) -> tuple[SetupPart, ...]:
        """Those that are not yet as they should be."""
        if self.removes:
            return tuple(
                part for part in self.parts if part.state in (SetupState.READY, SetupState.INCOMPLETE)
            )
        return tuple(part for part in self.parts if part.state in (SetupState.MISSING, SetupState.INCOMPLETE))


@dataclass(frozen=True)
class PolicyStatement:
    """One statement of a policy, and the commands that fail without it."""

    name: str
    actions: Sequence[str]
    commands: Sequence[str]


class AccountSetup(ABC):
    """The ability to say what an account must allow, and to make in it what is made once."""

    policies: tuple[str, ...] = ()
    """Whom policies are for; the first is whoever calls runctl."""

    @abstractmethod
    def policy(self, whose: str, without: Sequence[str] = ()) -> Mapping[str, Any]:
        """The least-privilege policy, as the provider takes it, but for statements that are left out by their names.

        Raises `UsageError` for a name that none has.
        """

    def policy_parts(self, whose: str, without: Sequence[str] = ()) -> tuple[Mapping[str, Any], ...]:
        """The same in documents that are short enough for the provider. Raises `UsageError`."""
        return (self.policy(whose, without),)

    @abstractmethod
    def statements(self, whose: str, without: Sequence[str] = ()) -> tuple[PolicyStatement, ...]:
        """Why each statement is in it. Raises `UsageError`."""

    @abstractmethod
    def plan(self, request: SetupRequest) -> SetupPlan:
        """What is there of it, and what is not. Changes nothing. Raises `UsageError`."""

    @abstractmethod
    def create(self, plan: SetupPlan, progress: Progress = SILENT) -> SetupPlan:
        """All that was wanted is there, tagged; what was cut short is finished. Raises `PermissionDenied`."""

    @abstractmethod
    def plan_removal(self) -> SetupPlan:
        """What `create` has made and is there still."""

    @abstractmethod
    def remove(self, plan: SetupPlan, progress: Progress = SILENT) -> SetupPlan:
        """It is gone, but for what is in use or is not ours; the plan returned says so."""
