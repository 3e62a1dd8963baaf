"""The one log of several machines."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.end_reason import EndReason
from runctl.agent.node_spec import ports_of
from runctl.agent.spec import EndRecord
from runctl.runs.nodes import following
from runctl.runs.nodes.following import LONGEST_LINE, LineCutter, merged_line
from runctl.runs.nodes.starting import node_specs


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_every_byte_is_in_one_line_and_a_lines_place_is_its_place_in_the_log(pieces: list[bytes]) -> None:
    lines: list[tuple[int, bytes]] = []
    cutter = LineCutter(1, lambda _, offset, line: lines.append((offset, line)))
    for piece in pieces:
        cutter.write(piece)
    cutter.finish()
    whole = b"".join(pieces)
    assert b"".join(line for _, line in lines) == whole
    assert all(whole[offset : offset + len(line)] == line for offset, line in lines)
    assert all(line.count(b"\n") <= 1 for _, line in lines)


def test_a_line_that_never_ends_is_shown_in_pieces() -> None:
    lines: list[bytes] = []
    cutter = LineCutter(0, lambda _rank, _offset, line: lines.append(line))
    cutter.write(b"x" * LONGEST_LINE)
    assert lines == [b"x" * LONGEST_LINE]


def test_a_merged_line_begins_with_its_rank() -> None:
    assert merged_line(12, b"epoch 3\n") == b"[12] epoch 3\n"


def test_all_machines_are_told_the_same_but_for_their_rank() -> None:
    addresses = ["10.0.0.4", "10.0.0.5"]
    specs = node_specs(addresses, "none", "run-a", 1, least=4, options=("-x",), secret="s")
    assert [spec.rank for spec in specs] == [0, 1]
    assert {spec.addresses for spec in specs} == {tuple(addresses)}
    assert {(spec.group_port, spec.engine_port) for spec in specs} == {ports_of("run-a", 1)}
    assert specs[0].enough == 2


@given(st.text(max_size=20), st.integers(1, 100))
def test_ports_are_below_those_that_connections_get(run_id: str, attempt: int) -> None:
    first, second = ports_of(run_id, attempt)
    assert 20000 <= first < second < 32768


STOPPED = EndRecord(EndReason.STOPPED, 5.0, caused_by=0, cause=EndReason.LOST, message="node 0 is silent")


class Machine:
    """One that is followed; with ``ends_after`` so many looks at it, or with an end from the beginning."""

    def __init__(self, rank: int, end: EndRecord | None, ends_after: int = 0) -> None:
        self.node, self._end, self._left = SimpleNamespace(rank=rank), end, ends_after

    def is_alive(self) -> bool:
        if self._end is None and self._left:
            self._left -= 1
            if not self._left:
                self._end = EndRecord(EndReason.COMPLETED, 9.0)
        return self._end is None

    @property
    def followed(self) -> Any:
        return None if self._end is None else SimpleNamespace(end=self._end)

    def join(self, _: float) -> None:
        pass


def wait(monkeypatch: pytest.MonkeyPatch, *machines: Machine, goes_on: bool = False) -> list[int]:
    """Those that are not waited for any more; each look takes ten seconds."""
    times = itertools.count(0.0, 10.0)
    monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=lambda: next(times)))
    followers: Any = machines
    following._wait(followers, lambda _: goes_on)
    return [each.node.rank for each in machines if each.is_alive()]


def test_rank_0_that_goes_on_is_waited_for_though_a_machine_that_cannot_reach_it_calls_it_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert wait(monkeypatch, Machine(0, None, ends_after=20), Machine(1, STOPPED), goes_on=True) == []


def test_rank_0_that_does_not_answer_is_lost_as_the_others_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wait(monkeypatch, Machine(0, None), Machine(1, STOPPED), Machine(2, STOPPED)) == [0]


@pytest.mark.parametrize("cause", [EndReason.FAILED, EndReason.TIME_LIMIT, EndReason.INTERRUPTED])
def test_a_machine_for_which_all_end_is_waited_for_while_it_saves(
    monkeypatch: pytest.MonkeyPatch, cause: EndReason
) -> None:
    told = EndRecord(EndReason.STOPPED, 5.0, caused_by=0, cause=cause)
    assert wait(monkeypatch, Machine(0, None, ends_after=20), Machine(1, told)) == []


def test_a_machine_without_which_the_run_has_gone_on_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = EndRecord(EndReason.COMPLETED, 5.0, gone=(2,))
    machines = (Machine(0, done), Machine(1, done), Machine(2, None))
    assert wait(monkeypatch, *machines, goes_on=True) == [2]
