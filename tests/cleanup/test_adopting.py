"""A machine that is asked for its runs says nothing of those of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import AttemptStatus, EndRecord, RunState
from runctl.cleanup import adopting
from runctl.cleanup.adopting import Adoption
from runctl.core.database import Database
from runctl.providers.interface import Scope
from runctl.runs.records.store import RunStore
from tests.cli.fake_provider import an_instance
from tests.costs.entries import at
from tests.runs.sample_runs import a_record


def test_a_machine_does_not_end_the_run_of_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, warnings = RunStore(Database(tmp_path / "state.db")), list[str]()
    known = a_record("run-a", "i-a", "2026-06-01 12:00", None)
    store.put(known)
    completed = EndRecord(EndReason.COMPLETED, 0.0, exit_code=0)
    told = AttemptStatus("run-a", 1, RunState.ENDED, end=completed)
    agent = SimpleNamespace(attempts=lambda: (told, replace(told, run_id="run-b")))
    provider = SimpleNamespace(instance=an_instance, region=None, scope=Scope)
    session: Any = SimpleNamespace(
        in_region=lambda _: session,
        provider=lambda _: provider,
        progress=SimpleNamespace(warn=warnings.append),
    )
    monkeypatch.setattr(adopting, "run_store", lambda _: store)
    monkeypatch.setattr(
        adopting,
        "reach",
        lambda _, instance: SimpleNamespace(agent=agent, provider=provider, instance=instance),
    )
    adoption = object.__new__(Adoption)
    adoption._session, adoption.account = session, SimpleNamespace(now=at("2026-06-01 13:00"))  # type: ignore[assignment]

    found = adoption._runs_of(SimpleNamespace(region=None, provider="aws", id="i-b"))  # type: ignore[arg-type]

    assert found == ["run-b"]
    assert store.get("run-a") == known
    assert store.get("run-b").end_reason is EndReason.COMPLETED
    assert warnings == ["i-b says that it has run-a, which is on i-a"]
