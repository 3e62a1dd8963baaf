"""Whom the ledger is compared with, and what is said of those who could not be asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from runctl.core.config import Config
from runctl.core.errors import ConfigError, CredentialsError
from runctl.core.progress import Progress
from runctl.machines.session import Session
from runctl.machines.settling import first_seen, settle
from runctl.providers import registry
from tests.cli.fake_provider import FakeProvider, Script, a_volume
from tests.costs.entries import at


class Rents(FakeProvider):
    """It has nothing; or nobody may ask it."""

    def __init__(self, error: CredentialsError | None = None) -> None:
        super().__init__(Script({"volumes": (), "snapshots": ()}))
        self.error = error

    def instances(self, **_: Any) -> tuple[()]:
        if self.error is not None:
            raise self.error
        return ()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with patch("runctl.core.files.state_file", return_value=tmp_path / "state.db"):
        session = Session(config=Config())
        assert session.database.path == tmp_path / "state.db"
        yield session
        session.database.close()


def having(monkeypatch: pytest.MonkeyPatch, **providers: Any) -> None:
    def load(name: str, _config: Config, progress: Progress) -> Any:
        del progress
        if isinstance(providers[name], Exception):
            raise providers[name]
        providers[name].name = name
        return providers[name]

    monkeypatch.setattr(registry, "load", load)
    monkeypatch.setattr("runctl.machines.settling.names", lambda: tuple(providers))


def test_a_provider_without_an_account_is_not_mentioned_where_another_answers(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    having(monkeypatch, one=Rents(), other=Rents(CredentialsError("there is no key")))

    assert settle(session).problems == ()


def test_where_nobody_can_be_asked_nothing_is_taken_for_empty(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyless = Rents(CredentialsError("there is no key"))
    having(monkeypatch, one=ConfigError("no region is set"), other=keyless)

    assert settle(session).problems == (
        "nobody could be asked what there is: one: no region is set; other: there is no key",
    )


def test_a_volume_is_as_old_as_this_computer_has_known_it_and_the_others_are_known_from_now_on(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Rents()
    having(monkeypatch, one=provider)
    record = session.ledger_record("one")
    old, new = a_volume("vol-1", created_at=None), a_volume("vol-2", created_at=None)
    record.seen_volume(old, at("2026-06-01"))
    provider.script.answers["volumes"] = (old, new)

    assert first_seen(record, ["vol-1"], at("2026-06-02")) == {"vol-1": at("2026-06-01")}
    assert provider.script.calls == [], "what is known already is not asked for"
    assert first_seen(record, ["vol-1", "vol-2"], at("2026-06-02")) == {
        "vol-1": at("2026-06-01"),
        "vol-2": at("2026-06-02"),
    }
    assert first_seen(record, ["vol-1", "vol-2"], at("2026-06-03"))["vol-2"] == at("2026-06-02")
