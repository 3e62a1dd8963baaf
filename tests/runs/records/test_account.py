"""Another account's word on a machine that it does not show says nothing of the run on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.end_reason import EndReason
from runctl.core.config import Config
from runctl.core.database import Database
from runctl.core.errors import Conflict, CredentialsError, NotFound
from runctl.core.run_models import GroupPhase, RunPhase, UnattendedRun
from runctl.machines.session import Session
from runctl.providers.interface import Scope
from runctl.runs.asking import machine_of, refresh
from runctl.runs.nodes.asking import ask_nodes
from runctl.runs.records.node_records import KnownNode, KnownNodes
from runctl.runs.records.store import run_store
from runctl.runs.recovering.recover import recover_run
from runctl.runs.stopping import stop_run
from tests.runs.sample_runs import a_run

OURS, ANOTHER = "111111111111", "222222222222"


class Cloud:
    """A provider that shows nothing."""

    name = "aws"
    announces_interruptions = True
    region = "us-east-1"

    def __init__(self, account: str | None) -> None:
        self.account = account
        self.ended: list[str] = []

    def scope(self) -> Scope:
        if self.account is None:
            raise CredentialsError("no credentials")
        return Scope(self.account, self.region)

    def instance(self, identifier: str) -> Any:
        raise NotFound(f"no instance {identifier}")

    @property
    def groups(self) -> Any:
        return SimpleNamespace(
            find=lambda _run: None,
            machines=lambda _run: (),
            activities=lambda _run, _count: (),
            end=self._end,
        )

    def _end(self, run: str, _progress: object) -> list[str]:
        self.ended.append(run)
        return []


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(config=Config())
    database = Database(tmp_path / "state.db")
    session.__dict__["database"] = database
    yield session
    database.close()


def acting_for(session: Session, account: str | None) -> Cloud:
    cloud = Cloud(account)
    session.__dict__.update(_providers={"aws": cloud}, in_region=lambda _region: session)
    return cloud


@pytest.mark.parametrize(
    ("rented_in", "acts_for", "state"),
    [
        (OURS, OURS, RunPhase.ENDED),
        (OURS, ANOTHER, RunPhase.UNKNOWN),
        (OURS, None, RunPhase.UNKNOWN),
        (None, ANOTHER, RunPhase.ENDED),
    ],
)
def test_a_machine_is_lost_only_in_the_account_that_rented_it(
    session: Session, rented_in: str | None, acts_for: str | None, state: RunPhase
) -> None:
    acting_for(session, acts_for)
    record = a_run(account=rented_in)
    run_store(session).put(record)

    (now,) = refresh(session, [record])

    assert now.state is state
    assert run_store(session).get(record.id).has_ended is (state is RunPhase.ENDED)
    assert run_store(session).get(record.id).account == rented_in


def test_after_its_key_was_changed_a_provider_is_asked_all_the_same(session: Session) -> None:
    cloud = acting_for(session, "digest-of-the-new-key")
    cloud.scope = lambda: Scope("digest-of-the-new-key", home="runpod")  # type: ignore[method-assign]
    record = a_run(account=Scope("digest-of-the-old-key", home="runpod").rented_in)
    run_store(session).put(record)

    (now,) = refresh(session, [record])

    assert now.has_ended


def test_what_another_account_does_not_show_is_neither_stopped_nor_reached(session: Session) -> None:
    acting_for(session, ANOTHER)
    record = a_run(account=OURS)
    run_store(session).put(record)

    for act in (machine_of, stop_run):
        with pytest.raises(Conflict) as raised:
            act(session, record)
        assert raised.value.code == "other-account"
        assert OURS in raised.value.message

    assert run_store(session).get(record.id) == record


def test_a_run_is_recovered_only_for_the_account_that_pays_for_it(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    acting_for(session, ANOTHER)
    ended_at = datetime(2026, 5, 1, 13, tzinfo=UTC)
    record = a_run(
        account=OURS,
        state=RunPhase.ENDED,
        end_reason=EndReason.INTERRUPTED,
        ended_at=ended_at,
        started_at=ended_at,
    )
    run_store(session).put(record)

    with pytest.raises(Conflict, match=OURS):
        recover_run(session, record)


def test_a_group_that_another_account_does_not_show_goes_on(session: Session) -> None:
    cloud = acting_for(session, ANOTHER)
    group = UnattendedRun("runctl-run-aaaa", GroupPhase.HAS_MACHINE)
    record = a_run(account=OURS, unattended=group, store=None)
    run_store(session).put(record)

    (now,) = refresh(session, [record])

    assert now == record
    with pytest.raises(Conflict, match=OURS):
        stop_run(session, record)
    assert not cloud.ended
    assert run_store(session).get(record.id) == record


def test_machines_of_one_run_are_unknown_to_another_account(session: Session) -> None:
    acting_for(session, ANOTHER)
    record = a_run(account=OURS)
    nodes = KnownNodes(
        "none", "token", 2, tuple(KnownNode(rank, record.instance_id, "10.0.0.1", None) for rank in range(2))
    )

    asked = ask_nodes(session, replace(record, nodes=nodes))

    assert asked.state is RunPhase.UNKNOWN
    assert not asked.has_ended
