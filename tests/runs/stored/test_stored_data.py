"""Which addresses are looked at for what runs keep there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from runctl.core.config import Config
from runctl.core.errors import CredentialsError
from runctl.costs.entries import EntryKind, EntryState
from runctl.costs.ledger import Ledger
from runctl.costs.rates import Per
from runctl.machines.session import Session
from runctl.providers import registry
from runctl.providers.interface import Scope
from runctl.runs.stored.stored_data import stores_of
from tests.cli.fake_provider import FakeProvider, Script
from tests.costs.entries import an_entry, interval

FORGOTTEN = "run-7kq2m9xd4t"


class Mine(FakeProvider):
    """Of one account; or nobody may ask whose it is."""

    error: CredentialsError | None = None

    def scope(self) -> Scope:
        if self.error is not None:
            raise self.error
        return Scope(account="mine", region="us-east-1")


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    provider: Any = Mine(Script())
    monkeypatch.setattr(registry, "load", lambda *_, **__: provider)
    with patch("runctl.core.files.state_file", return_value=tmp_path / "state.db"):
        session = Session(config=Config())
        ledger = Ledger(session.database)
        for address, run, changes in (
            (f"s3://bucket/runs/{FORGOTTEN}/", FORGOTTEN, {}),
            ("s3://bucket/runs/run-theirs0000/", "run-theirs0000", {"account": "theirs"}),
            ("s3://bucket/runs/run-gone000000/", "run-gone000000", {"state": EntryState.CLOSED}),
            ("runctl/digits@sha256:1 in us-east-1", None, {}),
        ):
            values: dict[str, Any] = {"account": "mine", "kind": EntryKind.STORAGE, "run_id": run, **changes}
            ledger.put(an_entry(address, interval("2026-06-01", None, "3", Per.MONTH), **values))
        yield session
        session.database.close()


def test_what_a_forgotten_run_has_left_is_looked_at_as_long_as_it_costs(session: Session) -> None:
    assert stores_of(session, "aws") == {f"s3://bucket/runs/{FORGOTTEN}": FORGOTTEN}


def test_where_nobody_tells_whose_account_it_is_nothing_is_added(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mine, "error", CredentialsError("there is no key"))
    assert stores_of(session, "aws") == {}
