"""A machine that is called for an attempt of several takes its part in it, and reads what that needs once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoints.folder_store import FolderStore
from runctl.agent.checkpoints.layout import end_key
from runctl.agent.encoding import dumps
from runctl.agent.end_reason import EndReason
from runctl.agent.node_spec import wanted_nodes
from runctl.agent.records import attempt_folder
from runctl.agent.spec import EndRecord, RunSpec
from runctl.agent.stored_run import RUN, SPEC, StoredRun
from runctl.agent.supervising.meeting import CALL, Answer, Call, Meeting, Met
from runctl.agent.supervising.membership import MEET_SECONDS, Membership
from runctl.agent.supervising.stored_ends import StoredEnds

ID = "run-1"
HEAD, OWN = Answer("i-head", "10.0.0.1"), Answer("i-own", "10.0.0.2")


def never() -> None:
    raise AssertionError("the attempt has ended")


def test_a_machine_reads_what_an_attempt_needs_once_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNCTL_AGENT_STATE", str(tmp_path / "state"))
    (tmp_path / "store").mkdir()
    store, read = FolderStore(tmp_path / "store"), list[str]()
    spec = RunSpec(ID, "train.py", machine_end=MachineEnd(), node=wanted_nodes("none", 2))
    store.put(SPEC, dumps(spec).encode())
    store.put(RUN, dumps(StoredRun()).encode())
    reads, started = FolderStore.read, list[Mapping[str, Any]]()

    def noted(self: FolderStore, key: str) -> bytes:
        read.append(key)
        return reads(self, key)

    def start(request: Mapping[str, Any]) -> None:
        started.append(request["spec"])
        folder = attempt_folder(ID, 1)
        folder.path.mkdir(parents=True)
        (folder.path / "spec.json").write_text(dumps(request["spec"]))
        folder.write_end(EndRecord(EndReason.COMPLETED, 1.0))

    monkeypatch.setattr(FolderStore, "read", noted)
    monkeypatch.setattr("runctl.agent.supervising.start.start", start)
    said = list[str]()
    head, own = Meeting(store, HEAD, said.append), Meeting(store, OWN, said.append)
    member = Membership(ID, OWN.instance_id, store, own, said.append)
    ends = StoredEnds(store, ID, said.append)

    for _ in range(3):
        assert member.part(ends, never) == MEET_SECONDS
    assert {SPEC, RUN} & set(read) == set()

    store.put(CALL, dumps(Call("call", HEAD.instance_id)).encode())
    for _ in range(3):
        assert member.part(ends, never) == MEET_SECONDS
    head.begin(Met("call", (HEAD, OWN)), 1)
    assert member.part(ends, never) == MEET_SECONDS

    assert (read.count(SPEC), read.count(RUN)) == (1, 1)
    assert [(each["attempt"], each["node"]["rank"], each["machine_end"]) for each in started] == [
        (1, 1, None)
    ]
    assert list(store.keys(end_key(1, 1))) == [end_key(1, 1)]
    # What is over is not begun again by the same call.
    assert member.part(ends, never) == MEET_SECONDS
    assert len(started) == 1
