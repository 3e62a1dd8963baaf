"""What is measured of machines, by themselves and from outside, and what is said of those that nobody measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest

from runctl.cleanup import knowledge, overview
from runctl.cleanup.facts import RunFact
from runctl.cleanup.overview import advice
from runctl.core.errors import Unreachable
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.inventory import Measurement, Measurements, Resource, ResourceKind, Unread
from runctl.providers.abilities.prices import FreePrices
from tests.cleanup.account import Account
from tests.cleanup.resources import a_resource
from tests.cleanup.test_machines_only import session_with
from tests.cli.fake_provider import FakeProvider, Script

MACHINE = a_resource(ResourceKind.INSTANCE, "i-1", age=None, state="running", market="spot", type="m5.large")
RUN = RunFact("run-0123456789", "i-1", frozenset(), None, goes_on=True, unfinished=True)
DENIED = Unread("aws", "us-east-1", "measurements", "you may not", "permission")


class Measured(Account):
    """An account whose provider has measured something."""

    def __init__(
        self, found: Mapping[str, Measurement], *resources: Resource, unread: Sequence[Unread] = ()
    ) -> None:
        super().__init__(*resources)
        self.measured = Measurements(found, tuple(unread))
        self.asked: list[str] = []

    def measurements(
        self, resources: Sequence[Resource], now: datetime, progress: Progress = SILENT
    ) -> Measurements:
        self.asked += [each.id for each in resources]
        return self.measured


@dataclass
class Seen:
    """What the advice was."""

    kinds: list[str]
    unread: tuple[Unread, ...]
    unmeasured: tuple[str, ...]


def advised(monkeypatch: pytest.MonkeyPatch, account: Measured, *runs: RunFact, measure: bool = True) -> Seen:
    provider: Any = FakeProvider(Script())
    provider.inventory, provider.prices = account, FreePrices("a test")
    session = session_with(monkeypatch, aws=provider)
    monkeypatch.setattr(
        overview, "gather", lambda *given: replace(knowledge.gather(*given), runs=tuple(runs))
    )

    def nobody(*_: object) -> None:
        raise Unreachable("it does not answer")

    monkeypatch.setattr(overview, "run_store", nobody)
    found = advice(session, measure=measure)
    return Seen([each.kind.value for each in found.insights], found.unread, found.unmeasured)


def test_a_machine_with_a_run_that_does_not_answer_is_judged_from_outside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = Measured({"i-1": Measurement(24, 10.0, 20.0)}, MACHINE)

    assert advised(monkeypatch, account, RUN) == Seen(["oversized"], (), ())


def test_where_nothing_is_measured_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Measured({}, MACHINE, unread=(DENIED,))

    seen = advised(monkeypatch, silent, RUN)

    assert seen == Seen([], (DENIED,), ("i-1 could not be asked what its run uses: it does not answer",))


def test_gpus_that_nobody_measures_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Measured({"i-1": Measurement(24, 1.0, 2.0, gpus=8)}, MACHINE)

    seen = advised(monkeypatch, account)

    assert seen == Seen([], (), ("nobody measures the GPUs of i-1: no run of this computer is on it",))


def test_without_measuring_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Measured({"i-1": Measurement(24, 1.0, 2.0)}, MACHINE)

    assert advised(monkeypatch, account, measure=False) == Seen([], (), ())
    assert account.asked == []
