"""Runs that are watched until they have ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runctl.core.errors import Interrupted
from runctl.core.progress import SILENT
from runctl.runs.recovering import watching
from runctl.runs.recovering.recover import BeingRecovered


def test_whoever_stops_watching_is_told_how_to_watch_the_same_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def recovered_elsewhere(*_: object, **__: object) -> None:
        raise BeingRecovered("another command recovers it")

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "recover_run", recovered_elsewhere)
    monkeypatch.setattr(watching, "run_store", lambda _: SimpleNamespace(get=str))
    session: Any = SimpleNamespace(progress=SILENT)
    records: Any = [SimpleNamespace(id="run-a"), SimpleNamespace(id="run-b")]
    clock: Any = SimpleNamespace(sleep=interrupted)

    with pytest.raises(Interrupted) as stopped:
        watching.watch_runs(session, records, clock=clock)

    assert stopped.value.hint == "runctl runs watch run-a run-b takes it up again"
