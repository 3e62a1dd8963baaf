"""What is known of runs, for judging resources."""

from __future__ import annotations

from runctl.cleanup.knowledge import run_facts
from runctl.core.ids import InstanceId
from runctl.runs.records.node_records import KnownNode, KnownNodes
from tests.runs.sample_runs import a_record


def test_every_machine_of_a_run_is_known_to_be_the_runs() -> None:
    nodes = tuple(KnownNode(rank, InstanceId(f"i-{rank}"), f"10.0.0.{rank}") for rank in range(3))
    several = a_record("run-a", "i-0", "2026-05-01T12:00:00Z", None, nodes=KnownNodes("none", "t", 3, nodes))
    facts = run_facts(several)
    assert [fact.instance_id for fact in facts] == ["i-0", "i-1", "i-2"]
    assert {fact.id for fact in facts} == {several.id}
