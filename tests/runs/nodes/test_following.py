"""The one log of several machines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.node_spec import ports_of
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
