"""Frames in pieces of any size; no byte lost, none twice."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.encoding import dumps
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import EndRecord, LogFrame, RunState
from runctl.core.errors import MachineError
from runctl.transport.log_reader import LogReader

ENDED = EndRecord(EndReason.COMPLETED, ended_at=1.0, exit_code=0)


def framed(offset: int, data: bytes, *, last: bool = False, end: EndRecord | None = None) -> bytes:
    state = RunState.ENDED if end else RunState.RUNNING
    return dumps(LogFrame(offset, len(data), state, end, last)).encode() + b"\n" + data


def reader(offset: int = 0) -> tuple[LogReader, bytearray, list[LogFrame]]:
    seen, beats = bytearray(), list[LogFrame]()
    return LogReader(offset, seen.extend, beats.append), seen, beats


@given(pieces=st.lists(st.binary(max_size=30)), cuts=st.lists(st.integers(0, 2000)))
def test_the_log_comes_out_whole_however_it_is_cut(pieces: list[bytes], cuts: list[int]) -> None:
    stream, offset = b"", 0
    for piece in pieces:
        stream += framed(offset, piece)
        offset += len(piece)
    stream += framed(offset, b"", last=True, end=EndRecord(EndReason.COMPLETED, 1.0, log_bytes=offset))
    log, seen, beats = reader()
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    for start, end in itertools.pairwise(places):
        log.feed(stream[start:end])
    assert (bytes(seen), log.offset, log.complete) == (b"".join(pieces), offset, True)
    assert len(beats) == pieces.count(b"")


@given(first=st.binary(min_size=1, max_size=50), second=st.binary(max_size=50), cut=st.integers(0, 300))
def test_after_a_break_it_goes_on_at_the_next_byte(first: bytes, second: bytes, cut: int) -> None:
    whole = first + second
    log, seen, _ = reader()
    log.feed(framed(0, whole)[:cut])
    log.restart()
    log.feed(framed(log.offset, whole[log.offset :]))
    assert bytes(seen) == whole


def test_bytes_that_were_seen_before_are_skipped() -> None:
    log, seen, _ = reader(offset=3)
    log.feed(framed(0, b"abcdef"))
    assert bytes(seen) == b"def"


def test_a_gap_is_an_error() -> None:
    log, _, _ = reader()
    with pytest.raises(MachineError) as caught:
        log.feed(framed(5, b"x"))
    assert caught.value.code == "log-gap"


def test_an_end_before_the_last_byte_is_an_error() -> None:
    log, _, _ = reader()
    end = EndRecord(EndReason.COMPLETED, 1.0, log_bytes=10)
    with pytest.raises(MachineError) as caught:
        log.feed(framed(0, b"abc") + framed(3, b"", last=True, end=end))
    assert caught.value.code == "log-incomplete"


def test_the_agents_error_is_raised_as_its_own() -> None:
    log, _, _ = reader()
    with pytest.raises(MachineError, match="no such run") as caught:
        log.feed(b'{"error":{"code":"unknown-run","message":"no such run","hint":"look"}}\n')
    assert (caught.value.code, caught.value.hint) == ("unknown-run", "look")


@pytest.mark.parametrize(
    "junk",
    [
        b"Welcome!\n",
        b"[]\n",
        b'{"offset":0}\n',
        b"x" * 70_000,
        b"[" * 60_000 + b"\n",
        b'{"offset":0,"length":-1,"state":"RUNNING"}\nabc',
        b'{"offset":-5,"length":3,"state":"RUNNING"}\nabc',
        b'{"offset":0,"length":true,"state":"RUNNING"}\nabc',
        b'{"offset":0,"length":1' + b"0" * 400 + b',"state":"RUNNING"}\nabc',
        b'{"offset":0,"length":0,"state":"ENDED","last":true,"end":{"reason":"COMPLETED","ended_at":1,"log_bytes":-1}}\n',
    ],
)
def test_what_is_no_frame_is_an_error(junk: bytes) -> None:
    log, _, _ = reader()
    with pytest.raises(MachineError) as caught:
        log.feed(junk)
    assert caught.value.code == "bad-answer"


def test_a_callback_that_raises_has_had_its_bytes() -> None:
    def refuse(data: bytes) -> None:
        raise LookupError

    log = LogReader(0, refuse, lambda _: None)
    with pytest.raises(LookupError):
        log.feed(framed(0, b"abc"))
    assert log.offset == 3
