"""What is known of runs, for judging resources."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from runctl.cleanup.knowledge import gather, run_facts
from runctl.core.config import Config
from runctl.core.errors import Unsupported
from runctl.core.ids import InstanceId
from runctl.core.journal import Journal
from runctl.machines.session import Session
from runctl.providers import registry
from runctl.providers.abilities.inventory import Listing
from runctl.providers.abilities.inventory import ResourceKind as K
from runctl.runs.records.node_records import KnownNode, KnownNodes
from tests.cleanup.resources import a_resource
from tests.runs.sample_runs import a_record


def test_every_machine_of_a_run_is_known_to_be_the_runs() -> None:
    nodes = tuple(KnownNode(rank, InstanceId(f"i-{rank}"), f"10.0.0.{rank}") for rank in range(3))
    several = a_record("run-a", "i-0", "2026-05-01T12:00:00Z", None, nodes=KnownNodes("none", "t", 3, nodes))
    facts = run_facts(several)
    assert [fact.instance_id for fact in facts] == ["i-0", "i-1", "i-2"]
    assert {fact.id for fact in facts} == {several.id}


def test_whose_machines_can_be_stopped_is_known_of_every_provider_that_has_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abilities = {
        "aws": SimpleNamespace(keeps_disks=True),
        "runpod": SimpleNamespace(keeps_disks=False),
        "lyceum": Unsupported("no machine can be stopped"),
    }
    monkeypatch.setattr(
        registry,
        "load",
        lambda name, *_, **__: SimpleNamespace(stop_and_start=abilities[name], journal=Journal()),
    )
    machines = [a_resource(K.INSTANCE, f"i-{name}", provider=name) for name in abilities]
    volume = a_resource(provider="nobody-asks-it")
    with patch("runctl.core.files.state_file", return_value=tmp_path / "state.db"):
        session = Session(config=Config())
        facts = gather(session, {}, Listing((*machines, volume)))
        session.database.close()

    assert facts.cannot_stop == {"lyceum": "no machine can be stopped"}
    assert facts.loses_disks == {"runpod"}
